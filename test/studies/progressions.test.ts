// The progressions study: what a cell measures beside the exact floors, and that the verdict is the interval's.
import { describe, expect, test } from "vitest";
import { openDevice } from "../../lib/device.js";
import { ForetokenError } from "../../lib/errors.js";
import { findStudy, studies } from "../../lib/studies/index.js";
import { progressionsStudy } from "../../lib/studies/progressions.js";
import type { ProgressionResult, ProgressionSettings } from "../../lib/studies/progressions-cell.js";
import { said, summariseProgressions } from "../../lib/studies/progressions-summary.js";
import { studySizes } from "../../lib/studies/study.js";

const device = openDevice();
const configuration = (trunk: string, n: number, sequences: number, steps: number): ProgressionSettings => {
  const found = progressionsStudy
    .configurations("quick")
    .find((s) => s.trunk === trunk && s.futureTokens === n && s.sequences === sequences);
  if (!found) throw new Error("no such configuration");
  return { ...found, steps, evalEvery: 50 };
};

describe.each([1, 3])("a cell of the RNN, n = %d", (n) => {
  const settings = configuration("rnn", n, 40, 400);
  let result: ProgressionResult;

  test("learns down to the training split's floor, not below it, and gets the rule", async () => {
    result = await progressionsStudy.runCell({ settings, seed: 1 }, { device });
    const last = result.curve.at(-1);
    expect(result.curve.map(({ step }) => step)).toEqual([50, 100, 150, 200, 250, 300, 350, 400]);
    expect(last?.trainLoss).toBeGreaterThan(result.trainFloor - 0.003); // batches of 32 do not hold the 40 equally often
    expect(last?.trainLoss).toBeLessThan(result.trainFloor + 0.02);
    expect(last?.trainAccuracy).toBeCloseTo(result.trainCeiling, 2);
    expect(last?.heldOutLoss).toBeGreaterThan(Math.LN2 / (20 - n));
    expect(result.rolledOut).toHaveLength(17);
    expect(Math.min(...result.rolledOut)).toBeGreaterThan(0.8);
    expect(result.parameters).toBe(50 * 32 + 64 * 32 + 64 * 64 + 64 + n * (64 * 50 + 50));
  });

  test("knows nothing of the step at the first position of what it has not seen, and all from the second on", () => {
    expect(result.losses).toHaveLength(n);
    for (const [i, accuracies] of result.accuracies.entries()) {
      expect(accuracies.filter((share) => share !== null)).toHaveLength(19 - i);
      expect(accuracies[0]).toBeLessThan(0.6);
      expect(Math.min(...accuracies.slice(1, 17).map(Number))).toBeGreaterThan(0.5);
    }
  });

  test("is the same again", async () => {
    expect(await progressionsStudy.runCell({ settings, seed: 1 }, { device })).toEqual(result);
  });
});

test("a cell stops when told to", async () => {
  const settings = configuration("transformer", 3, 10, 10_000);
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 50);
  const running = progressionsStudy.runCell({ settings, seed: 1 }, { device, signal: stop.signal });
  await expect(running).rejects.toMatchObject({ code: "ABORTED" });
});

test("the plan is what the model takes", () => {
  for (const settings of progressionsStudy.configurations("full")) {
    const { parameters, tokens, peakBytes } = progressionsStudy.plan(settings, device);
    const n = settings.futureTokens;
    expect(tokens).toBe(settings.steps * 32 * (20 - n));
    expect(tokens / parameters).toBeGreaterThan(20);
    expect(peakBytes).toBeGreaterThan(4 * 4 * parameters); // weights, gradients, two moments
    expect(peakBytes).toBeLessThan(50e6);
  }
});

test("the transformers of one and three heads have equally many parameters", () => {
  const counts = progressionsStudy
    .configurations("full")
    .filter(({ trunk }) => trunk === "transformer")
    .map((settings) => progressionsStudy.plan(settings, device).parameters);
  expect(new Set(counts).size).toBe(1);
});

const flat = (value: number, count: number): number[] => new Array<number>(count).fill(value);

/** Results of two seeds, head 1 losing `loss(n, seed)` at every position. */
function madeUp(loss: (n: number, seed: number) => number) {
  return progressionsStudy.configurations("quick").flatMap((settings) =>
    [1, 2, 3].map((seed) => {
      const n = settings.futureTokens;
      const point = { trainLoss: 0.1, trainAccuracy: 0.9, heldOutLoss: 0.2, heldOutAccuracy: 0.8 };
      const result: ProgressionResult = {
        ...{ parameters: 10, trainFloor: 0.03, trainCeiling: 0.98, rolledOut: flat(0.5, 17) },
        curve: [10, 20].map((step) => ({ step, ...point })),
        losses: Array.from({ length: n }, () => flat(loss(n, seed), 19)),
        accuracies: Array.from({ length: n }, () => flat(0.75, 19)),
      };
      return { settings, seed, result };
    }),
  );
}

test.each<[string, (n: number, seed: number) => number, RegExp]>([
  [
    "lower in every seed",
    (n, seed) => (n === 3 ? 0.1 : 0.2) + seed / 100,
    /^RNN: three heads were seen to be more sample-efficient.* 0\.100 \[0\.100, 0\.100\] nats lower/,
  ],
  [
    "higher in every seed",
    (n, seed) => (n === 3 ? 0.25 : 0.2) + seed / 100,
    /were seen to be less sample-efficient than one, not more.* 0\.050 \[0\.050, 0\.050\] nats higher/,
  ],
  [
    "now lower, now higher",
    (n, seed) => (n === 3 ? ([0.1, 0.3, 0.23][seed - 1] ?? 0) : 0.2),
    /no difference in sample efficiency was seen.* 0\.010 \[-0\.242, 0\.262\] nats higher/,
  ],
])("the verdict when three heads' loss is %s", (_, loss, verdict) => {
  expect(summariseProgressions(madeUp(loss)).verdict).toMatch(verdict);
});

test("one seed says nothing", () => {
  expect(said({ n: 1, mean: -1, low: null, high: null })).toMatch(/says nothing/);
});

test("the tables have the exact floors and ceilings", () => {
  const { tables } = summariseProgressions(madeUp(() => 0.2));
  const cells = JSON.stringify(tables);
  for (const exact of ["0.03648", "0.04077", "0.9737", "0.9706"]) expect(cells).toContain(`"${exact}"`);
});

test("every study has a name of its own and configurations for every size; quick ones for the tests", () => {
  expect(new Set(studies.map(({ name }) => name)).size).toBe(studies.length);
  for (const study of studies) {
    for (const size of studySizes) {
      const settings = study.configurations(size);
      expect(new Set(settings.map((each) => JSON.stringify(each))).size).toBe(settings.length);
      expect(new Set(settings.map((each) => study.describe(each))).size).toBe(settings.length);
      expect(study.seeds[size]).toBeGreaterThan(1);
    }
  }
});

test("an unknown study is refused with the nearest name", () => {
  expect(() => findStudy("progresion")).toThrow(
    /expected one of progressions.*, got progresion\. Did you mean progressions\?/,
  );
  expect(() => findStudy("zzz")).toThrow(/--list/);
  expect(() => findStudy("zzz")).toThrow(ForetokenError);
});
