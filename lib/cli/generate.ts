// foretoken generate: text from a model, as it is drawn.
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { generate } from "../decode/generate.js";
import { ForetokenError } from "../errors.js";
import { reason } from "../io/files.js";
import type { LanguageModel } from "../mtp/model.js";
import {
  addCommonOptions,
  chosenDevice,
  type CommonOptions,
  type ComputeType,
  dtypeOption,
  loadModel,
} from "./common.js";
import { Interrupt, interruptedCode } from "./interrupt.js";
import { Output, whenReaderLeaves } from "./output.js";
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
  readonly speculate: string;
  readonly stats?: boolean;
  readonly dtype?: ComputeType;
}

const examples = `
Examples:
  foretoken generate runs/code --prompt "export function "
  foretoken generate runs/code --prompt-file start.ts --max-new-tokens 200 --temperature 0.8 --top-p 0.95 --seed 1
  foretoken generate runs/code --prompt "// " --stop "\\n\\n" --stats
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
    .option("--speculate <mode>", "off or auto; this version decodes with head 1 alone in both", "auto")
    .option("--stats", "tokens per second and time to the first token, on stderr")
    .addOption(dtypeOption("what is computed in (default: as it was trained)"));
  addCommonOptions(command).addHelpText("after", examples);
  command.action(async (folder: string, options: GenerateCommandOptions) => {
    process.exitCode = await runGenerate(folder, options);
  });
}

const probability = number("a share above 0, at most 1", (value) => value > 0 && value <= 1);

async function runGenerate(folder: string, options: GenerateCommandOptions): Promise<number> {
  refuseSpeculation(options.speculate);
  const prompt = readPrompt(options);
  const output = new Output(options);
  whenReaderLeaves(() => process.exit(0));
  using model = await loadModel(folder, chosenDevice(options), options.dtype);
  using interrupt = new Interrupt(() => undefined);
  if (output.live) output.piece(dim(prompt));
  const clock = new Clock();
  try {
    for await (const text of generate(model, prompt, { ...settingsOf(options), signal: interrupt.signal })) {
      clock.tick(text);
      output.piece(text);
      output.event("text", { text });
    }
  } catch (error) {
    if (!(error instanceof ForetokenError && error.code === "ABORTED")) throw error;
  }
  if (output.live) output.piece("\n");
  finish(output, options, model, prompt, clock);
  return interrupt.signal.aborted ? interruptedCode : 0;
}

function settingsOf({ maxNewTokens, temperature, topK, topP, seed, stop = [] }: GenerateCommandOptions) {
  const escapes: Readonly<Record<string, string>> = { n: "\n", t: "\t", "\\": "\\" };
  const unescaped = stop.map((text) => text.replace(/\\([nt\\])/g, (_, letter: string) => escapes[letter] ?? letter));
  return { maxNewTokens, temperature, topK, topP, seed, stop: unescaped };
}

/** Times of the text that came. A byte model's tokens are its bytes. */
class Clock {
  private readonly started = performance.now();
  private first: number | undefined;
  private last = this.started;
  tokens = 0;

  tick(text: string): void {
    this.last = performance.now();
    this.first ??= this.last;
    this.tokens += Buffer.byteLength(text);
  }

  get firstTokenMs(): number | null {
    return this.first === undefined ? null : this.first - this.started;
  }

  get tokensPerSecond(): number | null {
    if (this.first === undefined || this.tokens < 2) return null;
    return ((this.tokens - 1) / (this.last - this.first)) * 1000;
  }
}

function finish(
  output: Output,
  { stats, maxNewTokens }: GenerateCommandOptions,
  model: LanguageModel,
  prompt: string,
  clock: Clock,
): void {
  const { tokens, firstTokenMs, tokensPerSecond } = clock;
  const promptTokens = Buffer.byteLength(prompt);
  output.event("done", { promptTokens, tokens, firstTokenMs, tokensPerSecond });
  const room = model.config.maxPositions - promptTokens;
  if (tokens >= room && room < maxNewTokens) {
    output.note(`(the model's context of ${model.config.maxPositions} tokens is full)`);
  }
  if (!stats || output.json) return;
  const rate = tokensPerSecond === null ? "" : `, ${tokensPerSecond.toFixed(0)} tokens/s after it`;
  output.note(
    `${tokens} tokens; the first after ${(firstTokenMs ?? 0).toFixed(1)} ms${rate}; 1 token per forward (head 1 alone)`,
  );
}

function refuseSpeculation(mode: string): void {
  if (mode === "off" || mode === "auto") return;
  const isCount = /^[1-9]\d*$/.test(mode);
  throw new ForetokenError("BAD_OPTION", isCount ? "this version decodes with head 1 alone" : "", {
    ...{ op: "generate", argument: "--speculate", wanted: "off or auto", got: mode },
  });
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
