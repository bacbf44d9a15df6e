// Models of equal size to compare.
import { openDevice } from "../device.js";
import type { ModelOptions } from "../mtp/config.js";
import { LanguageModel } from "../mtp/model.js";

export function countParameters(model: ModelOptions): number {
  using device = openDevice("dry");
  return LanguageModel.create(model, { device }).parameters.count;
}

/** With the intermediateSize that brings the number of parameters, which is linear in it, nearest to `wanted`. */
export function narrowed(model: ModelOptions, wanted: number): ModelOptions {
  const at = (intermediateSize: number): number => countParameters({ ...model, intermediateSize });
  const each = at(2) - at(1);
  return { ...model, intermediateSize: Math.max(1, Math.round(1 + (wanted - at(1)) / each)) };
}
