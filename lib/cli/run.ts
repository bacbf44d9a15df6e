// A training run as `train` and the demo show it: what is about to happen, how it goes, what came of it.
import { relative } from "node:path";
import { ForetokenError } from "../errors.js";
import { diskFileSystem, makeFolder } from "../io/files.js";
import { findCheckpoint } from "../io/save.js";
import type { StepMetrics } from "../train/metrics.js";
import { Trainer } from "../train/trainer.js";
import type { TrainerOptions } from "../train/settings.js";
import type { LanguageModel } from "../mtp/model.js";
import { type DataPlan, type RunData, saveDataPlan } from "./data.js";
import { formatBytes, formatCount, plural } from "./format.js";
import { describeDevice } from "./gpu.js";
import { Interrupt, interruptedCode } from "./interrupt.js";
import { type Output, whenReaderLeaves } from "./output.js";
import { trainingProgress } from "./progress.js";

/** What to train, on what, and where it goes. */
export interface Run {
  readonly out: string;
  readonly model: LanguageModel;
  readonly trainer: Omit<TrainerOptions, "data">;
  readonly plan: DataPlan;
  readonly data: RunData;
}

/** Trains to the end, then calls `finish`; resolves to the exit code. Ctrl-C saves and says how to go on. */
export async function runTraining(
  output: Output,
  run: Run,
  finish: (trainer: Trainer, last: StepMetrics) => Promise<void> | void,
): Promise<number> {
  using interrupt = new Interrupt(() =>
    output.note("\nStopping: this step is finished and saved. Ctrl-C again ends at once."),
  );
  whenReaderLeaves(() => interrupt.abort());
  const trainer = new Trainer(run.model, {
    ...run.trainer,
    ...{ data: run.data.train, evalData: run.data.eval, out: run.out, signal: interrupt.signal },
    onEval: (metrics) => progress.onEval(metrics),
  });
  announce(output, run, trainer);
  const progress = trainingProgress(output, trainer.settings.steps);
  let last: StepMetrics | undefined;
  try {
    for await (const metrics of trainer) {
      if (!last) await keepPlan(output, run, trainer);
      last = metrics;
      progress.onStep(metrics);
    }
  } catch (error) {
    progress.stop();
    if (error instanceof ForetokenError && error.code === "ABORTED") return stopped(output, run, trainer, last);
    if (last) await tellLastCheckpoint(output, run.out);
    throw error;
  }
  progress.stop();
  if (!last) throw alreadyDone(trainer.settings.steps);
  await finish(trainer, last);
  return 0;
}

function announce(output: Output, run: Run, { model, settings, predictedPeakBytes }: Trainer): void {
  const { all, train, eval: heldOut } = run.data;
  const { device, config } = model;
  const parameters = model.parameters.all.reduce((sum, { master }) => sum + master.size, 0);
  const { steps, batchSize, accumulate, shape, resume } = settings;
  const bytes = all.files.reduce((sum, file) => sum + file.bytes, 0);
  output.event("start", {
    ...{ out: run.out, resume, device: device.name, simd: device.simd, threads: device.threads },
    ...{ dtype: model.dtype, parameters, model: config, steps, predictedPeakBytes },
    data: {
      files: all.files.length,
      groups: all.groups.length,
      bytes,
      twins: all.twins.length,
      binaries: all.binaries,
    },
    ...{ trainTokens: train.tokenCount, evalTokens: heldOut?.tokenCount ?? 0 },
  });
  const left = [
    all.twins.length > 0 && `${plural(all.twins.length, "twin")} dropped`,
    all.binaries > 0 && `${plural(all.binaries, "binary file")} skipped`,
  ];
  const groups = all.groups.length > 1 ? ` in ${all.groups.length} groups` : "";
  const files = [`${plural(all.files.length, "file")}${groups}`, formatBytes(bytes), ...left]
    .filter(Boolean)
    .join(", ");
  const layers = `${config.trunkLayers} ${config.trunk === "rnn" ? "recurrent" : "trunk"} ${config.trunkLayers === 1 ? "layer" : "layers"}`;
  const heads = `${config.futureTokens} ${config.headFamily} ${config.futureTokens === 1 ? "head" : "heads"}`;
  const tokens = formatCount(batchSize * accumulate * shape.contextLength);
  output.line(`device   ${describeDevice(device)}`);
  output.line(
    `model    ${formatCount(parameters)} parameters in ${model.dtype}: ${layers}, ${heads}, width ${config.hiddenSize}`,
  );
  output.line(`data     ${files}`);
  output.line(
    `         ${formatBytes(train.tokenCount)} to learn from, ${formatBytes(heldOut?.tokenCount ?? 0)} held out`,
  );
  output.line(
    `run      ${plural(steps, "step")} of ${tokens} tokens, ${resume ? "resumed from" : "saved to"} ${run.out}`,
  );
  output.line(`memory   ${formatBytes(predictedPeakBytes)} predicted`);
  output.line();
}

/** Once the run's folder stands. */
async function keepPlan(output: Output, { out, plan }: Run, { warnings }: Trainer): Promise<void> {
  await makeFolder(diskFileSystem, out);
  await saveDataPlan(out, plan);
  for (const warning of warnings) output.note(`warning: ${warning}`);
}

function stopped(output: Output, { out }: Run, { checkpoint }: Trainer, last: StepMetrics | undefined): number {
  output.event("interrupted", { step: last?.step ?? 0, out, checkpoint });
  output.note(`Saved after step ${last?.step ?? 0}. To go on:\n  npx foretoken train --resume --out ${quoted(out)}`);
  return interruptedCode;
}

/** After a failure: what is safe on disk, if anything was saved. */
async function tellLastCheckpoint(output: Output, out: string): Promise<void> {
  const folder = await findCheckpoint(diskFileSystem, out).catch(() => undefined);
  if (folder !== undefined) output.note(`The last checkpoint is good: ${folder}`);
}

function alreadyDone(steps: number): ForetokenError {
  const details = { op: "train", argument: "--steps", wanted: "more than the run has taken", got: String(steps) };
  return new ForetokenError("BAD_OPTION", { ...details, remedy: "Give --steps with a larger number to train on." });
}

/** Measured beside predicted, to the byte where they differ. */
export function memoryLine({ peakBytes, predictedPeakBytes }: StepMetrics): string {
  if (peakBytes === predictedPeakBytes)
    return `memory   ${formatBytes(peakBytes)} at the most, as predicted to the byte`;
  return `memory   ${peakBytes} bytes at the most, ${predictedPeakBytes} predicted`;
}

/** What a person may want to type after a run. */
export function nextLines(out: string, prompt: string): string {
  const folder = quoted(out);
  return `Next:\n  npx foretoken generate ${folder} --prompt "${prompt}"\n  npx foretoken eval ${folder}`;
}

/** The path as seen from the folder that the command was typed in, where that is shorter. */
export function shortest(from: string, path: string): string {
  const seen = relative(from, path);
  return seen !== "" && seen.length < path.length ? seen : path;
}

/** A path as a shell takes it. */
export function quoted(path: string): string {
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
