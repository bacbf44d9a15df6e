import { describe, expect, it } from "vitest";
import { ForetokenError } from "../../lib/errors.js";
import { learningRateAt, type Schedule } from "../../lib/train/schedule.js";

const learningRate = 0.5;
const steps = 11;

/** The learning rates of all steps, first to last. */
const rates = (schedule: Schedule, warmupSteps: number): number[] =>
  Array.from({ length: steps }, (_, i) => learningRateAt(i + 1, { learningRate, schedule, warmupSteps, steps }));

/** Half a cosine from 1 to 0.03 at a share of the way. */
const cosine = (share: number): number => 0.03 + 0.485 * (1 + Math.cos(Math.PI * share));

// Without warm-up the first step is at the peak and 10 more would follow the last by one; with 3 steps of it, the
// fourth is at the peak and 8 are left.
const expected: [Schedule, warmupSteps: number, at: (step: number) => number][] = [
  ["cosine", 0, (step) => cosine((step - 1) / 11)],
  ["cosine", 3, (step) => (step <= 3 ? step / 3 : cosine((step - 4) / 8))],
  ["linear", 0, (step) => (12 - step) / 11],
  ["linear", 3, (step) => (step <= 3 ? step / 3 : (12 - step) / 8)],
  ["constant", 0, () => 1],
  ["constant", 3, (step) => Math.min(1, step / 3)],
];

describe("the learning rate of every step", () => {
  it.each(expected)("%s, warm-up %i", (schedule, warmupSteps, at) => {
    for (const [i, rate] of rates(schedule, warmupSteps).entries()) expect(rate).toBeCloseTo(0.5 * at(i + 1), 12);
  });

  it.each([
    ["cosine", 0, 0.5, 0.5 * cosine(10 / 11)],
    ["cosine", 3, 0.5 / 3, 0.5 * cosine(7 / 8)],
    ["linear", 0, 0.5, 0.5 / 11],
    ["linear", 3, 0.5 / 3, 0.5 / 8],
    ["constant", 0, 0.5, 0.5],
    ["constant", 3, 0.5 / 3, 0.5],
  ] as const)("%s, warm-up %i: first %d and last %d", (schedule, warmupSteps, first, last) => {
    const all = rates(schedule, warmupSteps);
    expect(all[0]).toBeCloseTo(first, 12);
    expect(all.at(-1)).toBeCloseTo(last, 12);
    expect(Math.min(...all)).toBeGreaterThan(0);
    expect(Math.max(...all)).toBe(learningRate);
  });

  it("is the peak in the only step of a run whose warm-up is one step", () => {
    for (const schedule of ["cosine", "linear", "constant"] as const)
      expect(learningRateAt(1, { learningRate, schedule, warmupSteps: 1, steps: 1 })).toBe(learningRate);
  });

  it.each([0, 3])("is a function's factor of the step from 1, warm-up %i aside", (warmupSteps) => {
    const seen: number[] = [];
    const all = rates((step) => {
      seen.push(step);
      return step === 2 ? 0 : 1 / step;
    }, warmupSteps);
    expect(seen).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    expect(all).toEqual(seen.map((step) => (step === 2 ? 0 : learningRate * (1 / step))));
  });

  it.each([NaN, Infinity, -0.1])("refuses a function that gives %d", (factor) => {
    let thrown: unknown;
    try {
      learningRateAt(2, { learningRate, schedule: () => factor, warmupSteps: 0, steps });
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(ForetokenError);
    expect(thrown).toMatchObject({ code: "BAD_OPTION", argument: "schedule" });
  });
});
