// The door: shapes and dtypes are checked here, once, with the caller's stack; kernels trust.
import type { DType } from "../device.js";
import { ForetokenError } from "../errors.js";
import type { Tensor } from "../tensor.js";

const show = (shape: readonly number[]): string => `(${shape.join(", ")})`;

/** Throws SHAPE_MISMATCH unless the tensor has this shape; a string in it names a free dimension. */
export function checkShape(op: string, argument: string, tensor: Tensor, wanted: readonly (number | string)[]): void {
  const { shape } = tensor;
  const fits =
    shape.length === wanted.length && wanted.every((size, i) => typeof size === "string" || size === shape[i]);
  if (!fits) {
    throw new ForetokenError("SHAPE_MISMATCH", {
      op,
      argument,
      wanted: `shape (${wanted.join(", ")})`,
      got: show(shape),
    });
  }
}

/** Throws DTYPE_MISMATCH unless the tensor's dtype is one of these. */
export function checkDType(op: string, argument: string, tensor: Tensor, ...wanted: readonly DType[]): void {
  if (!wanted.includes(tensor.dtype)) {
    throw new ForetokenError("DTYPE_MISMATCH", { op, argument, wanted: wanted.join(" or "), got: tensor.dtype });
  }
}

/** Throws DTYPE_MISMATCH unless the tensor holds numbers that kernels compute with. */
export const checkFloat = (op: string, argument: string, tensor: Tensor): void =>
  checkDType(op, argument, tensor, "f32", "bf16", "f64");

/** Throws unless both tensors have the same number of elements in the same shape. */
export const checkSameShape = (op: string, argument: string, tensor: Tensor, like: Tensor): void =>
  checkShape(op, argument, tensor, like.shape);

/** The i-th dimension from the end (1 = last); throws when the tensor has fewer. */
export function dimension(op: string, argument: string, tensor: Tensor, fromEnd: number): number {
  const size = tensor.shape.at(-fromEnd);
  if (size === undefined) {
    throw new ForetokenError("SHAPE_MISMATCH", {
      op,
      argument,
      wanted: `at least ${fromEnd} dimension${fromEnd > 1 ? "s" : ""}`,
      got: show(tensor.shape),
    });
  }
  return size;
}

/** Throws BAD_ARGUMENT unless the number satisfies the condition described by `wanted`. */
export function checkNumber(op: string, argument: string, value: number, holds: boolean, wanted: string): void {
  if (!holds) throw new ForetokenError("BAD_ARGUMENT", { op, argument, wanted, got: String(value) });
}
