// Drawing tokens from logits.
import { native } from "../native.js";
import { empty, type Tensor } from "../tensor.js";
import { checkDType, checkNumber, checkShape } from "./check.js";

/**
 * One token per row of logits (R, V) f32. settings (R, 3) f32 = temperature (0: argmax), top_k (0: all), top_p (1: all);
 * counters (R, 4) i32 = seed low, seed high, request, position: the same counters draw the same token in any batch.
 * With `count` both are (R, count): the best so many of the draw in order, its one token first; past the last −1 and NaN.
 */
export function sample(
  logits: Tensor,
  settings: Tensor,
  counters: Tensor,
  count?: number,
): { token: Tensor; logProbability: Tensor } {
  const [rows = 0] = logits.shape;
  checkShape("sample", "logits", logits, ["R", "V"]);
  checkDType("sample", "logits", logits, "f32");
  checkShape("sample", "settings", settings, [rows, 3]);
  checkDType("sample", "settings", settings, "f32");
  checkShape("sample", "counters", counters, [rows, 4]);
  checkDType("sample", "counters", counters, "i32");
  if (count !== undefined)
    checkNumber("sample", "count", count, Number.isInteger(count) && count >= 1, "a whole number of at least 1");
  const shape = count === undefined ? [rows] : [rows, count];
  const token = empty(shape, { dtype: "i32", device: logits.device });
  const logProbability = empty(shape, { dtype: "f32", device: logits.device });
  native().sample(logits.handle, settings.handle, counters.handle, token.handle, logProbability.handle);
  return { token, logProbability };
}
