// The two passes over a batch: training (losses and gradients of all heads) and evaluation (losses alone).
import { owning, scope } from "../scope.js";
import { gradientBuffer, Tape, type GradientBuffer } from "../tape.js";
import { empty, zeros, type Tensor } from "../tensor.js";
import { linearCrossEntropyTrain, tokenLosses, type LossSettings } from "../ops/cross-entropy.js";
import { METRIC_COLUMNS, multiTokenMetrics } from "../ops/metrics.js";
import { copyInto } from "../ops/elementwise.js";
import type { DeviceBatch } from "./batch.js";
import { sequentialHeadBackward, settled, type Head } from "./heads.js";
import type { LanguageModel, PredictionHead } from "./model.js";

/** Device buffers that live as long as the training: what a pass reads from step to step, and what it reports. */
export class PassState {
  /** (n) f32: each head's weight over its number of valid targets in the optimizer step. */
  readonly scale: Tensor;
  /** (n, 8) f32: see `multiTokenMetrics`. */
  readonly sums: Tensor;
  /** (4) i32: [token out of range, step refused, 0, 0]. */
  readonly status: Tensor;

  constructor(model: LanguageModel) {
    const { device, heads } = model;
    const buffer = (shape: number[], dtype: "f32" | "f64" | "i32"): Tensor =>
      zeros(shape, { dtype, device, tag: "data" });
    const real = model.dtype === "f64" ? "f64" : "f32";
    [this.scale, this.sums, this.status] = owning(() => [
      buffer([heads.length], real),
      buffer([heads.length, METRIC_COLUMNS], real),
      buffer([4], "i32"),
    ]);
  }

  dispose(): void {
    for (const buffer of [this.scale, this.sums, this.status]) buffer.dispose();
  }
}

/** What a pass over the heads is given: losses and argmaxes go to `rows`, the gradient at the trunk's output to `dz`. */
export interface HeadsRun {
  readonly model: LanguageModel;
  readonly batch: DeviceBatch;
  readonly state: PassState;
  readonly settings: LossSettings;
  readonly rows: HeadRows;
  /** (B, T, d): the trunk's output. */
  readonly z: Tensor;
  readonly dz: GradientBuffer;
}

/** One head at a time, each with its fused loss: nothing of it is left when the next begins. */
export function trainHeads(run: HeadsRun): void {
  const heads = run.model.headsInOrder.map((head) => trainedHead(run, head));
  sequentialHeadBackward(heads, run.model.topology, run.z, run.dz);
}

/**
 * Losses and gradients of all heads over one (micro-)batch: trunk forward, cut; the heads; trunk backward once. Gradients
 * are added to the parameters', metrics to `state.sums` (stored when `first`).
 */
export function trainPass(
  model: LanguageModel,
  batch: DeviceBatch,
  state: PassState,
  first: boolean,
  settings: LossSettings = {},
  heads: (run: HeadsRun) => void = trainHeads,
): void {
  scope(() => {
    const trunk = new Tape();
    try {
      const context = { firstKey: batch.firstKey, status: state.status };
      const z = trunk.run(() => model.trunk.forward(batch.tokens, batch.length, context));
      const dz = gradientBuffer(z);
      const rows = headRows(model, batch);
      heads({ model, batch, state, settings, rows, z, dz });
      multiTokenMetrics(rows.loss, rows.argmax, { tokens: batch.targets, limit: batch.limit }, state.sums, !first);
      for (const tensor of [rows.loss, rows.argmax, z]) tensor.dispose();
      trunk.give(z, settled(dz));
      trunk.backward([]);
    } finally {
      trunk.dispose();
    }
  });
}

/** Losses of all heads over one batch, added to `state.sums` (stored when `first`); nothing is saved. */
export function evaluatePass(
  model: LanguageModel,
  batch: DeviceBatch,
  state: PassState,
  first: boolean,
  settings: LossSettings = {},
): void {
  scope(() => {
    const rows = headRows(model, batch);
    const context = { firstKey: batch.firstKey, status: state.status };
    const z = model.trunk.forward(batch.tokens, batch.length, context);
    model.mapHeads(z, context, (head, hidden) => {
      const { loss, argmax } = tokenLosses(hidden, head.unembedding.weight, targetsOf(head, batch), {
        ...settings,
        bias: head.unembedding.bias,
      });
      copyInto(rows.lossOf(head), loss);
      copyInto(rows.argmaxOf(head), argmax);
    });
    multiTokenMetrics(rows.loss, rows.argmax, { tokens: batch.targets, limit: batch.limit }, state.sums, !first);
  });
}

export const targetsOf = (
  head: PredictionHead,
  batch: DeviceBatch,
): { tokens: Tensor; limit: Tensor; shift: number } => ({
  tokens: batch.targets,
  limit: batch.limit,
  shift: head.ahead,
});

export interface HeadRows {
  /** (n, B·T) */
  readonly loss: Tensor;
  readonly argmax: Tensor;
  lossOf(head: PredictionHead): Tensor;
  argmaxOf(head: PredictionHead): Tensor;
}

/** Room for every head's loss and argmax of every row. */
function headRows({ heads, device, dtype }: LanguageModel, { batchSize, length }: DeviceBatch): HeadRows {
  const count = batchSize * length;
  const loss = empty([heads.length, count], { dtype: dtype === "f64" ? "f64" : "f32", device });
  const argmax = empty([heads.length, count], { dtype: "i32", device });
  return {
    loss,
    argmax,
    lossOf: (head) => loss.view([count], (head.ahead - 1) * count),
    argmaxOf: (head) => argmax.view([count], (head.ahead - 1) * count),
  };
}

/** A head as the backward pass sees it, its loss fused. */
export function trainedHead({ model, batch, state, rows, settings }: HeadsRun, head: PredictionHead): Head {
  const { weight, bias } = head.unembedding;
  return {
    forward: (input) => head.module.forward(input, { firstKey: batch.firstKey }),
    finish: (output) => model.finish(output),
    loss: (hidden) =>
      linearCrossEntropyTrain(hidden, weight, weight, bias, targetsOf(head, batch), {
        ...settings,
        bias,
        scale: state.scale.view([1], head.ahead - 1),
        loss: rows.lossOf(head),
        argmax: rows.argmaxOf(head),
      }),
  };
}
