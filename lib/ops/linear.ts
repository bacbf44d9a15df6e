// Matrix products with weights as PyTorch stores them: (out, in).
import { ForetokenError } from "../errors.js";
import { native } from "../native.js";
import { scope } from "../scope.js";
import { activeTape, begin, gradientBuffer, untaped, valueOf, type Tape, type Weight } from "../tape.js";
import { empty, emptyPacked, type Tensor } from "../tensor.js";
import { checkDType, checkFloat, checkShape, dimension } from "./check.js";
import { cast, copyInto } from "./elementwise.js";

export interface LinearOptions {
  /** (N) */
  bias?: Weight | undefined;
  /** (…, N), added to the product: the residual stream. */
  residual?: Tensor | undefined;
  /** Whoever needs y for its backward pass has it computed again instead of keeping it. */
  recompute?: boolean | undefined;
  /** dtype of the result: x's, or f32 for bf16 operands. */
  dtype?: "f32" | undefined;
}

/** y = x·weightᵀ + bias + residual. x (…, K), weight (N, K), y (…, N); sums in f32. A row's bits do not depend on the number of rows. */
export function linear(x: Tensor, weight: Weight, options: LinearOptions = {}): Tensor {
  const w = valueOf(weight);
  checkFloat("linear", "x", x);
  checkShape("linear", "weight", w, ["N", dimension("linear", "x", x, 1)]);
  checkDType("linear", "weight", w, x.dtype);
  const columns = dimension("linear", "weight", w, 2);
  const bias = options.bias && valueOf(options.bias);
  if (bias) {
    checkShape("linear", "bias", bias, [columns]);
    checkDType("linear", "bias", bias, x.dtype);
  }
  const shape = [...x.shape.slice(0, -1), columns];
  if (options.residual) {
    checkShape("linear", "residual", options.residual, shape);
    checkDType("linear", "residual", options.residual, x.dtype);
  }
  const tape = activeTape();
  const recorded = tape && linearNeedsGradient(tape, x, weight, options);
  if (options.recompute && options.residual) {
    const details = { op: "linear", argument: "recompute", wanted: "no residual beside it", got: "one" };
    throw new ForetokenError("BAD_ARGUMENT", details);
  }
  if (recorded && w.layout === "packed") {
    throw new ForetokenError("BAD_ARGUMENT", {
      op: "linear",
      argument: "weight",
      wanted: "a row-major weight where gradients are recorded",
      got: "a packed one",
    });
  }
  const forward = (from: Tensor): Tensor => {
    const y = empty(shape, { dtype: options.dtype ?? x.dtype, device: x.device });
    native().linear(from.handle, w.handle, bias?.handle ?? 0, options.residual?.handle ?? 0, y.handle);
    return y;
  };
  const y = forward(x);
  if (recorded) {
    const savedX = tape.save(x);
    tape.record(
      y,
      [savedX],
      (dy) => {
        linearBackward(tape, dy.tensor, x, savedX.tensor, weight, options.bias);
        if (tape.wants(options.residual)) tape.give(options.residual, dy.take());
      },
      options.recompute ? { recompute: () => untaped(() => forward(savedX.tensor)) } : {},
    );
  }
  return y;
}

function linearNeedsGradient(tape: Tape, x: Tensor, weight: Weight, { bias, residual }: LinearOptions): boolean {
  return tape.wants(x) || tape.wants(residual) || tape.wantsWeight(weight) || tape.wantsWeight(bias);
}

function linearBackward(
  tape: Tape,
  dy: Tensor,
  x: Tensor,
  savedX: Tensor,
  weight: Weight,
  bias: Weight | undefined,
): void {
  const w = valueOf(weight);
  const upstream = dy.dtype === w.dtype ? dy : cast(dy, w.dtype);
  if (tape.wantsWeight(weight) || tape.wantsWeight(bias)) {
    const dw = tape.wantsWeight(weight) ? tape.weightSink(weight) : gradientBuffer(w);
    const db = bias && tape.wantsWeight(bias) ? tape.weightSink(bias) : undefined;
    const accumulate = begin(dw, db);
    const dbias = db?.tensor.handle ?? 0;
    native().linearBackwardWeight(upstream.handle, savedX.handle, dw.tensor.handle, dbias, accumulate);
  }
  if (tape.wants(x)) {
    const dx = tape.sink(x);
    native().linearBackwardInput(upstream.handle, w.handle, dx.tensor.handle, begin(dx));
  }
  if (upstream !== dy) upstream.dispose();
}

/** The weight in the order that `linear` reads fastest; same results bit for bit. For inference. */
export function packWeight(weight: Weight): Tensor {
  const w = valueOf(weight);
  checkShape("pack_weight", "weight", w, ["N", "K"]);
  const packed = emptyPacked(w.shape[0] ?? 0, w.shape[1] ?? 0, { dtype: w.dtype, device: w.device, tag: "parameter" });
  native().packWeight(w.handle, packed.handle);
  return packed;
}

/**
 * Weights (N₁, K), (N₂, K), … that multiply the same x, packed as one (N₁ + N₂ + …, K): of few rows each product waits for all
 * threads, so that fewer of them are faster. Columns of the result are those of a product of their own, bit for bit.
 */
export function packJointly(weights: readonly Weight[]): Tensor {
  const values = weights.map(valueOf);
  const [first] = values;
  if (!first) throw new RangeError("no weights");
  const { dtype, device } = first;
  const columns = dimension("pack_weight", "weight", first, 1);
  const rows = values.map((weight) => dimension("pack_weight", "weight", weight, 2));
  return scope(() => {
    const whole = empty([rows.reduce((sum, count) => sum + count, 0), columns], { dtype, device });
    let at = 0;
    for (const weight of values) {
      copyInto(whole.view(weight.shape, at), weight);
      at += weight.size;
    }
    return packWeight(whole);
  });
}
