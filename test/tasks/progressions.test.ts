// Progressions: the split, and the floors by enumeration beside the closed form and a brute force of another kind.
import { describe, expect, test } from "vitest";
import { bestPredictor, progressions, type ProgressionSequence } from "../../lib/tasks/progressions.js";

const key = ({ start, step }: ProgressionSequence): string => `${start}+${step}`;

test("the 50 sequences are those of the formula, each on one side of the split", () => {
  const task = progressions();
  const both = (["train", "eval"] as const).map((split) => [...task.sequences(split)]);
  expect(both.map((side) => side.length)).toEqual([40, 10]);
  expect(task.sizes).toEqual({ train: 40, eval: 10 });
  expect(new Set(both.flat().map(key)).size).toBe(50);
  for (const { start, step, tokens, judged } of both.flat()) {
    expect(start).toBeLessThan(25);
    expect([1, 2]).toContain(step);
    let value = start;
    for (const token of tokens) {
      expect(token).toBe(value);
      value = value + step >= 50 ? value + step - 50 : value + step;
    }
    expect(tokens).toHaveLength(20);
    expect([...judged]).toEqual([0, 0, ...new Array<number>(18).fill(1)]);
  }
});

test("a seed orders one side, the split's seed chooses what is on it", () => {
  const keys = (splitSeed: number, seed: number, count?: number): string[] =>
    [...progressions({ splitSeed }).sequences("train", { seed, count })].map(key);
  expect(keys(1, 5)).toEqual(keys(1, 5));
  expect(keys(1, 5)).not.toEqual(keys(1, 6));
  expect(keys(1, 5).sort()).toEqual(keys(1, 6).sort());
  expect(keys(1, 5).sort()).not.toEqual(keys(2, 5).sort());
  expect(keys(1, 5, 7)).toEqual(keys(1, 5).slice(0, 7));
});

test("the process's floors and ceilings: ln 2 / 19 and 0.9737, over 17 positions ln 2 / 17 and 0.9706", () => {
  const { losses, accuracies } = progressions().bayes(3);
  for (const i of [1, 2, 3]) {
    expect(losses[i - 1]).toBeCloseTo(Math.LN2 / (20 - i), 12);
    expect(accuracies[i - 1]).toBeCloseTo(1 - 0.5 / (20 - i), 12);
  }
  expect(losses[0]).toBeCloseTo(0.03648, 5);
  expect(accuracies[0]).toBeCloseTo(0.9737, 4);
  const all = (["train", "eval"] as const).flatMap((split) => [...progressions().sequences(split)]);
  const cropped = bestPredictor(
    all.map(({ tokens }) => tokens),
    { futureTokens: 3, positions: 17 },
  );
  for (const loss of cropped.losses) expect(loss).toBeCloseTo(0.04077, 5);
  for (const accuracy of cropped.accuracies) expect(accuracy).toBeCloseTo(0.9706, 4);
});

test.each([0, 1, 2, 3])(
  "the training split's own floor: ln 2 where both steps of a start are in it (split %i)",
  (splitSeed) => {
    const task = progressions({ splitSeed });
    const train = [...task.sequences("train")];
    const open = train.filter(({ start }) => train.filter((other) => other.start === start).length === 2).length;
    expect(open).toBeGreaterThan(0);
    expect(open).toBeLessThan(40);
    const { losses, accuracies } = task.bayes(2, "train");
    for (const i of [1, 2]) {
      expect(losses[i - 1]).toBeCloseTo((open * Math.LN2) / (40 * (20 - i)), 12);
      expect(accuracies[i - 1]).toBeCloseTo(1 - (0.5 * open) / (40 * (20 - i)), 12);
    }
  },
);

describe("bestPredictor", () => {
  test("is the mean of −ln P and of right guesses, P counted target by target over all sequences", () => {
    const sequences = [
      [0, 1, 2, 0, 1],
      [0, 1, 2, 1, 1],
      [0, 1, 0, 1, 1],
      [0, 2, 0, 1],
      [1, 1],
      [0, 1, 2, 0, 1],
    ];
    for (const ahead of [1, 2, 3]) {
      let [nats, right, targets] = [0, 0, 0];
      for (const sequence of sequences) {
        for (let t = 0; t + ahead < sequence.length; t++) {
          const alike = sequences.filter(
            (other) => t + ahead < other.length && sequence.slice(0, t + 1).every((value, k) => other[k] === value),
          );
          const share = (value: number): number =>
            alike.filter((other) => other[t + ahead] === value).length / alike.length;
          nats -= Math.log(share(sequence[t + ahead] ?? NaN));
          right += Math.max(...[0, 1, 2].map(share));
          targets++;
        }
      }
      const { losses, accuracies } = bestPredictor(sequences, { futureTokens: 3 });
      expect(losses[ahead - 1]).toBeCloseTo(nats / targets, 12);
      expect(accuracies[ahead - 1]).toBeCloseTo(right / targets, 12);
    }
  });
});

test.each<[string, object, RegExp]>([
  ["a start beyond the modulus", { starts: 51 }, /starts: expected an integer from 1 to 50, got 51/],
  ["nothing to learn from", { heldOut: 50 }, /heldOut: expected an integer from 1 to 49, got 50/],
  ["the same step twice", { steps: [1, 1] }, /steps: expected different steps, got 1, 1/],
  ["no step", { steps: [], heldOut: 1 }, /heldOut|steps/],
])("%s is refused", (_, options, message) => {
  expect(() => progressions(options)).toThrow(message);
});

test("more sequences than there are is refused", () => {
  expect(() => [...progressions().sequences("train", { count: 41 })]).toThrow(
    /count: expected an integer from 1 to 40, got 41/,
  );
});
