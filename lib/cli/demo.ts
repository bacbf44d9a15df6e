#!/usr/bin/env node
// npm run demo: a byte model with four heads learns the source code that this project's own dependencies brought along,
// is measured on packages it has not seen, beside a count model, and writes, with drafts and without.
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { Command } from "commander";
import { generate } from "../decode/generate.js";
import { byteTokenizer } from "../io/tokenizer.js";
import type { Dataset } from "../io/dataset.js";
import { LanguageModel } from "../mtp/model.js";
import { codeFolder, codePackages, codePaths } from "../tasks/bytes.js";
import { TrigramModel } from "../tasks/ngram.js";
import type { StepMetrics } from "../train/metrics.js";
import type { Trainer } from "../train/trainer.js";
import { addCommonOptions, chosenDevice, type CommonOptions, fastestDtype } from "./common.js";
import { type DataPlan, readData, type RunData } from "./data.js";
import { exitCodeOf, tellError } from "./failure.js";
import { formatBytes, formatCount, formatDuration } from "./format.js";
import { Output } from "./output.js";
import { registerGenerate } from "./generate.js";
import { bitsOf, headTable } from "./report.js";
import { memoryLine, nextLines, quoted, runTraining, shortest } from "./run.js";
import { wholeNumber } from "./values.js";

const { train: packages, eval: heldOut } = codePackages;

const modelSize = { hiddenSize: 256, trunkLayers: 5, numAttentionHeads: 4, maxPositions: 256, futureTokens: 4 };
const defaultSteps = 1000;
const batchSize = 8;
const learningRate = 1.5e-3;
const warmupSteps = 50;
const prompt = "export function ";

interface DemoOptions extends CommonOptions {
  readonly steps: number;
  readonly out?: string;
}

async function demo(options: DemoOptions): Promise<number> {
  const started = performance.now();
  const from = process.cwd();
  const output = new Output(options);
  const device = chosenDevice(options);
  const out = options.out === undefined ? freshFolder(join(codeFolder, "runs/demo")) : resolve(options.out);
  const plan = dataPlan();
  const data = readData(plan);
  output.line(`Learning the code of ${packages.join(", ")};\nheld out: ${heldOut.join(", ")}.\n`);
  const dtype = fastestDtype(device);
  if (dtype === "f32")
    output.line(`SIMD level ${device.simd} has no fast bf16: this takes longer than the five minutes of AMX.\n`);
  using model = LanguageModel.create(modelSize, { device, dtype, tokenizer: byteTokenizer(), seed: 1 });
  const trainer = { steps: options.steps, batchSize, learningRate, warmupSteps, seed: 1 };
  const code = await runTraining(output, { out, model, trainer, plan, data }, async (trainer, last) => {
    showResult(output, data, trainer, last);
    await showSample(output, model);
  });
  if (code !== 0) return code;
  const folder = shortest(from, out);
  await showDrafts(output, folder, options);
  output.line(`${formatDuration((performance.now() - started) / 1000)} in all; the model is in ${folder}\n`);
  output.line(nextLines(folder, prompt));
  return 0;
}

function dataPlan(): DataPlan {
  return { paths: codePaths("demo", codeFolder, codePackages), from: codeFolder, evalFraction: 0, heldOut };
}

/** The folder itself, or the first of folder-2, folder-3 … that is not there. */
function freshFolder(folder: string): string {
  for (let i = 1; ; i++) {
    const path = i === 1 ? folder : `${folder}-${i}`;
    if (!existsSync(path)) return path;
  }
}

function showResult(output: Output, data: RunData, { evaluation, settings }: Trainer, last: StepMetrics): void {
  const { eval: heldOutText } = data;
  if (!evaluation || !heldOutText) return;
  const seen = countSeen(data.train, settings, last.step);
  const all = countAll(data.train);
  const [ofSeen = NaN, ofAll = NaN] = [seen, all].map((model) => model.score(heldOutText.documents()).bitsPerByte);
  const own = bitsOf(evaluation.losses[0] ?? NaN);
  output.event("done", { ...last, out: settings.out, evaluation, trigramBitsPerByte: { seen: ofSeen, all: ofAll } });
  output.line(`\nOn packages it has not seen (${formatBytes(evaluation.tokens)} of ${heldOut.join(", ")}):`);
  output.line(headTable(evaluation));
  output.line("\nThe next byte of the same packages, in bits per byte:");
  output.line(`  ${own.toFixed(3)}  head 1`);
  output.line(`  ${ofSeen.toFixed(3)}  trigram counts of the ${formatCount(seen.count)} bytes that the model saw`);
  output.line(`  ${ofAll.toFixed(3)}  trigram counts of the whole training set, ${formatCount(all.count)} bytes`);
  output.line(verdict(own, ofSeen));
  output.line(`\n${memoryLine(last)}\n`);
}

function verdict(own: number, counted: number): string {
  if (own < counted)
    return `Head 1 beats the trigram model of the same bytes by ${(counted - own).toFixed(3)} bits per byte.`;
  return "Head 1 does not beat the trigram model of the same bytes: it needs more steps.";
}

/** Counts of exactly what head 1 was trained on: the windows of the run's steps, drawn once more. */
function countSeen(data: Dataset, { shape, seed, accumulate }: Trainer["settings"], steps: number): TrigramModel {
  const model = new TrigramModel();
  const batches = data.batches({ ...shape, seed });
  for (let i = 0; i < steps * accumulate; i++) {
    const { value: batch } = batches.next();
    if (batch) model.addBatch(batch);
  }
  return model;
}

function countAll(data: Dataset): TrigramModel {
  const model = new TrigramModel();
  for (const document of data.documents()) model.addDocument(document);
  return model;
}

async function showSample(output: Output, model: LanguageModel): Promise<void> {
  if (output.json || output.quiet) return;
  output.line("A sample (temperature 0.7):");
  output.piece(prompt);
  const maxNewTokens = model.config.maxPositions - prompt.length;
  for await (const text of generate(model, prompt, { maxNewTokens, temperature: 0.7, topP: 0.9, seed: 1 }))
    output.piece(text);
  output.line("\n");
}

/** By the command that it names: it loads what was saved. */
async function showDrafts(output: Output, folder: string, { device, simd }: DemoOptions): Promise<void> {
  if (output.json || output.quiet) return;
  output.line("The likeliest text, by the other heads' drafts as far as they pay; it is that of plain decoding:");
  output.line(`  npx foretoken generate ${quoted(folder)} --prompt "${prompt}" --speculate auto --stats\n`);
  const program = new Command();
  registerGenerate(program);
  const where = ["--device", device, ...(simd === undefined ? [] : ["--simd", simd])];
  const args = ["generate", folder, "--prompt", prompt, "--speculate", "auto", "--stats", ...where];
  await program.parseAsync(args, { from: "user" });
  output.line();
}

const command = new Command("npm run demo --")
  .description("Trains a small model on the code in node_modules, measures it and lets it write.")
  .option("--steps <count>", "optimizer steps", wholeNumber(1), defaultSteps)
  .option("--out <dir>", "the run's folder (default: runs/demo, or the next free number)");
try {
  process.exitCode = await demo(addCommonOptions(command).parse().opts<DemoOptions>());
} catch (error) {
  tellError("demo", error, process.argv.includes("--json"));
  process.exitCode = exitCodeOf(error);
}
