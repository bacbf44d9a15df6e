// Linear cross-entropy, fused: the product with the unembedding, softmax and loss without a (T, V) array of logits
// (arXiv 2411.09009, 2410.10989).
import { ForetokenError } from "../errors.js";
import { native } from "../native.js";
import { activeTape, begin, type GradientBuffer, sumDType, valueOf, type Weight } from "../tape.js";
import { empty, type Tensor } from "../tensor.js";
import { checkDType, checkFloat, checkNumber, checkShape, dimension } from "./check.js";

/** Settings of the loss that cost no extra pass over the logits. */
export interface LossSettings {
  /** ε: the share of the target spread evenly over the vocabulary. Default 0. */
  labelSmoothing?: number | undefined;
  /** Weight of lse², which keeps logits from drifting. Default 0. */
  zLoss?: number | undefined;
  /** Factor on the logits. Default 1. */
  logitScale?: number | undefined;
  /** c in c·tanh(z/c); 0: none. Default 0. */
  softcap?: number | undefined;
  /** (V), added to the logits. */
  bias?: Weight | undefined;
}

/** Which token is the target of which row: targets[b, t + shift], ignored where negative or beyond limit[b, t]. */
export interface Targets {
  /** (B, S) i32. */
  readonly tokens: Tensor;
  /** (B, T) i32: the last position of the document that a position belongs to. */
  readonly limit?: Tensor | undefined;
  readonly shift: number;
}

const settingsOf = (s: LossSettings): [number, number, number, number] => [
  s.labelSmoothing ?? 0,
  s.zLoss ?? 0,
  s.logitScale ?? 1,
  s.softcap ?? 0,
];

/** Throws SHAPE_MISMATCH or DTYPE_MISMATCH unless every one of the rows has a place among the targets. */
export function checkTargets(op: string, rows: number, targets: Targets): void {
  checkDType(op, "targets", targets.tokens, "i32");
  checkShape(op, "targets", targets.tokens, ["B", "S"]);
  const [batch = 1, stored = 0] = targets.tokens.shape;
  const length = rows / batch;
  checkNumber(
    op,
    "shift",
    targets.shift,
    Number.isInteger(targets.shift) && targets.shift >= 0,
    "a non-negative integer",
  );
  if (!Number.isInteger(length) || length + targets.shift > stored) {
    throw new ForetokenError("SHAPE_MISMATCH", {
      op,
      argument: "targets",
      wanted: `(B, S) with B dividing ${rows} rows and S ≥ rows/B + ${targets.shift}`,
      got: `(${batch}, ${stored})`,
    });
  }
  if (targets.limit) {
    checkDType(op, "limit", targets.limit, "i32");
    checkShape(op, "limit", targets.limit, [batch, length]);
  }
}

function check(op: string, hidden: Tensor, weight: Tensor, targets: Targets, settings: LossSettings): number {
  checkFloat(op, "hidden", hidden);
  const width = dimension(op, "hidden", hidden, 1);
  checkShape(op, "weight", weight, ["V", width]);
  checkDType(op, "weight", weight, hidden.dtype);
  const rows = hidden.size / width;
  checkTargets(op, rows, targets);
  const { bias, labelSmoothing = 0, zLoss = 0, softcap = 0 } = settings;
  if (bias) {
    checkShape(op, "bias", valueOf(bias), [weight.shape[0] ?? 0]);
    checkDType(op, "bias", valueOf(bias), hidden.dtype, sumDType(hidden.dtype));
  }
  checkNumber(op, "labelSmoothing", labelSmoothing, labelSmoothing >= 0 && labelSmoothing < 1, "a number in [0, 1)");
  checkNumber(op, "zLoss", zLoss, zLoss >= 0, "a number ≥ 0");
  checkNumber(op, "softcap", softcap, softcap >= 0, "a number ≥ 0");
  return rows;
}

export interface TokenLosses {
  /** (R) f32: −log P(target), 0 where ignored. */
  readonly loss: Tensor;
  /** (R) f32: log-sum-exp of the logits. */
  readonly lse: Tensor;
  /** (R) i32: the likeliest token. */
  readonly argmax: Tensor;
  /** (R) i32: how many tokens are likelier than the target (0: the target is first); −1 where ignored. */
  readonly rank: Tensor;
  /** (R) f32: entropy of the distribution, in nats. */
  readonly entropy: Tensor;
}

/** Loss and statistics of every row, 2TdV FLOP. hidden (…, d), weight (V, d). Not differentiable. */
export function tokenLosses(
  hidden: Tensor,
  weight: Weight,
  targets: Targets,
  settings: LossSettings = {},
): TokenLosses {
  const w = valueOf(weight);
  const rows = check("linear_cross_entropy", hidden, w, targets, settings);
  const column = (dtype: "f32" | "f64" | "i32"): Tensor => empty([rows], { dtype, device: hidden.device });
  const real = sumDType(hidden.dtype) as "f32" | "f64";
  const out = {
    loss: column(real),
    lse: column(real),
    argmax: column("i32"),
    rank: column("i32"),
    entropy: column(real),
  };
  const bias = settings.bias ? valueOf(settings.bias).handle : 0;
  native().linearCrossEntropy(
    hidden.handle,
    w.handle,
    bias,
    targets.tokens.handle,
    targets.limit?.handle ?? 0,
    targets.shift,
    ...settingsOf(settings),
    out.loss.handle,
    out.lse.handle,
    out.argmax.handle,
    out.rank.handle,
    out.entropy.handle,
  );
  return out;
}

export interface LinearCrossEntropyOptions extends LossSettings {
  /** Targets with this (negative) value are ignored. Default −100; every negative target is. */
  ignoreIndex?: number | undefined;
  /** mean: over valid targets, weighted. Default "mean". */
  reduction?: "mean" | "sum" | "none" | undefined;
  /** (R) f32: weight of each token. */
  weight?: Tensor | undefined;
}

/**
 * Cross-entropy of softmax(hidden·unembeddingᵀ) against targets (…) i32, differentiable. The result has one element, or
 * one per token with reduction "none". Forward keeps only the row log-sum-exp; backward recomputes logits in blocks.
 */
export function linearCrossEntropy(
  hidden: Tensor,
  unembedding: Weight,
  targets: Tensor,
  options: LinearCrossEntropyOptions = {},
): Tensor {
  const op = "linear_cross_entropy";
  const w = valueOf(unembedding);
  const { ignoreIndex = -100, reduction = "mean" } = options;
  checkNumber(op, "ignoreIndex", ignoreIndex, ignoreIndex < 0, "a negative number");
  const where: Targets = { tokens: targets.view([1, targets.size]), shift: 0 };
  const rows = check(op, hidden, w, where, options);
  checkShape(op, "targets", targets, hidden.shape.slice(0, -1));
  if (options.weight) {
    checkShape(op, "weight", options.weight, [rows]);
    checkDType(op, "weight", options.weight, sumDType(hidden.dtype));
  }
  const device = hidden.device;
  const dtype = sumDType(hidden.dtype);
  const loss = empty([rows], { dtype, device });
  const lse = empty([rows], { dtype, device });
  const bias = options.bias && valueOf(options.bias);
  native().linearCrossEntropy(
    hidden.handle,
    w.handle,
    bias?.handle ?? 0,
    where.tokens.handle,
    0,
    0,
    ...settingsOf(options),
    loss.handle,
    lse.handle,
    0,
    0,
    0,
  );
  // share[r]: what row r's loss counts for in the result.
  const share = empty([rows], { dtype, device });
  const total = empty([1], { dtype, device });
  native().reduceLoss(
    loss.handle,
    where.tokens.handle,
    options.weight?.handle ?? 0,
    reduction === "mean",
    total.handle,
    share.handle,
  );
  let result = total;
  if (reduction === "none") {
    native().multiply(loss.handle, share.handle, loss.handle);
    result = loss.view(targets.shape);
  }
  const tape = activeTape();
  if (tape && (tape.wants(hidden) || tape.wantsWeight(unembedding) || tape.wantsWeight(options.bias))) {
    const [sh, st, sl, ss] = [tape.save(hidden), tape.save(where.tokens), tape.save(lse), tape.save(share)] as const;
    tape.record(result, [sh, st, sl, ss], (dy) => {
      const upstream = empty([rows], { dtype, device });
      native().multiply(ss.tensor.handle, dy.tensor.handle, upstream.handle);
      const dh = tape.wants(hidden) ? tape.sink(hidden) : undefined;
      const dw = tape.wantsWeight(unembedding) ? tape.weightSink(unembedding) : undefined;
      const db = options.bias && tape.wantsWeight(options.bias) ? tape.weightSink(options.bias) : undefined;
      native().linearCrossEntropyBackward(
        sh.tensor.handle,
        w.handle,
        bias?.handle ?? 0,
        st.tensor.handle,
        0,
        0,
        ...settingsOf(options),
        sl.tensor.handle,
        upstream.handle,
        dh?.tensor.handle ?? 0,
        dw?.tensor.handle ?? 0,
        db?.tensor.handle ?? 0,
        begin(dh),
        begin(dw, db),
      );
    });
  }
  for (const temporary of [loss, lse, share, total, where.tokens]) if (temporary !== result) temporary.dispose();
  return result;
}

export interface TrainLossOptions extends LossSettings {
  /** (1) f32 on the device: the head's weight over its number of valid targets. */
  readonly scale: Tensor;
  /** (R) f32. */
  readonly rowWeight?: Tensor | undefined;
  /** (R) f32 and i32: where loss and argmax of every row go. */
  readonly loss: Tensor;
  readonly argmax: Tensor;
}

/**
 * The terminal form for training: loss and gradients of scale·Σ_r loss[r] in one pass. Adds to the unembedding's (and
 * bias's) gradient and returns hidden's. Never on a tape: it knows every weight already.
 */
export function linearCrossEntropyTrain(
  hidden: Tensor,
  unembedding: Weight,
  dUnembedding: GradientBuffer,
  dBias: GradientBuffer | undefined,
  targets: Targets,
  options: TrainLossOptions,
): Tensor {
  const op = "linear_cross_entropy_train";
  const w = valueOf(unembedding);
  const rows = check(op, hidden, w, targets, options);
  const sums = sumDType(hidden.dtype);
  checkShape(op, "scale", options.scale, [1]);
  checkDType(op, "scale", options.scale, sums);
  if (options.rowWeight) {
    checkShape(op, "rowWeight", options.rowWeight, [rows]);
    checkDType(op, "rowWeight", options.rowWeight, sums);
  }
  checkShape(op, "loss", options.loss, [rows]);
  checkDType(op, "loss", options.loss, sums);
  checkShape(op, "argmax", options.argmax, [rows]);
  checkDType(op, "argmax", options.argmax, "i32");
  const dhidden = empty(hidden.shape, { dtype: hidden.dtype, device: hidden.device });
  native().linearCrossEntropyTrain(
    hidden.handle,
    w.handle,
    options.bias ? valueOf(options.bias).handle : 0,
    targets.tokens.handle,
    targets.limit?.handle ?? 0,
    targets.shift,
    ...settingsOf(options),
    options.scale.handle,
    options.rowWeight?.handle ?? 0,
    options.loss.handle,
    options.argmax.handle,
    dhidden.handle,
    dUnembedding.tensor.handle,
    dBias?.tensor.handle ?? 0,
    false,
    begin(dUnembedding, dBias),
  );
  return dhidden;
}
