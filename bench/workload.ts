// The two jobs that figures are given for, their batches, and one side of a comparison: our own training step.
import type { Device } from "../lib/device.js";
import { emptyBatch, type Batch, type BatchShape } from "../lib/io/batch.js";
import { sameSize, type ModelOptions } from "../lib/mtp/config.js";
import { LanguageModel } from "../lib/mtp/model.js";
import { headMetrics } from "../lib/train/metrics.js";
import { TrainingState } from "../lib/train/step.js";

export type ComputeDType = "f32" | "bf16";

export interface Job {
  readonly name: string;
  readonly config: ModelOptions & { readonly vocabSize: number; readonly futureTokens: number };
  readonly batchSize: number;
  readonly contextLength: number;
}

const width = { hiddenSize: 256, intermediateSize: 704, numAttentionHeads: 4, maxPositions: 256, futureTokens: 4 };
const rows = { batchSize: 8, contextLength: 256 };

/** d = 256, 2,048 tokens per step, four heads: a large vocabulary and a byte vocabulary. */
export const jobs: readonly Job[] = [
  { name: "V=32000, 3 trunk layers + 4 heads", config: { ...width, vocabSize: 32000, trunkLayers: 3 }, ...rows },
  { name: "V=256, 5 trunk layers + 4 heads", config: { ...width, vocabSize: 256, trunkLayers: 5 }, ...rows },
];

/** The job at a size that runs in well under a second on any machine: it shows that the bench works, nothing else. */
export const smokeJob: Job = {
  name: "smoke",
  config: { ...width, hiddenSize: 32, intermediateSize: 48, numAttentionHeads: 2, vocabSize: 61, trunkLayers: 1 },
  batchSize: 2,
  contextLength: 16,
};

/** The job with n heads: of equal parameters, or on the same trunk. */
export function withHeads(job: Job, n: number, trunk: "same size" | "same trunk"): Job {
  const sized = trunk === "same size" ? sameSize(job.config, n) : job.config;
  const config = { ...job.config, ...sized, vocabSize: job.config.vocabSize, futureTokens: n };
  return { ...job, name: `n=${n}, ${config.trunkLayers} trunk layers`, config };
}

export const batchShape = ({ config, batchSize, contextLength }: Job): BatchShape => ({
  batchSize,
  contextLength,
  lookahead: config.futureTokens,
});

/** The number-th batch: random tokens in one document, so that every head has every target. */
export function randomBatch(job: Job, number: number): Batch {
  const batch = emptyBatch(batchShape(job), 0);
  let state = (number + 1) * 0x9e3779b1;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return ((state >>> 8) % job.config.vocabSize) | 0;
  };
  for (let i = 0; i < batch.tokens.length; i++) batch.tokens[i] = next();
  batch.targets.set(batch.tokens);
  batch.limit.fill(batch.contextLength + batch.lookahead - 1);
  batch.firstKey.fill(0);
  return batch;
}

export const optimizer = { learningRate: 1e-3, betas: [0.9, 0.95], eps: 1e-8, weightDecay: 0.1, clipNorm: 1 } as const;

/** Our training step, as the trainer runs it. Only the parameters exist before the first step. */
export class OurTraining implements Disposable {
  readonly model: LanguageModel;
  private state: TrainingState | undefined;
  private readonly headWeights: readonly number[];

  constructor(
    private readonly job: Job,
    dtype: ComputeDType,
    device: Device,
  ) {
    this.model = LanguageModel.create(job.config, { device, dtype, seed: 1 });
    this.headWeights = this.model.heads.map(() => 1);
  }

  /** One step; resolves to the sum of the heads' mean losses before it. */
  async step(batch: Batch): Promise<number> {
    this.state ??= new TrainingState(this.model, batchShape(this.job), optimizer);
    this.state.enqueue([batch], this.headWeights, optimizer.learningRate);
    const { sums } = await this.state.report();
    return headMetrics(sums, this.headWeights).loss;
  }

  [Symbol.dispose](): void {
    this.state?.dispose();
    this.model.dispose();
  }
}
