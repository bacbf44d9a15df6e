// Element-wise ops: add, scale, cast, and summing in place.
import type { DType } from "../device.js";
import { native } from "../native.js";
import { activeTape, copyOf } from "../tape.js";
import { empty, type Tensor } from "../tensor.js";
import { checkDType, checkFloat, checkSameShape } from "./check.js";

/** f32 and bf16 mix; f64 goes with itself alone. */
const checkAddable = (op: string, argument: string, x: Tensor, to: Tensor): void =>
  to.dtype === "f64" ? checkDType(op, argument, x, "f64") : checkDType(op, argument, x, "f32", "bf16");

/** y = a + b. Equal shapes; y has a's dtype. */
export function add(a: Tensor, b: Tensor): Tensor {
  checkFloat("add", "a", a);
  checkSameShape("add", "b", b, a);
  checkAddable("add", "b", b, a);
  const y = empty(a.shape, { dtype: a.dtype, device: a.device });
  native().add(a.handle, b.handle, y.handle);
  const tape = activeTape();
  if (tape && (tape.wants(a) || tape.wants(b))) {
    tape.record(y, [], (dy) => {
      if (tape.wants(a) && tape.wants(b)) tape.give(b, copyOf(dy.tensor)); // each may be overwritten later on
      if (tape.wants(a)) tape.give(a, dy.take());
      else tape.give(b, dy.take());
    });
  }
  return y;
}

/** y = alpha·x. */
export function scale(x: Tensor, alpha: number): Tensor {
  checkFloat("scale", "x", x);
  const y = empty(x.shape, { dtype: x.dtype, device: x.device });
  native().scale(x.handle, alpha, y.handle);
  const tape = activeTape();
  if (tape?.wants(x)) {
    tape.record(y, [], (dy) => {
      const dx = dy.take();
      native().scale(dx.handle, alpha, dx.handle);
      tape.give(x, dx);
    });
  }
  return y;
}

/** x in another dtype (f32, bf16, f64), rounded to nearest even. */
export function cast(x: Tensor, dtype: DType): Tensor {
  checkFloat("cast", "x", x);
  const y = empty(x.shape, { dtype, device: x.device });
  checkFloat("cast", "dtype", y);
  native().cast(x.handle, y.handle);
  const tape = activeTape();
  if (tape?.wants(x)) {
    tape.record(y, [], (dy) => {
      tape.give(x, dy.take());
    });
  }
  return y;
}

/** y += alpha·x, in place. Not differentiable. */
export function accumulate_(y: Tensor, x: Tensor, alpha = 1): void {
  checkFloat("accumulate_", "y", y);
  checkSameShape("accumulate_", "x", x, y);
  checkAddable("accumulate_", "x", x, y);
  native().accumulate(x.handle, alpha, y.handle);
}

/** target = x, in target's dtype. Equal element counts. Not differentiable. */
export function copyInto(target: Tensor, x: Tensor): void {
  checkSameShape("copy_into", "x", x, target);
  native().cast(x.handle, target.handle);
}

/** y[m] = x[index[m]]. x (R, C), index (M) i32; an index outside [0, R) gives zeros. Not differentiable. */
export function gatherRows(x: Tensor, index: Tensor): Tensor {
  checkDType("gather_rows", "index", index, "i32");
  const y = empty([index.size, x.shape.at(-1) ?? 1], { dtype: x.dtype, device: x.device });
  native().gatherRows(x.handle, index.handle, y.handle);
  return y;
}
