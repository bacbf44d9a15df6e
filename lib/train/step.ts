// Everything a training step keeps on the device, and the step itself. The trainer and the dry run that predicts its
// memory run this same code.
import type { Batch, BatchShape } from "../io/batch.js";
import { validTargets } from "../io/batch.js";
import { DeviceBatch } from "../mtp/batch.js";
import type { LanguageModel } from "../mtp/model.js";
import { PassState, trainHeads, trainPass } from "../mtp/pass.js";
import { AdamW, type AdamWOptions } from "./optimizer.js";

/** What a step reports: sums (n, 8) of `multiTokenMetrics`, the gradient norm, and the status flags. */
export interface StepReport {
  readonly sums: ArrayLike<number>;
  readonly gradientNorm: number;
  /** A token lay outside the vocabulary. */
  readonly badToken: boolean;
}

export class TrainingState {
  readonly optimizer: AdamW;
  private readonly batch: DeviceBatch;
  private readonly pass: PassState;

  constructor(
    private readonly model: LanguageModel,
    shape: BatchShape,
    options: AdamWOptions,
  ) {
    this.optimizer = new AdamW(model.parameters.all, options);
    this.batch = new DeviceBatch(model.device, shape);
    this.pass = new PassState(model);
  }

  /**
   * Enqueues one optimizer step over these micro-batches. A head's loss is the mean over its valid targets in all of
   * them, so that 1 batch of 16 and 2 of 8 give equal gradients. `heads`: the pass over the heads.
   */
  enqueue(batches: readonly Batch[], headWeights: readonly number[], learningRate: number, heads = trainHeads): void {
    const { model, batch, pass, optimizer } = this;
    const valid = headWeights.map(() => 0);
    for (const each of batches)
      for (const [i, count] of validTargets(each).entries()) valid[i] = (valid[i] ?? 0) + count;
    pass.scale.write(headWeights.map((weight, i) => weight / Math.max(1, valid[i] ?? 0)));
    model.parameters.clearGradients();
    for (const [i, each] of batches.entries()) {
      batch.write(each);
      trainPass(model, batch, pass, i === 0, {}, heads);
    }
    optimizer.step(learningRate, pass.status);
  }

  /** Waits for the enqueued step and reads what it reports. */
  async report(): Promise<StepReport> {
    const { pass, optimizer } = this;
    const [sums, norm, status] = await Promise.all([pass.sums.toFloats(), optimizer.norm.item(), pass.status.data()]);
    return { sums, gradientNorm: norm, badToken: status[0] !== 0 };
  }

  dispose(): void {
    this.optimizer.dispose();
    this.batch.dispose();
    this.pass.dispose();
    for (const parameter of this.model.parameters.all) parameter.releaseGradient();
  }
}
