// Text from a model, token by token, with head 1.
import { ForetokenError } from "../errors.js";
import { checkTokens, type LanguageModel } from "../mtp/model.js";
import { sample } from "../ops/sample.js";
import { detach, scope } from "../scope.js";
import { tensor, type Tensor } from "../tensor.js";
import { resolveGenerateOptions, type GenerateOptions, type GenerateSettings } from "./options.js";
import { DecodeSession, type Row } from "./session.js";
import { StopFilter } from "./stop.js";

export interface GeneratedToken {
  readonly token: number;
  /** The head that proposed it. */
  readonly head: number;
  /** Natural log, under head 1's untempered distribution. */
  readonly logProbability: number;
}

/**
 * Tokens that follow the prompt, one by one, until the tokenizer's eos, maxNewTokens or the end of the context.
 * Throws BAD_ARGUMENT for a prompt that is empty or longer than the context, NO_TOKENIZER for text without one, ABORTED.
 *
 * @example
 * for await (const { token } of generateTokens(model, [102, 117, 110], { maxNewTokens: 20 })) console.log(token);
 */
export async function* generateTokens(
  model: LanguageModel,
  prompt: string | readonly number[] | Int32Array,
  options: GenerateOptions = {},
): AsyncGenerator<GeneratedToken, void, undefined> {
  const settings = resolveGenerateOptions(options);
  const tokens = promptTokens(model, prompt);
  const capacity = Math.min(model.config.maxPositions, tokens.length + settings.maxNewTokens);
  if (settings.maxNewTokens === 0) return;
  const session = new DecodeSession(model, 1, capacity);
  try {
    let rows: Row[] = Array.from(tokens, (token, position) => ({ token, sequence: 0, position }));
    for (let position = tokens.length; position <= capacity; position++) {
      if (settings.signal?.aborted) throw new ForetokenError("ABORTED", "generation was cancelled", { op: "generate" });
      const drawn = await next(model, session, rows, settings);
      if (drawn.token === model.tokenizer?.eosToken) return;
      yield drawn;
      if (position - tokens.length + 1 >= settings.maxNewTokens) return;
      rows = [{ token: drawn.token, sequence: 0, position }];
    }
  } finally {
    session.dispose();
  }
}

/**
 * Text that follows the prompt, in pieces that end at complete characters, until eos, a stop string (which is left out),
 * maxNewTokens or the end of the context.
 *
 * @example
 * for await (const text of generate(model, "export function ", { maxNewTokens: 200 })) process.stdout.write(text);
 */
export async function* generate(
  model: LanguageModel,
  prompt: string,
  options: GenerateOptions = {},
): AsyncGenerator<string, void, undefined> {
  const { stop } = resolveGenerateOptions(options);
  const text = tokenizerOf(model).createTextStream();
  const filter = new StopFilter(typeof stop === "string" ? [stop] : stop);
  for await (const { token } of generateTokens(model, prompt, options)) {
    const piece = filter.push(text.push(token));
    if (piece !== "") yield piece;
    if (filter.stopped) return;
  }
  const rest = filter.push(text.flush()) + filter.flush();
  if (rest !== "") yield rest;
}

/** Reads the rows in chunks and draws the token that follows the last. */
async function next(
  model: LanguageModel,
  session: DecodeSession,
  rows: readonly Row[],
  settings: GenerateSettings,
): Promise<GeneratedToken> {
  const drawn = scope(() => {
    let logits: Tensor | undefined;
    for (let start = 0; start < rows.length; start += settings.promptChunk) {
      const chunk = rows.slice(start, start + settings.promptChunk);
      logits?.dispose();
      logits = session.read(chunk, [chunk.length - 1]);
    }
    const last = rows.at(-1);
    if (!logits || !last) throw new RangeError("no rows to read");
    const { device } = model;
    const settingsRow = tensor(Float32Array.of(settings.temperature, settings.topK, settings.topP), {
      dtype: "f32",
      device,
      shape: [1, 3],
    });
    const counters = tensor(
      Int32Array.of(settings.seed | 0, Math.floor(settings.seed / 2 ** 32) | 0, 0, last.position + 1),
      { dtype: "i32", device, shape: [1, 4] },
    );
    const { token, logProbability } = sample(logits, settingsRow, counters);
    return { token: detach(token), logProbability: detach(logProbability) };
  });
  try {
    const [token, logProbability] = await Promise.all([drawn.token.item(), drawn.logProbability.item()]);
    if (token < 0)
      throw new ForetokenError("NOT_FINITE", "the model's logits are not numbers", {
        op: "generate",
        remedy: "The weights are damaged: take another checkpoint.",
      });
    return { token, head: 1, logProbability };
  } finally {
    drawn.token.dispose();
    drawn.logProbability.dispose();
  }
}

function tokenizerOf(model: LanguageModel): NonNullable<LanguageModel["tokenizer"]> {
  if (!model.tokenizer) {
    throw new ForetokenError("NO_TOKENIZER", "the model carries no tokenizer", {
      op: "generate",
      remedy: "Give one to LanguageModel.create, or use generateTokens.",
    });
  }
  return model.tokenizer;
}

function promptTokens(model: LanguageModel, prompt: string | ArrayLike<number>): Int32Array {
  const tokens = typeof prompt === "string" ? tokenizerOf(model).encode(prompt) : Int32Array.from(prompt);
  const { maxPositions, vocabSize } = model.config;
  if (tokens.length < 1 || tokens.length > maxPositions) {
    throw new ForetokenError("BAD_ARGUMENT", {
      op: "generate",
      argument: "prompt",
      wanted: `1 to ${maxPositions} tokens (the model's maxPositions)`,
      got: String(tokens.length),
    });
  }
  checkTokens("generate", tokens, vocabSize);
  return tokens;
}
