// The polynomial study: what a cell measures, the guess it is measured beside, and a verdict that is the intervals'.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { openDevice } from "../../lib/device.js";
import { polynomialsStudy } from "../../lib/studies/polynomials.js";
import {
  likeliest,
  mostOperations,
  type PolynomialResult,
  type PolynomialSettings,
} from "../../lib/studies/polynomials-cell.js";
import { summarisePolynomials, told } from "../../lib/studies/polynomials-summary.js";
import { studySizes } from "../../lib/studies/study.js";
import { polynomialArithmetic } from "../../lib/tasks/polynomial.js";
import { runQuick } from "./quick.js";

const device = openDevice();
const out = mkdtempSync(join(tmpdir(), "foretoken-polynomials-"));
afterAll(() => rmSync(out, { recursive: true, force: true }));

test("the likeliest number of each place; of equally frequent ones the least", () => {
  expect(
    likeliest([
      [3, 5, 0],
      [3, 4, 6],
      [1, 5, 6],
      [2, 4, 0],
    ]),
  ).toEqual([3, 4, 0]);
});

test.each(studySizes)("%s: as many parameters whatever n, and room for questions and rows", (size) => {
  const configurations = polynomialsStudy.configurations(size);
  expect(new Set(configurations.map((settings) => polynomialsStudy.plan(settings, device).parameters)).size).toBe(1);
  for (const { model, pauseTokens, contextLength } of configurations) {
    const asked = polynomialArithmetic({ operations: mostOperations, pauseTokens }).maxLength;
    const learnt = polynomialArithmetic({ pauseTokens }).maxLength;
    expect(model.maxPositions).toBeGreaterThanOrEqual(Math.max(asked, contextLength));
    expect(contextLength).toBeGreaterThanOrEqual(learnt - 1);
  }
});

test("full and long runs read enough to be judged", () => {
  for (const size of ["full", "long"] as const) {
    for (const settings of polynomialsStudy.configurations(size)) {
      const { tokens, parameters } = polynomialsStudy.plan(settings, device);
      expect(tokens / parameters).toBeGreaterThan(20);
    }
  }
});

test("the quick form runs: losses within what is possible, the same questions for all arms, files written", async () => {
  const report = await runQuick(polynomialsStudy, device, out);
  expect(report.cells).toHaveLength(2 * polynomialsStudy.configurations("quick").length);
  for (const { result } of report.cells as unknown as { result: PolynomialResult }[]) {
    expect(result.curve.map(({ step }) => step)).toEqual([10, 20]);
    const last = result.curve.at(-1)?.loss;
    expect(last).toBeLessThan(Math.log(13)); // all tokens as likely
    expect(last).toBeGreaterThan(1); // 20 steps do not teach to calculate
    expect(result.scores.map(({ operations }) => operations)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(result.singles.map(({ sign }) => sign)).toEqual(["neg", "+", "*", "o"].slice(0, result.singles.length));
    for (const { answers, coefficients } of result.scores) expect(answers).toBeLessThanOrEqual(coefficients);
  }
  // The questions of a seed are the same for all arms, whatever stands between them and their answers.
  for (const seed of [1, 2]) {
    const guesses = report.cells
      .filter((cell) => cell.seed === seed)
      .map(({ result }) => (result as PolynomialResult).scores.map(({ guessedCoefficients }) => guessedCoefficients));
    expect(new Set(guesses.map(String)).size).toBe(1);
    expect(Math.min(...(guesses[0] ?? []))).toBeGreaterThan(0);
  }
});

test("a cell is the same again, and stops when told to", async () => {
  const [settings] = polynomialsStudy.configurations("quick");
  if (!settings) throw new Error("no configuration");
  const cell = { settings: { ...settings, steps: 12, evalEvery: 6 }, seed: 1 };
  expect(await polynomialsStudy.runCell(cell, { device })).toEqual(await polynomialsStudy.runCell(cell, { device }));
  const stop = new AbortController();
  stop.abort();
  const running = polynomialsStudy.runCell(cell, { device, signal: stop.signal });
  await expect(running).rejects.toMatchObject({ code: "ABORTED" });
});

/** Results of three seeds: `answers` says the share of right answers. */
function madeUp(answers: (settings: PolynomialSettings, seed: number, operations: number) => number) {
  return polynomialsStudy.configurations("full").flatMap((settings) =>
    [1, 2, 3].map((seed) => {
      const result: PolynomialResult = {
        ...{ parameters: 300_000, learnt: 300_000 },
        singles: ["neg", "+"].map((sign) => ({ sign, answers: sign === "neg" ? 1 : 0.5 })),
        curve: [1, 2].map((step) => ({ step, loss: 1.9 / step, accuracy: 0.2 })),
        scores: Array.from({ length: mostOperations }, (_, i) => ({
          ...{ operations: i + 1, answers: answers(settings, seed, i + 1), guessedCoefficients: 0.2 },
          coefficients: i < 3 ? 0.4 + seed / 100 : 0.2 + (seed - 2) / 100,
        })),
      };
      return { settings, seed, result };
    }),
  );
}

test("the verdict tells what the intervals tell apart, and what they do not, in domain and out of it", () => {
  const noise = [0.04, -0.05, 0.01];
  const { verdict, findings, tables } = summarisePolynomials(
    madeUp(({ futureTokens, pauseTokens }, seed, operations) => {
      const base = (operations <= 5 ? 0.5 : 0.1) + seed / 100;
      if (pauseTokens > 0) return base + (futureTokens === 1 ? 0.2 : 0);
      return (
        base + (futureTokens === 2 && operations <= 5 ? 0.1 : 0) + (futureTokens === 4 ? (noise[seed - 1] ?? 0) : 0)
      );
    }),
  );
  expect(verdict).toContain(
    "1 to 5 operations (in domain): one head without pause answers 0.520 [0.495, 0.545] right. Heads beside one: n = 2, no " +
      "pause: 0.100 more [0.100, 0.100]; n = 2, 4 pause tokens: 0.200 fewer [-0.200, -0.200]; n = 4, 4 pause tokens: 0.200 " +
      "fewer [-0.200, -0.200]; no difference was seen for n = 4, no pause. Pauses beside none: 4 pause tokens, n = 1: 0.200 " +
      "more [0.200, 0.200]; 4 pause tokens, n = 2: 0.100 fewer [-0.100, -0.100]; no difference was seen for 4 pause tokens, n = 4.",
  );
  expect(verdict).toContain(
    "6 to 10 operations (out of domain): one head without pause answers 0.120 [0.095, 0.145] right.",
  );
  expect(findings[0]).toContain("right: negation 1.00 [1.00, 1.00]; addition 0.50 [0.50, 0.50].");
  expect(findings[1]).toContain("n = 1, no pause: 1, 2, 3; n = 2, no pause: 1, 2, 3;");
  expect(tables[1]?.rows[0]).toEqual(["n = 1, no pause", "1.000 [1.000, 1.000]", "0.500 [0.500, 0.500]"]);
  expect(tables[3]?.rows[0]).toEqual(["n = 2, no pause", "0.100 [0.100, 0.100]", "0.000 [0.000, 0.000]"]);
});

test("one seed's difference is shown as such", () => {
  const by = { n: 1, mean: -0.1, low: null, high: null };
  expect(told([{ name: "n = 2", by }])).toBe("n = 2: 0.100 fewer, of one seed");
});
