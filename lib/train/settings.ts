// The trainer's options: their defaults and what is refused.
import { ForetokenError } from "../errors.js";
import { lazySchema, parseOptions } from "../validation.js";
import type { Dataset } from "../io/dataset.js";
import type { FileSystem } from "../io/files.js";
import type { HeadWeights } from "../mtp/head-weights.js";
import type { LanguageModel } from "../mtp/model.js";
import type { EvalMetrics, StepMetrics } from "./metrics.js";
import type { Schedule } from "./schedule.js";

export interface TrainerOptions {
  data: Dataset;
  /** Held-out data, evaluated every `evalEvery` steps and at the end. */
  evalData?: Dataset | undefined;
  /** Batches per evaluation. Default: all. */
  evalBatches?: number | undefined;
  /** Optimizer steps. Give this or `epochs`; default 1000. */
  steps?: number | undefined;
  /** Passes over the data, whole ones. */
  epochs?: number | undefined;
  /** Rows per micro-batch. Default 8. */
  batchSize?: number | undefined;
  /** T: positions per row. Default: the model's maxPositions. */
  contextLength?: number | undefined;
  /** Micro-batches per optimizer step. Default 1. */
  accumulate?: number | undefined;
  /** Peak learning rate. Default 1e-3. */
  learningRate?: number | undefined;
  /** Default "cosine". */
  schedule?: Schedule | undefined;
  /** Default: 2 % of the steps, at most 1000. */
  warmupSteps?: number | undefined;
  /** Default 0.1. */
  weightDecay?: number | undefined;
  /** Default [0.9, 0.95]. */
  betas?: readonly [number, number] | undefined;
  /** Default 1. */
  clipNorm?: number | undefined;
  /** Default "equal". */
  headWeights?: HeadWeights | undefined;
  /** Steps between evaluations. Default: only at the end. */
  evalEvery?: number | undefined;
  /** Steps between checkpoints. Default: only at the end. */
  saveEvery?: number | undefined;
  /** Checkpoints that stay. Default 2. */
  keep?: number | undefined;
  /** The run's folder; without one nothing is written. */
  out?: string | undefined;
  /** Go on from the latest checkpoint of `out`. */
  resume?: boolean | undefined;
  /** Go on although the data changed since the checkpoint. */
  allowChangedData?: boolean | undefined;
  /** Order of the data. Default 0. */
  seed?: number | undefined;
  /** Stops after the current step, saves, and rejects with ABORTED. */
  signal?: AbortSignal | undefined;
  /** Bytes that the run may take; MEMORY_BUDGET before the first step if it needs more. */
  memoryBudget?: number | undefined;
  /** Where checkpoints are kept. Default: the disk. */
  fileSystem?: FileSystem | undefined;
  onStep?: ((metrics: StepMetrics) => void) | undefined;
  onEval?: ((metrics: EvalMetrics) => void) | undefined;
}

const schema = lazySchema((z) => {
  const count = z.int().positive();
  const rate = z.number().nonnegative();
  const anything = z.custom<unknown>(() => true);
  return z.strictObject({
    data: z.custom((value) => isDataset(value), "a dataset, as from textDataset"),
    evalData: z.custom((value) => value === undefined || isDataset(value), "a dataset, as from textDataset").optional(),
    evalBatches: count.optional(),
    steps: count.optional(),
    epochs: count.optional(),
    batchSize: count.default(8),
    contextLength: count.optional(),
    accumulate: count.default(1),
    learningRate: z.number().positive().default(1e-3),
    schedule: z
      .union(
        [
          z.enum(["cosine", "linear", "constant"]),
          z.custom<(step: number) => number>((value) => typeof value === "function"),
        ],
        "cosine, linear, constant or a function",
      )
      .default("cosine"),
    warmupSteps: z.int().nonnegative().optional(),
    weightDecay: rate.default(0.1),
    betas: z.tuple([rate.lt(1), rate.lt(1)]).default([0.9, 0.95]),
    clipNorm: rate.default(1),
    headWeights: anything.optional(),
    evalEvery: count.optional(),
    saveEvery: count.optional(),
    keep: count.default(2),
    out: z.string().min(1).optional(),
    resume: z.boolean().default(false),
    allowChangedData: z.boolean().default(false),
    seed: z.int().default(0),
    signal: z.instanceof(AbortSignal).optional(),
    memoryBudget: z.number().positive().optional(),
    fileSystem: anything.optional(),
    onStep: anything.optional(),
    onEval: anything.optional(),
  });
});

const isDataset = (value: unknown): boolean =>
  typeof value === "object" && value !== null && "evalBatches" in value && "fingerprint" in value;

/** Every option, resolved. */
export type TrainerSettings = ReturnType<typeof resolveTrainerOptions>;

/** Fills in defaults. Throws BAD_OPTION naming the option, what is wanted and what was given. */
export function resolveTrainerOptions(model: LanguageModel, options: TrainerOptions) {
  const o = parseOptions(schema(), options, "BAD_OPTION", "train");
  if (o.steps !== undefined && o.epochs !== undefined) refuse("epochs", "either steps or epochs", "both");
  if (o.resume && o.out === undefined) refuse("resume", "an `out` folder to go on from", "none");
  const contextLength = o.contextLength ?? model.config.maxPositions;
  if (contextLength > model.config.maxPositions)
    refuse("contextLength", `at most the model's maxPositions ${model.config.maxPositions}`, String(contextLength));
  const shape = { batchSize: o.batchSize, contextLength, lookahead: model.config.futureTokens };
  const windows = options.data.windowsPerEpoch(shape);
  const steps =
    o.epochs === undefined
      ? (o.steps ?? 1000)
      : Math.max(1, Math.ceil((o.epochs * windows) / (o.batchSize * o.accumulate)));
  return {
    ...o,
    data: options.data,
    evalData: options.evalData,
    headWeights: options.headWeights ?? "equal",
    fileSystem: options.fileSystem,
    onStep: options.onStep,
    onEval: options.onEval,
    shape,
    steps,
    warmupSteps: o.warmupSteps ?? Math.min(1000, Math.ceil(steps * 0.02)),
  };
}

function refuse(argument: string, wanted: string, got: string, remedy?: string): never {
  throw new ForetokenError("BAD_OPTION", { op: "train", argument, wanted, got, remedy });
}
