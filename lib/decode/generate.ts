// Text from a model: head 1's, with the other heads' drafts to save forwards.
import { ForetokenError } from "../errors.js";
import { checkTokens, type LanguageModel } from "../mtp/model.js";
import { DecodeEngine } from "./engine.js";
import { draftShape, resolveGenerateOptions, type GenerateOptions, type GenerateSettings } from "./options.js";
import type { GeneratedToken } from "./sequence.js";
import { TextWriter } from "./text.js";

/**
 * Tokens that follow the prompt, one by one, until the tokenizer's eos, maxNewTokens or the end of the context. They are
 * the tokens of plain decoding with head 1, whatever `speculate` and `draft` are.
 * Throws BAD_ARGUMENT for a prompt that is empty or longer than the context, BAD_OPTION for more speculation than there are
 * heads, NO_TOKENIZER for text without one, NOT_FINITE for logits that are not numbers, ABORTED.
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
  const { speculate, draft, promptChunk, verify } = settings;
  const shape = draftShape(model, settings);
  const tokens = promptTokens(model, prompt, settings);
  if (settings.maxNewTokens === 0) return;
  const capacity = Math.min(model.config.maxPositions, tokens.length + settings.maxNewTokens);
  const adaptive = speculate === "auto";
  const engine = new DecodeEngine(model, { slots: 1, capacity, shape, adaptive, draft, promptChunk, verify });
  try {
    const sequence = engine.start(tokens, settings);
    while (!sequence.finished) {
      throwIfAborted(settings.signal);
      const step = (await engine.step()).get(sequence);
      if (!step) continue;
      settings.onStep?.(step);
      for (const token of step.tokens) {
        throwIfAborted(settings.signal);
        yield token;
      }
    }
  } finally {
    await engine.close();
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
  const writer = new TextWriter(tokenizerOf(model), stop);
  for await (const { token } of generateTokens(model, prompt, options)) {
    const piece = writer.push(token);
    if (piece !== "") yield piece;
    if (writer.stopped) return;
  }
  const rest = writer.flush();
  if (rest !== "") yield rest;
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new ForetokenError("ABORTED", "generation was cancelled", { op: "generate" });
}

export function tokenizerOf(model: LanguageModel): NonNullable<LanguageModel["tokenizer"]> {
  if (!model.tokenizer) {
    throw new ForetokenError("NO_TOKENIZER", "the model carries no tokenizer", {
      op: "generate",
      remedy: "Give one to LanguageModel.create, or use generateTokens.",
    });
  }
  return model.tokenizer;
}

/** The prompt's tokens. Throws BAD_ARGUMENT unless the model can read them, BAD_DATA for one outside the vocabulary. */
export function promptTokens(
  model: LanguageModel,
  prompt: string | ArrayLike<number>,
  { context }: Pick<GenerateSettings, "context">,
): Int32Array {
  const given = typeof prompt === "string" ? tokenizerOf(model).encode(prompt) : prompt;
  const { maxPositions, vocabSize } = model.config;
  const most = context === "slide" ? Infinity : maxPositions;
  if (given.length < 1 || given.length > most) {
    throw new ForetokenError("BAD_ARGUMENT", {
      op: "generate",
      argument: "prompt",
      wanted: context === "slide" ? "at least 1 token" : `1 to ${maxPositions} tokens (the model's maxPositions)`,
      got: String(given.length),
      remedy: given.length > most ? 'context: "slide" goes on with the later half of the context.' : undefined,
    });
  }
  checkTokens("generate", given, vocabSize);
  return Int32Array.from(given);
}
