// Arithmetic progressions, the data of the notebook: a start, a step, and twenty values that follow from both.
import { ForetokenError } from "../errors.js";
import { checkSize, type Bayes, type DrawOptions, type Split, type Task, type TaskSequence } from "./task.js";
import { Random } from "./random.js";

export interface ProgressionOptions {
  /** Values are taken modulo it; the vocabulary's size. Default 50. */
  readonly modulus?: number | undefined;
  /** Starts 0..starts−1. Default 25. */
  readonly starts?: number | undefined;
  /** Default [1, 2]. */
  readonly steps?: readonly number[] | undefined;
  /** Values in a sequence. Default 20. */
  readonly length?: number | undefined;
  /** Pairs (start, step) that are held out. Default: a fifth. */
  readonly heldOut?: number | undefined;
  /** Which pairs are held out is a function of it. Default 0. */
  readonly splitSeed?: number | undefined;
}

export interface ProgressionSequence extends TaskSequence {
  readonly start: number;
  readonly step: number;
}

/**
 * x_t = (start + t·step) mod modulus, start in 0..starts−1, step one of `steps`: as few sequences as pairs (50 by default),
 * so the split is by pair. Only the first value leaves the step open; from the second on all is determined. With S values
 * and two steps, head i of a predictor that knows the process pays ln 2 / (S − i) nats a target. `judged` marks what is
 * determined.
 *
 * @example
 * const task = progressions({ splitSeed: 1 });
 * task.bayes(1).losses; // [ln 2 / 19]
 */
export function progressions(options: ProgressionOptions = {}): Task<ProgressionSequence> & {
  bayes(futureTokens: number, split?: Split): Bayes;
} {
  const { modulus = 50, starts = 25, steps = [1, 2], length = 20, splitSeed = 0 } = options;
  const count = starts * steps.length;
  const { heldOut = Math.floor(count / 5) } = options;
  checkSize("progressions", "modulus", modulus, 2);
  checkSize("progressions", "starts", starts, 1, modulus);
  checkSize("progressions", "length", length, 2);
  checkSize("progressions", "heldOut", heldOut, 1, count - 1);
  checkSteps(steps, modulus);
  const pairs = Array.from({ length: count }, (_, i) => ({
    start: i % starts,
    step: steps[Math.floor(i / starts)] ?? 0,
  }));
  const shuffled = new Random([splitSeed]).shuffle(pairs);
  const sides = { train: shuffled.slice(heldOut), eval: shuffled.slice(0, heldOut) };
  const sequence = ({ start, step }: { start: number; step: number }): ProgressionSequence => ({
    tokens: Int32Array.from({ length }, (_, t) => (start + t * step) % modulus),
    judged: Uint8Array.from({ length }, (_, t) => (t >= 2 ? 1 : 0)),
    start,
    step,
  });
  return {
    name: "progressions",
    source: "the notebook of multi-token prediction",
    vocabSize: modulus,
    tokenNames: Array.from({ length: modulus }, (_, value) => String(value)),
    maxLength: length,
    sizes: { train: count - heldOut, eval: heldOut },
    *sequences(split: Split, { seed = 0, count: wanted }: DrawOptions = {}) {
      const side = sides[split];
      if (wanted !== undefined) checkSize("progressions", "count", wanted, 1, side.length);
      for (const pair of new Random([splitSeed, seed, 1]).shuffle(side).slice(0, wanted)) yield sequence(pair);
    },
    bayes(futureTokens: number, split?: Split) {
      const known = (split === undefined ? pairs : sides[split]).map((pair) => sequence(pair).tokens);
      return bestPredictor(known, { futureTokens });
    },
  };
}

function checkSteps(steps: readonly number[], modulus: number): void {
  for (const [i, step] of steps.entries()) checkSize("progressions", `steps[${i}]`, step, 0, modulus - 1);
  if (steps.length > 0 && new Set(steps).size === steps.length) return;
  const details = { op: "progressions", argument: "steps", wanted: "different steps", got: steps.join(", ") || "none" };
  throw new ForetokenError("BAD_OPTION", details);
}

export interface BestPredictorOptions {
  readonly futureTokens: number;
  /** T: only positions 0..T−1 are read. Default: all that have a target. */
  readonly positions?: number | undefined;
}

/**
 * The least loss and the greatest accuracy that are possible on sequences which are all equally likely, by enumeration:
 * at position t head i is given what follows x_0..x_t in the sequences that begin so, and pays H(x_{t+i} | x_0..x_t).
 */
export function bestPredictor(
  sequences: readonly ArrayLike<number>[],
  { futureTokens, positions = Infinity }: BestPredictorOptions,
): Bayes {
  const heads = Array.from({ length: futureTokens }, (_, i) => bestOfHead(sequences, i + 1, positions));
  return { losses: heads.map(({ loss }) => loss), accuracies: heads.map(({ accuracy }) => accuracy) };
}

function bestOfHead(
  sequences: readonly ArrayLike<number>[],
  ahead: number,
  positions: number,
): { loss: number; accuracy: number } {
  let [nats, right, targets] = [0, 0, 0];
  const longest = Math.max(0, ...sequences.map(({ length }) => length));
  for (let t = 0; t < Math.min(positions, longest - ahead); t++) {
    for (const followers of followersAt(sequences, t, ahead)) {
      const counts = [...followers.values()];
      const total = counts.reduce((sum, count) => sum + count, 0);
      for (const count of counts) nats += count * Math.log(total / count);
      right += Math.max(...counts);
      targets += total;
    }
  }
  return { loss: nats / targets, accuracy: right / targets };
}

/** Of each beginning x_0..x_t, how often each value comes `ahead` places later. */
function followersAt(
  sequences: readonly ArrayLike<number>[],
  t: number,
  ahead: number,
): Iterable<ReadonlyMap<number, number>> {
  const found = new Map<string, Map<number, number>>();
  for (const sequence of sequences) {
    const value = sequence[t + ahead];
    if (value === undefined) continue;
    const beginning = Array.from(sequence)
      .slice(0, t + 1)
      .join(" ");
    const followers = found.get(beginning) ?? new Map<number, number>();
    found.set(beginning, followers.set(value, (followers.get(value) ?? 0) + 1));
  }
  return found.values();
}
