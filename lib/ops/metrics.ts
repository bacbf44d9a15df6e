// Per-head figures from the loss kernel's arrays, at no extra pass.
import { native } from "../native.js";
import type { Tensor } from "../tensor.js";
import { checkDType, checkShape } from "./check.js";
import type { Targets } from "./cross-entropy.js";

/** Columns of the sums that `multiTokenMetrics` adds up per head. */
export const METRIC_COLUMNS = 8;

/** Adds to sums (n, 8) f32 what kernels.h lists, from loss and argmax (n, R). */
export function multiTokenMetrics(
  loss: Tensor,
  argmax: Tensor,
  targets: Omit<Targets, "shift">,
  sums: Tensor,
  accumulate: boolean,
): void {
  const op = "multi_token_metrics";
  const [heads = 0, rows = 0] = loss.shape;
  checkDType(op, "loss", loss, "f32", "f64");
  checkShape(op, "argmax", argmax, [heads, rows]);
  checkDType(op, "argmax", argmax, "i32");
  checkShape(op, "sums", sums, [heads, METRIC_COLUMNS]);
  checkDType(op, "sums", sums, loss.dtype);
  native().multiTokenMetrics(
    loss.handle,
    argmax.handle,
    targets.tokens.handle,
    targets.limit?.handle ?? 0,
    sums.handle,
    accumulate,
  );
}
