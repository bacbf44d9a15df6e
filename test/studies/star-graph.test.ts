// The star-graph study: what a cell measures beside what was written down by hand, and a verdict that is the intervals'.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { openDevice } from "../../lib/device.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { sharesOf, gradeAnswers } from "../../lib/studies/answers.js";
import { starGraphStudy } from "../../lib/studies/star-graph.js";
import { readAtOnce, type StarResult, type StarSettings } from "../../lib/studies/star-graph-cell.js";
import { sideOf, summariseStars } from "../../lib/studies/star-graph-summary.js";
import { studySizes } from "../../lib/studies/study.js";
import { starGraph } from "../../lib/tasks/star-graph.js";
import { runQuick } from "./quick.js";

const device = openDevice();
const out = mkdtempSync(join(tmpdir(), "foretoken-star-"));
afterAll(() => rmSync(out, { recursive: true, force: true }));

test("shares of answers: first judged token, all of them, each", () => {
  const question = (answer: readonly number[]) => ({
    tokens: Int32Array.of(7, 8, ...answer),
    judged: Uint8Array.of(0, 0, 0, 1, 1),
    promptLength: 2,
  });
  const questions = [question([1, 2, 3]), question([1, 2, 3]), question([1, 2, 3]), question([1, 2, 3])];
  // All right; the unjudged token wrong; the second judged one wrong; nothing written.
  const answers = [[1, 2, 3], [9, 2, 3], [1, 2, 9], []];
  expect(sharesOf(questions, answers)).toEqual({ first: 0.75, whole: 0.5, tokens: 5 / 8 });
});

/** Greedy answers by whole forwards, one question after the other, and what each head names at the question's end. */
async function byForwards(model: LanguageModel, tokens: Int32Array, promptLength: number) {
  const written = [...tokens.subarray(0, promptLength)];
  let named: number[] | undefined;
  while (written.length < tokens.length) {
    const logits = model.forward([written]);
    const ends = await Promise.all(
      logits.map(async (each) => [...(await each.toFloats())].slice(-model.config.vocabSize)),
    );
    for (const each of logits) each.dispose();
    const said = ends.map((values) => values.indexOf(Math.max(...values)));
    named ??= said;
    written.push(said[0] ?? -1);
  }
  return { answer: written.slice(promptLength), named: named ?? [] };
}

test("answers and what the heads name at once are those of whole forwards", async () => {
  const task = starGraph({ degree: 2, pathLength: 3, labels: 6 });
  using model = LanguageModel.create(
    {
      vocabSize: task.vocabSize,
      hiddenSize: 16,
      trunkLayers: 1,
      futureTokens: 3,
      maxPositions: 32,
      initializerRange: 1,
    },
    { device, seed: 3 },
  );
  const questions = [...task.sequences("eval", { seed: 5, count: 150 })];
  const each: { answer: number[]; named: number[] }[] = [];
  for (const { tokens, promptLength } of questions) each.push(await byForwards(model, tokens, promptLength));
  const path = questions.map(({ tokens, promptLength }) => [...tokens.subarray(promptLength)]);
  const share = (right: (row: number) => boolean): number =>
    questions.filter((_, row) => right(row)).length / questions.length;

  const answers = await gradeAnswers(model, questions);
  expect(answers.first).toBeCloseTo(
    share((row) => each[row]?.answer[1] === path[row]?.[1]),
    10,
  );
  expect(answers.first).toBeGreaterThan(0);
  const { fromEquals, atOnce } = await readAtOnce(model, questions);
  expect(fromEquals).toEqual([0, 1, 2].map((node) => share((row) => each[row]?.named[node] === path[row]?.[node])));
  expect(Math.max(...fromEquals)).toBeGreaterThan(0);
  expect(atOnce).toBe(share((row) => each[row]?.named.join() === path[row]?.join()));
});

test.each(studySizes)("%s: one head has as many parameters as one for each node", (size) => {
  for (const { degree, pathLength } of starGraphStudy.configurations(size)) {
    const same = starGraphStudy
      .configurations(size)
      .filter((settings) => settings.degree === degree && settings.pathLength === pathLength);
    expect(same.filter(({ futureTokens }) => futureTokens === pathLength).length).toBeGreaterThan(0);
    expect(new Set(same.map((settings) => starGraphStudy.plan(settings, device).parameters)).size).toBe(1);
  }
});

test("full and long runs read enough to be judged", () => {
  for (const size of ["full", "long"] as const) {
    for (const settings of starGraphStudy.configurations(size)) {
      const { tokens, parameters } = starGraphStudy.plan(settings, device);
      expect(tokens / parameters).toBeGreaterThan(20);
    }
  }
});

test("the quick form runs: every cell learns and stays above the floor, files written", async () => {
  const report = await runQuick(starGraphStudy, device, out);
  const settings = starGraphStudy.configurations("quick");
  expect(report.cells).toHaveLength(2 * settings.length);
  for (const { result } of report.cells as unknown as { result: StarResult }[]) {
    expect(result.curve.map(({ step }) => step)).toEqual([30, 60]);
    const [first, last] = result.curve.map(({ loss }) => loss);
    expect(last).toBeGreaterThan(0);
    expect(last).toBeLessThan(first ?? 0);
    expect(result.wholePath).toBeLessThanOrEqual(result.firstStep);
    expect(result.atOnce).toBeLessThanOrEqual(Math.min(...result.fromEquals));
  }
});

/** Results of three seeds: `whole` says the share of right paths. */
function madeUp(whole: (settings: StarSettings, seed: number) => number) {
  return starGraphStudy.configurations("full").flatMap((settings) =>
    [1, 2, 3].map((seed) => {
      const share = whole(settings, seed);
      const result: StarResult = {
        ...{ parameters: 1000, firstStep: share, wholePath: share, atOnce: 0.25 },
        fromEquals: Array.from({ length: settings.futureTokens }, () => 0.75),
        curve: [1, 2].map((step) => ({ step, loss: 0.5 / step, firstStep: share })),
      };
      return { settings, seed, result };
    }),
  );
}

test("the verdict tells what the intervals tell apart, and what they do not", () => {
  const noise = [0.06, -0.05, 0.01];
  const { verdict, findings, tables } = summariseStars(
    madeUp(({ arm, degree, pathLength }, seed) => {
      const shortcut = 1 / degree + (noise[seed - 1] ?? 0);
      if (arm === "single") return degree === 3 && pathLength === 4 ? 0.9 + seed / 100 : shortcut;
      if (arm === "anticausal" && pathLength === 3) return shortcut + 0.3;
      if (arm === "parallel" && degree === 2) return shortcut - 0.2;
      return arm === "reverse" ? 1 : shortcut;
    }),
  );
  for (const sentence of [
    "Of 4 kinds of graphs (degree × path length) the first step of next-token training is not to be told from the shortcut, " +
      "right once in the degree, in 3 (2×3, 2×4, 3×3); more often right than the shortcut in 1 (3×4).",
    "parallel: no difference to one was seen in 1 (3×3 by 0.00 [0.00, 0.00]); fewer whole paths are " +
      "right than with one in 3 (2×3 by -0.20 [-0.20, -0.20]",
    "more whole paths are right than with one in 2 (2×3 by 0.30 [0.30, 0.30], 3×3 by 0.30 [0.30, 0.30])",
    "before anything is written: parallel less often right than the shortcut in 4 (2×3, 2×4, 3×3, 3×4); anticausal less",
  ])
    expect(verdict).toContain(sentence);
  expect(findings[0]).toContain("Runs of 3 that left the shortcut");
  expect(findings[0]).toContain("n = 1: 2×3 0, 2×4 0, 3×3 0, 3×4 3;");
  expect(findings[3]).toContain("3×4 1.00 [1.00, 1.00]");
  // ln d / l, exact.
  expect(tables[2]?.rows.map((row) => row[1])).toEqual(["0.2310", "0.1733", "0.3662", "0.2747"]);
});

test("one seed says nothing", () => {
  const one = madeUp(() => 0.5).filter(({ seed }) => seed === 1);
  expect(summariseStars(one).verdict).toMatch(/is of one seed only, which says nothing, in 4/);
  expect(sideOf({ n: 1, mean: 1, low: null, high: null }, 0.5)).toBe("unknown");
});

test("a cell stops when told to, and is the same again", async () => {
  const [settings] = starGraphStudy.configurations("quick");
  if (!settings) throw new Error("no configuration");
  const cell = { settings: { ...settings, steps: 20, evalEvery: 10 }, seed: 1 };
  expect(await starGraphStudy.runCell(cell, { device })).toEqual(await starGraphStudy.runCell(cell, { device }));
  const stop = new AbortController();
  stop.abort();
  await expect(starGraphStudy.runCell(cell, { device, signal: stop.signal })).rejects.toMatchObject({
    code: "ABORTED",
  });
});
