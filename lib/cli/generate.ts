// foretoken generate: text from a model, as it is drawn.
import { readFileSync, writeFileSync } from "node:fs";
import { InvalidArgumentError, Option, type Command } from "commander";
import { draftModel, promptLookup, type DraftPredictor } from "../decode/drafts.js";
import { generateTokens, tokenizerOf } from "../decode/generate.js";
import type { GenerateOptions } from "../decode/options.js";
import type { DraftTree } from "../decode/tree.js";
import { DecodeStatistics } from "../decode/statistics.js";
import { TextWriter } from "../decode/text.js";
import { colourForTerminal, legendForTerminal, viewPage, type ProposedText } from "../decode/view.js";
import { ForetokenError } from "../errors.js";
import type { Device } from "../device.js";
import { reason } from "../io/files.js";
import type { LanguageModel } from "../mtp/model.js";
import { generateByBeams, refuseBeside } from "./beams.js";
import {
  addCommonOptions,
  chosenDevice,
  type CommonOptions,
  type ComputeType,
  dtypeOption,
  loadModel,
} from "./common.js";
import { formatShare } from "./format.js";
import { Interrupt, interruptedCode } from "./interrupt.js";
import { Output, whenReaderLeaves } from "./output.js";
import { readTree } from "./tree.js";
import { collect, notNegative, number, wholeNumber } from "./values.js";

interface GenerateCommandOptions extends CommonOptions {
  readonly prompt?: string;
  readonly promptFile?: string;
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly seed: number;
  readonly stop?: readonly string[];
  readonly speculate: NonNullable<GenerateOptions["speculate"]>;
  readonly draft?: string;
  readonly tree?: true | string;
  readonly numBeams?: number;
  readonly context: "stop" | "slide";
  readonly stats?: boolean;
  readonly colour?: boolean;
  readonly view?: string;
  readonly dtype?: ComputeType;
}

const examples = `
Examples:
  foretoken generate runs/code --prompt "export function "
  foretoken generate runs/code --prompt-file start.ts --max-new-tokens 200 --temperature 0.8 --top-p 0.95 --seed 1
  foretoken generate runs/code --prompt "// " --stop "\\n\\n" --speculate 4 --stats
  foretoken generate runs/code --prompt "return " --num-beams 4 --max-new-tokens 30 --stats
  foretoken generate runs/code --prompt "for (" --tree --view drafts.html
  echo "import " | foretoken generate runs/code --prompt-file -

In --stop, \\n, \\t and \\\\ stand for line end, tab and backslash.`;

export function registerGenerate(program: Command): void {
  const command = program.command("generate").description("write on from a prompt");
  command
    .argument("<dir>", "a run's folder, or a checkpoint's")
    .option("--prompt <text>", "what to write on from")
    .option("--prompt-file <file>", "the same from a file; - is stdin")
    .option("--max-new-tokens <count>", "tokens to write at most", wholeNumber(0), 200)
    .option("--temperature <number>", "0: always the likeliest token", notNegative, 0)
    .option("--top-k <count>", "draw from the k likeliest tokens; 0: all", wholeNumber(0), 0)
    .option("--top-p <share>", "draw from the likeliest tokens with this share", probability, 1)
    .option("--seed <number>", "the same seed draws the same text", wholeNumber(0), 0)
    .option("--stop <text>", "end before this text; may be given several times", collect)
    .option("--speculate <k>", "tokens per forward at most; off: one; auto: as many as pay", speculation, "auto")
    .option("--draft <dir>", "proposals by a smaller model, or by prompt-lookup, in place of the heads'")
    .option("--tree [file]", "proposals in a tree, of <dir>/tree.json (see eval --fit-tree) unless given")
    .option(
      "--num-beams <count>",
      "the likeliest text of a beam search, in place of the likeliest tokens",
      wholeNumber(1),
    )
    .addOption(
      new Option("--context <end>", "at the context's end: stop, or slide and go on")
        .choices(["stop", "slide"])
        .default("stop"),
    )
    .option("--stats", "tokens per forward, acceptance per head, speed beside plain decoding, on stderr")
    .option("--colour", "each token in the colour of the head that proposed it")
    .option("--view <file.html>", "a page with the text in these colours")
    .addOption(dtypeOption("what is computed in (default: as it was trained)"));
  addCommonOptions(command).addHelpText("after", examples);
  command.action(async (folder: string, options: GenerateCommandOptions) => {
    process.exitCode = await runGenerate(folder, options);
  });
}

const probability = number("a share above 0, at most 1", (value) => value > 0 && value <= 1);

async function runGenerate(folder: string, options: GenerateCommandOptions): Promise<number> {
  const prompt = readPrompt(options);
  const output = new Output(options);
  whenReaderLeaves(() => process.exit(0));
  const device = chosenDevice(options);
  using model = await loadModel(folder, device, options.dtype);
  const tree = options.tree === undefined ? undefined : await readTree(folder, options.tree);
  if (options.numBeams !== undefined) return await runBeams(output, model, prompt, options, tree);
  using small = await loadDraftModel(options, device);
  const draft = small ? draftModel(small) : options.draft === undefined ? undefined : promptLookup();
  using interrupt = new Interrupt(() => undefined);
  if (output.live) output.piece(dim(prompt));
  const settings = { ...settingsOf(options), draft, tree, speculate: options.speculate, signal: interrupt.signal };
  const written = new Written();
  try {
    for await (const piece of written.write(model, prompt, settings)) {
      output.piece(options.colour ? colourForTerminal(piece) : piece.text);
      output.event("text", { text: piece.text, head: piece.head });
    }
  } catch (error) {
    if (!(error instanceof ForetokenError && error.code === "ABORTED")) throw error;
  }
  if (output.live) output.piece("\n");
  if (options.view !== undefined) writeView(options.view, prompt, written);
  const compared = options.stats && !interrupt.signal.aborted ? await compare(model, prompt, settings) : undefined;
  finish(output, options, model, prompt, written, compared);
  return interrupt.signal.aborted ? interruptedCode : 0;
}

async function runBeams(
  output: Output,
  model: LanguageModel,
  prompt: string,
  options: GenerateCommandOptions,
  tree: DraftTree | undefined,
): Promise<number> {
  const { numBeams = 1, maxNewTokens, speculate, stats = false } = options;
  refuseBeside({
    "--temperature": options.temperature > 0,
    "--stop": options.stop !== undefined,
    "--draft": options.draft !== undefined,
    "--context slide": options.context === "slide",
    "--speculate": speculate !== "auto",
    "--colour": options.colour === true,
    "--view": options.view !== undefined,
  });
  return generateByBeams(output, model, { prompt, numBeams, maxNewTokens, tree, stats });
}

function speculation(text: string): GenerateCommandOptions["speculate"] {
  if (text === "off" || text === "auto") return text;
  if (/^[1-9]\d*$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Expected off, auto, or a whole number above 0.");
}

async function loadDraftModel(
  { draft, dtype }: GenerateCommandOptions,
  device: Device,
): Promise<LanguageModel | undefined> {
  return draft === undefined || draft === "prompt-lookup" ? undefined : loadModel(draft, device, dtype);
}

function settingsOf(options: GenerateCommandOptions) {
  const { maxNewTokens, temperature, topK, topP, seed, context, stop = [] } = options;
  const escapes: Readonly<Record<string, string>> = { n: "\n", t: "\t", "\\": "\\" };
  const unescaped = stop.map((text) => text.replace(/\\([nt\\])/g, (_, letter: string) => escapes[letter] ?? letter));
  return { maxNewTokens, temperature, topK, topP, seed, context, stop: unescaped };
}

type Settings = ReturnType<typeof settingsOf> & {
  readonly draft: DraftPredictor | undefined;
  readonly tree: DraftTree | undefined;
  readonly speculate: GenerateCommandOptions["speculate"];
  readonly signal: AbortSignal;
};

/** A text as it comes, and what is measured of it. */
class Written {
  readonly pieces: ProposedText[] = [];
  readonly statistics = new DecodeStatistics();
  private readonly started = performance.now();
  private first: number | undefined;
  private last = this.started;
  tokens = 0;

  async *write(model: LanguageModel, prompt: string, settings: Settings): AsyncGenerator<ProposedText> {
    const writer = new TextWriter(tokenizerOf(model), settings.stop);
    const onStep: GenerateOptions["onStep"] = (step) => this.statistics.add(step);
    for await (const { token, head } of generateTokens(model, prompt, { ...settings, onStep })) {
      this.last = performance.now();
      this.first ??= this.last;
      this.tokens++;
      yield* this.piece(writer.push(token), head);
      if (writer.stopped) return;
    }
    yield* this.piece(writer.flush(), 1);
  }

  private *piece(text: string, head: number): Generator<ProposedText> {
    if (text === "") return;
    const piece = { text, head };
    this.pieces.push(piece);
    yield piece;
  }

  get firstTokenMs(): number | null {
    return this.first === undefined ? null : this.first - this.started;
  }

  get tokensPerSecond(): number | null {
    if (this.first === undefined || this.tokens < 2) return null;
    return ((this.tokens - 1) / (this.last - this.first)) * 1000;
  }
}

interface Compared {
  readonly plain: Written;
  readonly speculative: Written;
}

/** The same text twice more, without drafts and with them: what was written first was also what warmed the process up. */
async function compare(model: LanguageModel, prompt: string, settings: Settings): Promise<Compared | undefined> {
  if (settings.speculate === "off" || (model.heads.length === 1 && !settings.draft)) return undefined;
  try {
    const plain = await writeAll(model, prompt, { ...settings, speculate: "off" });
    return { plain, speculative: await writeAll(model, prompt, settings) };
  } catch (error) {
    if (!(error instanceof ForetokenError && error.code === "ABORTED")) throw error;
    return undefined;
  }
}

async function writeAll(model: LanguageModel, prompt: string, settings: Settings): Promise<Written> {
  const written = new Written();
  for await (const _ of written.write(model, prompt, settings));
  return written;
}

function writeView(path: string, prompt: string, { pieces, statistics }: Written): void {
  try {
    writeFileSync(path, viewPage(prompt, pieces, statistics));
  } catch (cause) {
    throw new ForetokenError("SAVE_FAILED", `could not write ${path}: ${reason(cause)}`, { op: "generate", cause });
  }
}

function finish(
  output: Output,
  { stats, colour, maxNewTokens, context }: GenerateCommandOptions,
  model: LanguageModel,
  prompt: string,
  written: Written,
  compared: Compared | undefined,
): void {
  const { tokens, firstTokenMs, tokensPerSecond, statistics } = written;
  const promptTokens = tokenizerOf(model).encode(prompt).length;
  const { forwards, tokensPerForward, acceptances, places } = statistics;
  output.event("done", {
    ...{ promptTokens, tokens, firstTokenMs, tokensPerSecond, forwards, tokensPerForward, acceptances },
    plainTokensPerSecond: compared?.plain.tokensPerSecond ?? null,
  });
  if (output.json) return;
  const room = model.config.maxPositions - promptTokens;
  if (context === "stop" && tokens >= room && room < maxNewTokens) {
    output.note(`(the model's context of ${model.config.maxPositions} tokens is full)`);
  }
  if (colour) output.note(legendForTerminal([...new Set(written.pieces.map(({ head }) => head))].sort()));
  if (!stats) return;
  const rate = (of: number | null): string => (of === null ? "" : `, ${of.toFixed(0)} tokens/s after it`);
  output.note(`${tokens} tokens; the first after ${(firstTokenMs ?? 0).toFixed(1)} ms${rate(tokensPerSecond)}`);
  output.note(`${forwards} forwards: ${tokensPerForward.toFixed(2)} tokens per forward`);
  const shares = places.map(
    ({ proposed, accepted }, i) => `head ${i + 2} ${formatShare(accepted / proposed)} of ${proposed}`,
  );
  if (shares.length > 0) output.note(`right, after right ones: ${shares.join(", ")}`);
  if (compared) output.note(comparison(compared));
}

function comparison({ plain, speculative }: Compared): string {
  const textOf = ({ pieces }: Written): string => pieces.map(({ text }) => text).join("");
  const same = textOf(plain) === textOf(speculative) ? "the same text" : "ANOTHER TEXT";
  const [slow, fast] = [plain.tokensPerSecond ?? NaN, speculative.tokensPerSecond ?? NaN];
  return (
    `once more: ${slow.toFixed(0)} tokens/s by plain decoding, ${fast.toFixed(0)} with drafts, ` +
    `${(fast / slow).toFixed(2)} times as fast; ${same}`
  );
}

function readPrompt({ prompt, promptFile }: GenerateCommandOptions): string {
  if ((prompt === undefined) === (promptFile === undefined)) {
    const got = prompt === undefined ? "neither" : "both";
    throw new ForetokenError("BAD_OPTION", {
      op: "generate",
      argument: "--prompt",
      wanted: "--prompt or --prompt-file",
      got,
    });
  }
  if (promptFile === undefined) return prompt ?? "";
  try {
    return readFileSync(promptFile === "-" ? 0 : promptFile, "utf8");
  } catch (cause) {
    throw new ForetokenError("BAD_OPTION", {
      op: "generate",
      argument: "--prompt-file",
      wanted: "a readable file",
      got: reason(cause),
      cause,
    });
  }
}

const dim = (text: string): string => `\u001b[2m${text}\u001b[22m`;
