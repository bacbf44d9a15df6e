// The induction study: what a cell measures beside exact floors and counts, and that the verdict is the interval's.
import { afterAll, describe, expect, test } from "vitest";
import { openDevice } from "../../lib/device.js";
import { inductionStudy } from "../../lib/studies/induction.js";
import {
  guessingAccuracy,
  runInduction,
  secondTokensOf,
  type InductionResult,
  type InductionSettings,
} from "../../lib/studies/induction-cell.js";
import { formedStep, summariseInduction, told } from "../../lib/studies/induction-summary.js";
import { studySizes } from "../../lib/studies/study.js";
import { induction } from "../../lib/tasks/induction.js";
import { workFolder } from "../cli/command.js";
import { runQuick } from "./quick.js";

const device = openDevice();
const work = workFolder();
afterAll(work.remove);

test.each(studySizes)("%s: models of one width have equally many parameters, whatever n", (size) => {
  const counts = new Map<string, Set<number>>();
  for (const settings of inductionStudy.configurations(size)) {
    const key = `${settings.kind} ${settings.hiddenSize}`;
    const { parameters, tokens } = inductionStudy.plan(settings, device);
    counts.set(key, (counts.get(key) ?? new Set()).add(parameters));
    if (size !== "quick") expect(tokens / parameters).toBeGreaterThan(20);
  }
  for (const different of counts.values()) expect(different.size).toBe(1);
});

describe("a cell", () => {
  const [settings] = inductionStudy.configurations("quick");
  if (!settings) throw new Error("no configuration");
  const cell = { settings, seed: 1 };
  let result: InductionResult;

  test("learns induction: from less than a guess among the story's names to nearly all, above the floor", async () => {
    result = await runInduction(cell, { device });
    expect(result.curve.map(({ step }) => step)).toEqual([30, 60, 90, 120, 150, 180, 210, 240, 270, 300]);
    expect(result.curve[0]?.accuracy).toBeLessThan(result.guessing + 0.1);
    expect(result.judged[0]).toBeGreaterThan(0.95);
    expect(result.curve.at(-1)?.accuracy).toBe(result.judged[0]);
    expect(formedStep(result)).toBeLessThan(300);
    expect(result.floors).toEqual(induction(settings.story).bayes(1).losses);
    expect(result.losses[0]).toBeGreaterThan((result.floors[0] ?? NaN) - 0.05); // 100 stories scatter
    expect(result.losses[0]).toBeLessThan((result.floors[0] ?? NaN) + 0.15);
  });

  test("is the same again as far as it goes, and stops when told to", async () => {
    const short = { ...cell, settings: { ...cell.settings, steps: 20, evalEvery: 10 } };
    const [first, again] = [await runInduction(short, { device }), await runInduction(short, { device })];
    expect(again).toEqual(first);
    const stop = new AbortController();
    stop.abort();
    await expect(runInduction(cell, { device, signal: stop.signal })).rejects.toMatchObject({ code: "ABORTED" });
  });
});

describe("a guess among the names said", () => {
  test("counted by hand: A B a A B b B again, judged with one name known, then with two", () => {
    const tokens = Int32Array.of(5, 8, 0, 5, 8, 6, 9, 6, 9);
    const judged = Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0, 1);
    expect(guessingAccuracy([{ tokens, judged }], new Set([8, 9]))).toBe((1 + 1 / 2) / 2);
  });

  test("is what guessing gets: known names drawn at each judged token", () => {
    const task = induction();
    const stories = [...task.sequences("eval", { seed: 3, count: 400 })];
    const seconds = secondTokensOf(task);
    expect(seconds.size).toBe(24);
    let [right, count, draw] = [0, 0, 0];
    for (const { tokens, judged } of stories) {
      for (const [t, token] of tokens.entries()) {
        if (judged[t] !== 1) continue;
        const known = [...new Set(tokens.subarray(0, t))].filter((each) => each >= 24);
        draw = (draw * 1103515245 + 12345) % 2 ** 31;
        if (known[Math.floor((draw / 2 ** 31) * known.length)] === token) right++;
        count++;
      }
    }
    const expected = guessingAccuracy(stories, seconds);
    expect(Math.abs(right / count - expected)).toBeLessThan(4 * Math.sqrt((expected * (1 - expected)) / count));
  });
});

test("names are completed from the first point at 0.9 or above; never is null", () => {
  const curve = [0.2, 0.89, 0.9, 0.85, 0.99].map((accuracy, i) => ({ step: 10 * (i + 1), accuracy }));
  expect(formedStep({ curve })).toBe(30);
  expect(formedStep({ curve: curve.slice(0, 2) })).toBeNull();
});

/** Results of three seeds of the minute form, of which head 1 gets the share `accuracy(settings, seed)` right. */
function madeUp(accuracy: (settings: InductionSettings, seed: number) => number) {
  return inductionStudy.configurations("minute").flatMap((settings) =>
    [1, 2, 3].map((seed) => {
      const share = accuracy(settings, seed);
      const heads = Array.from({ length: settings.futureTokens }, (_, i) => i);
      const result: InductionResult = {
        ...{ parameters: 1000, guessing: 0.4, judged: heads.map((head) => share - head / 10) },
        ...{ losses: heads.map((head) => 2.5 + head), floors: heads.map((head) => 2.4 + head) },
        curve: [10, 20].map((step) => ({ step, accuracy: (share * step) / 20 })),
      };
      return { settings, seed, result };
    }),
  );
}

test("the verdict tells what the intervals tell apart, size by size, and what they do not", () => {
  const noise = [0.2, -0.2, 0.03];
  const { verdict, findings, tables } = summariseInduction(
    madeUp(({ hiddenSize, futureTokens: n }, seed) =>
      n === 1 ? 0.7 + seed / 100 : 0.7 + seed / 100 + (hiddenSize === 16 ? 0.1 : (noise[seed - 1] ?? 0)),
    ),
  );
  expect(verdict).toContain("beside n = 1, with n = 2: d = 16 10.0 points more [10.0, 10.0]; d = 32 no difference");
  expect(verdict).toMatch(/that was seen \(1\.0 points more, \[-\d+\.\d, \d+\.\d\]\)\.$/);
  expect(findings[0]).toContain("d = 16, n = 2 7.5 points more [7.5, 7.5]; d = 32, n = 2 no difference");
  const [accuracy] = tables;
  expect(accuracy?.rows.map(([d, , n]) => [d, n])).toEqual([
    [16, 1],
    [16, 2],
    [32, 1],
    [32, 2],
  ]);
  expect(accuracy?.rows[0]?.[5]).toBe("never (0 of 3)");
  expect(accuracy?.rows[3]?.[5]).toBe("20 (1 of 3)");
});

test("less is told as less, and one seed as one seed", () => {
  expect(told({ n: 5, mean: -0.2, low: -0.3, high: -0.1 })).toBe("20.0 points less [-30.0, -10.0]");
  expect(told({ n: 1, mean: 0.2, low: null, high: null })).toBe("20.0 points more, of one seed");
});

test("the quick form, from data to files", async () => {
  const report = await runQuick(inductionStudy, device, work.path("out"));
  expect(report.figures.map(({ name }) => name)).toEqual(["size", "difference", "learning-tiny"]);
  for (const { result } of report.cells) {
    const { losses, floors } = result as InductionResult;
    for (const [head, loss] of losses.entries()) expect(loss).toBeGreaterThan((floors[head] ?? NaN) - 0.05); // 100 stories scatter
  }
  expect(report.verdict).toMatch(/^Tiny stories: .* with n = 2: d = 32 /);
  expect(report.tooShort).toHaveLength(2);
}, 120_000);
