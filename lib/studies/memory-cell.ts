// One cell of the memory study: training steps of one model by all four arms in turn, bytes by the device's ledger.
import { type Device, openDevice } from "../device.js";
import { ForetokenError } from "../errors.js";
import type { Batch, BatchShape } from "../io/batch.js";
import { emptyBatch } from "../io/batch.js";
import type { ModelOptions } from "../mtp/config.js";
import { LanguageModel } from "../mtp/model.js";
import type { HeadsRun } from "../mtp/pass.js";
import { observed } from "../native.js";
import { Random } from "../tasks/random.js";
import { TrainingState } from "../train/step.js";
import { arms, headsOf, type Arm } from "./memory-arms.js";
import type { Cell, CellContext } from "./study.js";

export interface MemorySettings {
  readonly model: ModelOptions;
  /** B. */
  readonly batchSize: number;
  /** T. */
  readonly contextLength: number;
  /** Timed steps of each arm, the arms in turn. */
  readonly rounds: number;
  /** Whether the bytes are also taken operation by operation. */
  readonly timeline: boolean;
}

/** The parts of a step, and where in its operations each begins. */
export const phases = ["trunk forward", "heads", "trunk backward", "optimizer"] as const;
export type Phase = (typeof phases)[number];

export interface Timeline {
  /** Bytes at the most while each operation ran, its workspace included. */
  readonly bytes: readonly number[];
  readonly begins: Readonly<Record<Phase, number>>;
}

export interface ArmResult {
  /** Of a step, by the ledger: everything included. */
  readonly peakBytes: number;
  /** Of the same step on a device that allocates and computes nothing. */
  readonly predictedBytes: number;
  /** Of each round. */
  readonly stepMs: readonly number[];
  /** Of each head, at the same parameters for all arms. */
  readonly losses: readonly number[];
  readonly gradientNorm: number;
  readonly timeline?: Timeline | undefined;
}

export interface MemoryResult {
  readonly parameters: number;
  /** Bytes of parameters, their gradients and the optimizer's moments: the same for all arms. */
  readonly parameterBytes: number;
  readonly arms: Readonly<Record<Arm, ArmResult>>;
}

export async function runMemory(
  { settings, seed }: Cell<MemorySettings>,
  { device, signal }: CellContext,
): Promise<MemoryResult> {
  const { live } = device.memory();
  using step = new Step(settings, device, seed);
  const stepMs = new Map<Arm, number[]>();
  const last = new Map<Arm, StepResult>();
  for (let round = 0; round <= settings.rounds; round++) {
    for (const arm of turned(arms, round)) {
      if (signal?.aborted) throw new ForetokenError("ABORTED", "stopped within a cell", { op: "study" });
      const result = await step.run(arm, live);
      last.set(arm, result);
      if (round > 0) stepMs.set(arm, [...(stepMs.get(arm) ?? []), result.stepMs]); // the first one warms up
    }
  }
  const results = arms.map((arm): [Arm, ArmResult] => {
    const { peakBytes: predictedBytes } = predict(settings, arm, device);
    const timeline = settings.timeline ? step.timeline(arm, live) : undefined;
    return [arm, { ...(last.get(arm) as StepResult), predictedBytes, stepMs: stepMs.get(arm) ?? [], timeline }];
  });
  await device.sync();
  const { parameters, parameterBytes } = predict(settings, "sequential + fused", device);
  return { parameters, parameterBytes, arms: Object.fromEntries(results) as Record<Arm, ArmResult> };
}

export interface Prediction {
  /** Of a training step at the most. */
  readonly peakBytes: number;
  readonly parameterBytes: number;
  readonly parameters: number;
}

/** Bytes of a training step, known before anything is allocated: the same code on a dry device. */
export function predict(settings: MemorySettings, arm: Arm, like: Device): Prediction {
  using device = openDevice("dry", { like });
  using step = new Step(settings, device, undefined);
  for (let i = 0; i < 2; i++) step.enqueue(arm); // gradients are there from the second on
  const { peak, byTag } = device.memory();
  const parameterBytes = byTag.parameter.live + byTag.gradient.live + byTag.optimizer.live;
  return { peakBytes: peak, parameterBytes, parameters: step.model.parameters.count };
}

interface StepResult extends Pick<ArmResult, "peakBytes" | "losses" | "gradientNorm"> {
  readonly stepMs: number;
}

/** A model with all that its training steps need. Learning rate 0: every step sees the same parameters. */
class Step implements Disposable {
  readonly model: LanguageModel;
  private readonly state: TrainingState;
  private readonly batch: Batch;

  constructor(
    settings: MemorySettings,
    private readonly device: Device,
    seed: number | undefined,
  ) {
    this.model = LanguageModel.create(settings.model, { device, seed });
    const { batchSize, contextLength } = settings;
    const shape = { batchSize, contextLength, lookahead: this.model.config.futureTokens };
    this.state = new TrainingState(this.model, shape, {});
    this.batch = seed === undefined ? emptyBatch(shape, 0) : randomBatch(shape, this.model.config.vocabSize, seed);
  }

  enqueue(arm: Arm, around = (heads: () => void): void => heads()): void {
    const weights = this.model.heads.map(() => 1);
    const heads = (run: HeadsRun): void => around(() => headsOf[arm](run));
    this.state.enqueue([this.batch], weights, 0, heads);
  }

  /** One step; bytes above those that were live before. */
  async run(arm: Arm, before: number): Promise<StepResult> {
    this.device.resetPeak();
    const began = performance.now();
    this.enqueue(arm);
    const { sums, gradientNorm } = await this.state.report();
    const stepMs = performance.now() - began;
    const columns = sums.length / this.model.heads.length;
    const losses = this.model.heads.map((_, i) => (sums[i * columns] ?? NaN) / (sums[i * columns + 1] ?? NaN));
    return { peakBytes: this.device.memory().peak - before, losses, gradientNorm, stepMs };
  }

  /** Of the step's operations in the order in which they are enqueued, which is that of the ledger. */
  timeline(arm: Arm, before: number): Timeline {
    const { device } = this;
    const bytes: number[] = [];
    const begins: Record<Phase, number> = { "trunk forward": 0, heads: 0, "trunk backward": 0, optimizer: 0 };
    const around = (heads: () => void): void => {
      begins.heads = bytes.length;
      heads();
      begins["trunk backward"] = bytes.length;
    };
    device.resetPeak();
    observed(
      () => this.enqueue(arm, around),
      (call) => {
        if (bookkeeping.has(call)) return;
        if (call === "gradientNorm") begins.optimizer = bytes.length;
        bytes.push(device.memory().peak - before);
        device.resetPeak();
      },
    );
    return { bytes, begins };
  }

  [Symbol.dispose](): void {
    this.state.dispose();
    this.model.dispose();
  }
}

/** Calls of the addon that compute nothing. */
const bookkeeping = new Set(["allocate", "allocatePacked", "view", "reinterpret", "free", "write", "memory"]);

/** The arms in another order each round, so that none is always behind the same one. */
const turned = <T>(list: readonly T[], by: number): T[] => list.map((_, i) => list[(i + by) % list.length] as T);

/** Uniform tokens, each a target: how many bytes and operations there are does not depend on them. */
function randomBatch(shape: BatchShape, vocabSize: number, seed: number): Batch {
  const empty = emptyBatch(shape, 0);
  const random = new Random([seed]);
  const last = shape.contextLength + shape.lookahead - 1;
  const tokens = empty.tokens.map(() => random.below(vocabSize));
  return { ...empty, tokens, targets: tokens, limit: empty.limit.fill(last), firstKey: empty.firstKey.fill(0) };
}
