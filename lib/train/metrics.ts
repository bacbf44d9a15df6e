// Figures of a step, per head, from the kernel's sums.
import { METRIC_COLUMNS } from "../ops/metrics.js";

/** Figures per head, head 1 first. */
export interface HeadMetrics {
  /** Σ λ_i·losses[i]. */
  readonly loss: number;
  /** Mean over valid targets, nats; NaN (null in JSON) where there were none. */
  readonly losses: readonly number[];
  readonly accuracies: readonly number[];
  /** P(head i right | heads 1..i−1 right); null when the condition was never met. */
  readonly conditionalAccuracies: readonly (number | null)[];
  /** Share of positions where heads 2..i all agree with what head 1 says later; 1 for head 1. */
  readonly acceptances: readonly (number | null)[];
  /** 1 + Σ_{i≥2} acceptances[i]: tokens per forward of greedy self-speculation, teacher-forced. */
  readonly expectedTokensPerForward: number;
}

/** One optimizer step, as the trainer yields it and metrics.jsonl keeps it. */
export interface StepMetrics extends HeadMetrics {
  /** From 1. */
  readonly step: number;
  /** Positions read since the start. */
  readonly tokens: number;
  readonly gradientNorm: number;
  readonly learningRate: number;
  readonly tokensPerSecond: number;
  readonly stepMs: number;
  /** Bytes on the device now, at the most since the start, and as predicted. */
  readonly liveBytes: number;
  readonly peakBytes: number;
  readonly predictedPeakBytes: number;
}

/** One evaluation over held-out data. */
export interface EvalMetrics extends HeadMetrics {
  readonly split: "eval";
  readonly step: number;
  /** Valid targets of head 1. */
  readonly tokens: number;
}

/** The figures from `multiTokenMetrics`' sums (n, 8), with the heads' weights λ. */
export function headMetrics(sums: ArrayLike<number>, weights: readonly number[]): HeadMetrics {
  const column = (head: number, k: number): number => sums[head * METRIC_COLUMNS + k] ?? 0;
  const share = (head: number, part: number, whole: number): number | null =>
    column(head, whole) > 0 ? column(head, part) / column(head, whole) : null;
  const losses = weights.map((_, i) => share(i, 0, 1) ?? NaN);
  const acceptances = weights.map((_, i) => (i === 0 ? 1 : share(i, 5, 6)));
  return {
    loss: losses.reduce((sum, loss, i) => sum + (Number.isNaN(loss) ? 0 : loss * (weights[i] ?? 0)), 0),
    losses,
    accuracies: weights.map((_, i) => share(i, 2, 1) ?? NaN),
    conditionalAccuracies: weights.map((_, i) => share(i, 3, 4)),
    acceptances,
    expectedTokensPerForward: acceptances.reduce<number>((sum, acceptance) => sum + (acceptance ?? 0), 0),
  };
}
