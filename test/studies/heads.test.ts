// The head study: models of equal size, the weights of each schedule, and a verdict that is the interval's.
import { describe, expect, test } from "vitest";
import { openDevice } from "../../lib/device.js";
import { headWeightsAt } from "../../lib/mtp/head-weights.js";
import { headsStudy } from "../../lib/studies/heads.js";
import {
  headWeights,
  runHeads,
  type HeadResult,
  type HeadSettings,
  type Weighting,
} from "../../lib/studies/heads-cell.js";
import { summariseHeads } from "../../lib/studies/heads-summary.js";
import { studySizes } from "../../lib/studies/study.js";

const device = openDevice();

test.each(studySizes)("%s: all models have as many parameters as the parallel one, to a third of a percent", (size) => {
  const counts = headsStudy.configurations(size).map((settings) => headsStudy.plan(settings, device).parameters);
  for (const count of counts) expect(Math.abs(count / (counts[1] ?? NaN) - 1)).toBeLessThan(1 / 300);
});

test("full and long runs read enough to be judged", () => {
  for (const size of ["full", "long"] as const) {
    for (const settings of headsStudy.configurations(size)) {
      const { tokens, parameters } = headsStudy.plan(settings, device);
      expect(tokens / parameters).toBeGreaterThan(20);
    }
  }
});

describe("the weights of 4 heads over 8 steps", () => {
  const at = (weighting: Weighting): number[][] =>
    [1, 2, 3, 4, 5, 6, 7, 8].map((step) => headWeightsAt(headWeights(weighting, 4, 8), 4, step));
  const always = (weights: number[]): number[][] => new Array<number[]>(8).fill(weights);

  test.each<[Weighting, number[][]]>([
    ["equal", always([1, 1, 1, 1])],
    ["mean", always([0.25, 0.25, 0.25, 0.25])],
    ["geometric", always([1, 0.5, 0.25, 0.125])],
    ["forward", [1, 1, 2, 2, 3, 3, 4, 4].map((n) => [1, 2, 3, 4].map((head) => (head <= n ? 1 : 0)))],
    ["reverse", [4, 4, 3, 3, 2, 2, 1, 1].map((n) => [1, 2, 3, 4].map((head) => (head <= n ? 1 : 0)))],
  ])("%s", (weighting, weights) => {
    expect(at(weighting)).toEqual(weights);
  });

  test("over fewer steps than heads the last stage is still the last", () => {
    const weights = headWeights("forward", 4, 3);
    expect([1, 2, 3].map((step) => headWeightsAt(weights, 4, step).filter((weight) => weight > 0).length)).toEqual([
      1, 2, 3,
    ]);
  });
});

test("a cell learns: below a uniform guess on held-out code, the same again, and stops when told to", async () => {
  const settings = headsStudy.configurations("quick")[1];
  if (!settings) throw new Error("no configuration");
  const cell = { settings: { ...settings, steps: 60 }, seed: 1 };
  const result = await runHeads(cell, { device });
  expect(result.bitsPerByte).toHaveLength(4);
  for (const bits of result.bitsPerByte) expect(bits).toBeLessThan(7);
  expect(result.expectedTokensPerForward).toBeGreaterThanOrEqual(1);
  expect(await runHeads(cell, { device })).toEqual(result);
  const stop = new AbortController();
  stop.abort();
  await expect(runHeads(cell, { device, signal: stop.signal })).rejects.toMatchObject({ code: "ABORTED" });
});

/** Results of three seeds whose head 1 needs `bits(label, seed)`. */
function madeUp(bits: (settings: HeadSettings, seed: number) => number) {
  return headsStudy.configurations("quick").flatMap((settings) =>
    [1, 2, 3].map((seed) => {
      const n = settings.model.futureTokens ?? 1;
      const bitsPerByte = Array.from({ length: n }, (_, i) => bits(settings, seed) + i);
      const accuracies = bitsPerByte.map((_, i) => 0.5 - i / 10);
      const tokens = settings.label === "causal" ? 1.5 : 1.2;
      const result: HeadResult = {
        ...{ parameters: 1000, bitsPerByte, accuracies },
        expectedTokensPerForward: n === 1 ? 1 : tokens,
      };
      return { settings, seed, result };
    }),
  );
}

test("the verdict tells what the intervals tell apart, and what they do not", () => {
  const offset: Record<string, number> = { "n = 1": -0.2, causal: -0.1, linear: 0.3, "reverse curriculum": -0.15 };
  const noise: Record<string, readonly number[]> = { anticausal: [0.2, -0.2, 0.03] };
  const { verdict, findings } = summariseHeads(
    madeUp(({ label }, seed) => 3 + seed / 10 + (offset[label] ?? 0) + (noise[label]?.[seed - 1] ?? 0)),
  );
  for (const sentence of [
    "Four parallel heads beside one: head 1 has 0.200 bits a byte more [0.200, 0.200].",
    "causal 0.100 bits a byte less [-0.100, -0.100]",
    "linear 0.300 bits a byte more [0.300, 0.300]",
    "reverse curriculum 0.150 bits a byte less [-0.150, -0.150]",
  ])
    expect(verdict).toContain(sentence);
  expect(verdict).toMatch(/anticausal no difference that was seen \(0\.010 bits a byte more, \[-0\.\d+, 0\.\d+\]\)/);
  expect(findings[0]).toContain("causal, 1.50 [1.50, 1.50]");
});

test("tables and pictures have every configuration where it belongs, equal weights beside the others", () => {
  const { tables, figures } = summariseHeads(madeUp((_, seed) => 3 + seed / 10));
  const labels = tables.map(({ rows }) => rows.map(([label]) => label));
  expect(labels).toEqual([
    ["n = 1", "parallel", "causal", "anticausal", "linear", "none"],
    ["n = 1", "equal", "mean", "geometric", "forward curriculum", "reverse curriculum"],
  ]);
  expect(figures.map(({ name }) => name)).toEqual(["families", "families-heads", "weights", "weights-heads"]);
});
