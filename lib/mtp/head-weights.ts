// λ_i: what each head's mean loss counts for in the total.
import { ForetokenError } from "../errors.js";

/**
 * "equal": 1 each, the paper's plain sum (arXiv 2404.19737); "mean": 1/n each; geometric: γ^(i−1); a list; or a schedule
 * over steps (counted from 1).
 */
export type HeadWeights =
  "equal" | "mean" | { readonly geometric: number } | readonly number[] | ((step: number) => readonly number[]);

const refuse = (wanted: string, got: string): never => {
  throw new ForetokenError("BAD_OPTION", { op: "train", argument: "headWeights", wanted, got });
};

/** The n weights at a step. */
export function headWeightsAt(weights: HeadWeights, n: number, step: number): number[] {
  const list = resolve(weights, n, step);
  if (list.length !== n) refuse(`${n} weights, one per head`, String(list.length));
  for (const weight of list) if (!Number.isFinite(weight) || weight < 0) refuse("finite weights ≥ 0", String(weight));
  return [...list];
}

function resolve(weights: HeadWeights, n: number, step: number): readonly number[] {
  const each = (weight: (i: number) => number): number[] => Array.from({ length: n }, (_, i) => weight(i));
  if (weights === "equal") return each(() => 1);
  if (weights === "mean") return each(() => 1 / n);
  if (typeof weights === "function") return weights(step);
  if ("geometric" in weights) return each((i) => weights.geometric ** i);
  if (Array.isArray(weights)) return weights as readonly number[];
  return refuse('"equal", "mean", { geometric }, a list or a function of the step', JSON.stringify(weights));
}
