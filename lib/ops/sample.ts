// Drawing tokens from logits.
import { native } from "../native.js";
import { empty, type Tensor } from "../tensor.js";
import { checkDType, checkShape } from "./check.js";

/**
 * One token per row of logits (R, V) f32. settings (R, 3) f32 = temperature (0: argmax), top_k (0: all), top_p (1: all);
 * counters (R, 4) i32 = seed low, seed high, request, position: the same counters draw the same token in any batch.
 */
export function sample(logits: Tensor, settings: Tensor, counters: Tensor): { token: Tensor; logProbability: Tensor } {
  const [rows = 0] = logits.shape;
  checkShape("sample", "logits", logits, ["R", "V"]);
  checkDType("sample", "logits", logits, "f32");
  checkShape("sample", "settings", settings, [rows, 3]);
  checkDType("sample", "settings", settings, "f32");
  checkShape("sample", "counters", counters, [rows, 4]);
  checkDType("sample", "counters", counters, "i32");
  const token = empty([rows], { dtype: "i32", device: logits.device });
  const logProbability = empty([rows], { dtype: "f32", device: logits.device });
  native().sample(logits.handle, settings.handle, counters.handle, token.handle, logProbability.handle);
  return { token, logProbability };
}
