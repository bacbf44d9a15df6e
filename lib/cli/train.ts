// foretoken train: a model from text.
import { Command } from "commander";
import { ForetokenError } from "../errors.js";
import { diskFileSystem, makeFolder } from "../io/files.js";
import { type TextDataset, textDataset } from "../io/text-dataset.js";
import { byteTokenizer } from "../io/tokenizer.js";
import { LanguageModel } from "../mtp/model.js";
import type { StepMetrics } from "../train/metrics.js";
import { Trainer } from "../train/trainer.js";
import { addCommonOptions, chosenDevice, dtypeOption, fastestDtype } from "./common.js";
import { formatBytes, formatCount, plural } from "./format.js";
import { Interrupt, interruptedCode } from "./interrupt.js";
import { Output, whenReaderLeaves } from "./output.js";
import { type Progress, trainingProgress } from "./progress.js";
import { headTable } from "./report.js";
import { addTrainFlags } from "./train-flags.js";
import { type DataPlan, planTraining, saveDataPlan, type TrainCommandOptions, type TrainPlan } from "./train-plan.js";
import { share, wholeNumber } from "./values.js";

const examples = `
Examples:
  foretoken train --data src --out runs/code
  foretoken train --data "docs/**/*.md" notes.txt --out runs/text --future-tokens 4 --steps 2000
  foretoken train --data src "!**/*.min.js" --out runs/big --config big.json --memory-budget 2GB
  foretoken train --resume --out runs/code

A config file holds {"model": {"hiddenSize": 512, …}, "trainer": {"batchSize": 16, …}}; flags win over it.
Ctrl-C finishes the step, saves, and says how to go on.`;

export function registerTrain(program: Command): void {
  const command = program.command("train").description("train a model that predicts several next tokens at once");
  command
    .option("--data <paths...>", "text to learn from: files, folders, globs (! in front leaves out)")
    .requiredOption("--out <dir>", "the run's folder")
    .option("--config <file>", "settings of model and trainer as JSON")
    .option("--resume", "go on from the run's latest checkpoint, with its settings and data")
    .option("--eval-fraction <share>", "share of the text to hold out, whole packages or folders (default: 0.1)", share)
    .option("--seed <number>", "start values and order of the data (default: 0)", wholeNumber(0))
    .addOption(dtypeOption("what is computed in (default: bf16 where the processor has it, else f32)"));
  addTrainFlags(command);
  addCommonOptions(command).addHelpText("after", examples);
  command.action(async (options: TrainCommandOptions) => {
    process.exitCode = await train(options);
  });
}

async function train(options: TrainCommandOptions): Promise<number> {
  const output = new Output(options);
  const plan = await planTraining(options);
  const device = chosenDevice(options);
  const data = readData(plan.data);
  const model = LanguageModel.create(plan.model, {
    ...{ device, seed: plan.seed, tokenizer: byteTokenizer() },
    dtype: plan.dtype ?? fastestDtype(device),
  });
  using interrupt = new Interrupt(() => output.note("\nStopping: finishing this step and saving. Ctrl-C again ends at once."));
  whenReaderLeaves(() => interrupt.abort());
  let progress: Progress | undefined;
  const trainer = new Trainer(model, {
    ...plan.trainer,
    ...{ data: data.train, evalData: data.eval, signal: interrupt.signal },
    onEval: (metrics) => progress?.onEval(metrics),
  });
  announce(output, plan, data, trainer);
  progress = trainingProgress(output, trainer.settings.steps);
  return runTraining(output, plan, trainer, progress);
}

interface TrainingData {
  readonly all: TextDataset;
  readonly train: TextDataset;
  readonly eval: TextDataset | undefined;
}

/** The text that a run learns from and is tested on: the same for the same files. */
export function readData({ paths, from, evalFraction }: DataPlan): TrainingData {
  process.chdir(from);
  const all = textDataset(paths, byteTokenizer());
  return { all, ...(evalFraction === 0 ? { train: all, eval: undefined } : all.split({ fraction: evalFraction })) };
}

function announce(output: Output, plan: TrainPlan, { all, train, eval: heldOut }: TrainingData, trainer: Trainer): void {
  const { model, settings, predictedPeakBytes } = trainer;
  const { device, config, parameters } = model;
  const parameterCount = parameters.all.reduce((sum, { master }) => sum + master.size, 0);
  const { steps, batchSize, accumulate, shape } = settings;
  const bytes = all.files.reduce((sum, file) => sum + file.bytes, 0);
  output.event("start", {
    ...{ out: plan.out, resume: plan.resume, device: device.name, simd: device.simd, threads: device.threads },
    ...{ dtype: model.dtype, parameters: parameterCount, model: config, steps, predictedPeakBytes },
    data: { files: all.files.length, groups: all.groups.length, bytes, twins: all.twins.length, binaries: all.binaries },
    ...{ trainTokens: train.tokenCount, evalTokens: heldOut?.tokenCount ?? 0 },
  });
  const rest = [all.twins.length > 0 && `${plural(all.twins.length, "twin")} dropped`, all.binaries > 0 && `${plural(all.binaries, "binary file")} skipped`];
  const groups = all.groups.length > 1 ? ` in ${all.groups.length} groups` : "";
  output.line(`device   ${device.name}, SIMD level ${device.simd}, ${plural(device.threads, "thread")}`);
  output.line(`model    ${formatCount(parameterCount)} parameters, ${model.dtype}: ${config.trunk} of ${plural(config.trunkLayers, "layer")}, ${config.futureTokens} ${config.headFamily} heads, width ${config.hiddenSize}`);
  output.line(`data     ${[`${plural(all.files.length, "file")}${groups}`, formatBytes(bytes), ...rest].filter(Boolean).join(", ")}`);
  output.line(`         ${formatBytes(train.tokenCount)} to learn from, ${heldOut ? formatBytes(heldOut.tokenCount) : "none"} held out`);
  output.line(`run      ${plural(steps, "step")} of ${formatCount(batchSize * accumulate * shape.contextLength)} tokens, ${plan.resume ? "resumed from" : "saved to"} ${plan.out}`);
  output.line(`memory   ${formatBytes(predictedPeakBytes)} predicted`);
  output.line();
}

async function runTraining(output: Output, plan: TrainPlan, trainer: Trainer, progress: Progress): Promise<number> {
  let last: StepMetrics | undefined;
  try {
    for await (const metrics of trainer) {
      if (!last) await begun(output, plan, trainer);
      last = metrics;
      progress.onStep(metrics);
    }
  } catch (error) {
    progress.stop();
    if (error instanceof ForetokenError && error.code === "ABORTED") return stopped(output, plan, trainer, last);
    if (trainer.checkpoint) output.note(`The last checkpoint is good: ${trainer.checkpoint}`);
    throw error;
  }
  progress.stop();
  if (!last) throw alreadyDone(trainer.settings.steps);
  finish(output, plan, trainer, last);
  return 0;
}

/** Once the run's folder stands. */
async function begun(output: Output, plan: TrainPlan, trainer: Trainer): Promise<void> {
  await makeFolder(diskFileSystem, plan.out);
  await saveDataPlan(plan.out, plan.data);
  for (const warning of trainer.warnings) output.note(`warning: ${warning}`);
}

function stopped(output: Output, { out }: TrainPlan, { checkpoint }: Trainer, last: StepMetrics | undefined): number {
  output.event("interrupted", { step: last?.step ?? 0, out, checkpoint });
  output.note(`Saved after step ${last?.step ?? 0}. Go on with:\n  foretoken train --resume --out ${quoted(out)}`);
  return interruptedCode;
}

function alreadyDone(steps: number): ForetokenError {
  const remedy = "Give --steps with a larger number to train on.";
  return new ForetokenError("BAD_OPTION", { op: "train", argument: "--steps", wanted: "more than the run has taken", got: String(steps), remedy });
}

function finish(output: Output, { out }: TrainPlan, { evaluation, checkpoint }: Trainer, last: StepMetrics): void {
  const { step, tokens, peakBytes, predictedPeakBytes } = last;
  output.event("done", { step, tokens, out, checkpoint, evaluation, peakBytes, predictedPeakBytes });
  output.line();
  output.line(evaluation ? `On held-out text (${formatCount(evaluation.tokens)} tokens):` : "On the last step's text:");
  output.line(headTable(evaluation ?? last));
  output.line();
  output.line(`memory   ${memoryLine(last)}`);
  output.line(`saved    ${checkpoint ?? out}`);
  output.line();
  output.line("Next:");
  output.line(`  foretoken generate ${quoted(out)} --prompt "…"`);
  output.line(`  foretoken eval ${quoted(out)}`);
}

/** Measured beside predicted, to the byte where they differ. */
export function memoryLine({ peakBytes, predictedPeakBytes }: StepMetrics): string {
  if (peakBytes === predictedPeakBytes) return `${formatBytes(peakBytes)} at most, as predicted to the byte`;
  return `${peakBytes} bytes at most, ${predictedPeakBytes} predicted`;
}

export function quoted(path: string): string {
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
