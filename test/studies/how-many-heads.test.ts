// The rule that chooses how many heads, on made-up numbers; and the study that judges it by full runs.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openDevice } from "../../lib/device.js";
import type { ByteResult } from "../../lib/studies/bytes-cell.js";
import { loadCharts } from "../../lib/studies/charts.js";
import { allowedHeads, chooseHeads, fastestDecoding, type HeadCandidate } from "../../lib/studies/choose-heads.js";
import { draftLengths } from "../../lib/studies/decoding.js";
import { howManyHeadsStudy } from "../../lib/studies/how-many-heads.js";
import { runHowMany, shortSteps, type HowManyResult } from "../../lib/studies/how-many-heads-cell.js";
import { judgeOne, summariseHowMany, tolerances } from "../../lib/studies/how-many-heads-summary.js";
import type { StudyReport } from "../../lib/studies/report.js";
import { runStudy } from "../../lib/studies/runner.js";
import { workFolder } from "../cli/command.js";

const device = openDevice();
const work = workFolder();
afterAll(work.remove);

/** Drafts of head i are right in `accepted`^(i − 1); a step of k tokens takes 1 + (k − 1)·`more` ms. */
function candidate(n: number, loss: number, accepted: number, more: number): HeadCandidate {
  const acceptances = Array.from({ length: n }, (_, i) => accepted ** i);
  return { n, loss, acceptances, stepMs: draftLengths(n).map((k) => ({ k, ms: 1 + (k - 1) * more })) };
}

describe("the rule", () => {
  test("the fastest length of drafts: tokens per step over its time", () => {
    // 1, 1.5, 1.875 tokens in 1, 1.2, 1.6 ms: 1000, 1250, 1171.875 a second
    expect(fastestDecoding(candidate(4, 2, 0.5, 0.2))).toEqual({ n: 4, k: 2, tokensPerSecond: 1250 });
    expect(fastestDecoding(candidate(4, 2, 0.1, 0.5))).toEqual({ n: 4, k: 1, tokensPerSecond: 1000 });
    expect(fastestDecoding(candidate(8, 2, 1, 0)).k).toBe(8);
  });

  test("only who loses little may be fast: the tolerance is a share of the least loss, bounds included", () => {
    const all = [
      candidate(1, 2, 1, 0),
      candidate(2, 2.03125, 1, 0),
      candidate(4, 2.125, 1, 0),
      candidate(8, 1.9375, 1, 0),
    ];
    expect(allowedHeads(all.slice(0, 3), 0.015625).map(({ n }) => n)).toEqual([1, 2]);
    expect(allowedHeads(all.slice(0, 3), 0.0625).map(({ n }) => n)).toEqual([1, 2, 4]);
    expect(allowedHeads(all, 0).map(({ n }) => n)).toEqual([8]);
  });

  test("the fastest of those allowed; of equals the fewest heads; plain decoding where drafts do not pay", () => {
    const all = [
      candidate(8, 2.3, 0.9, 0.1),
      candidate(1, 2, 0, 0),
      candidate(4, 2.1, 0.6, 0.1),
      candidate(2, 2.02, 0.6, 0.1),
    ];
    expect(chooseHeads(all, 0)).toMatchObject({ n: 1, k: 1 });
    expect(chooseHeads(all, 0.02)).toMatchObject({ n: 2, k: 2 });
    expect(chooseHeads(all)).toMatchObject({ n: 4, k: 4 });
    expect(chooseHeads(all, 1)).toMatchObject({ n: 8, k: 8 });
    expect(chooseHeads([candidate(4, 2, 0, 1), candidate(2, 2, 0, 1)])).toMatchObject({ n: 2, k: 1 });
  });

  test("refuses nothing to choose from, losses that are no numbers, and a tolerance below 0", () => {
    expect(() => chooseHeads([])).toThrow(/candidates: expected at least one/);
    expect(() => chooseHeads([candidate(1, NaN, 1, 0)])).toThrow(/candidates: expected at least one/);
    expect(() => chooseHeads([candidate(1, 1, 1, 0)], -0.1)).toThrow(/tolerance: expected 0 or more, got -0.1/);
  });
});

describe("a short run's choice by what the full runs show", () => {
  const full = [candidate(1, 2, 0, 0), candidate(2, 2.02, 1, 0), candidate(4, 2.5, 1, 0)]; // 1000, 2000, 4000 a second

  test("the same, a slower one, a faster one that loses too much", () => {
    expect(judgeOne(full, full, 0.02)).toEqual({ chosen: 2, best: 2, givenAway: 0, beyond: 0 });
    const slow = [candidate(1, 1, 0, 0), candidate(2, 2, 1, 0), candidate(4, 2, 1, 0)];
    expect(judgeOne(slow, full, 0.02)).toEqual({ chosen: 1, best: 2, givenAway: 0.5, beyond: 0 });
    const fast = [candidate(1, 1, 0, 0), candidate(2, 1, 1, 0), candidate(4, 1, 1, 0)];
    const judged = judgeOne(fast, full, 0.02);
    expect(judged).toMatchObject({ chosen: 4, best: 2, givenAway: -1 });
    expect(judged.beyond).toBeCloseTo(0.25 - 0.02, 12);
  });
});

test("full and long runs read enough to be judged; short ones are as long as their share", () => {
  for (const size of ["full", "long"] as const) {
    for (const settings of howManyHeadsStudy.configurations(size)) {
      const { tokens, parameters } = howManyHeadsStudy.plan(settings, device);
      expect(tokens / parameters).toBeGreaterThan(20);
    }
  }
  expect([0.05, 0.1, 0.0001].map((share) => shortSteps(2400, share))).toEqual([120, 240, 1]);
});

describe("quick", () => {
  let report: StudyReport;
  let folder: string;
  beforeAll(async () => {
    const out = work.path("studies");
    report = await runStudy(howManyHeadsStudy, { size: "quick", out, device, draw: await loadCharts() });
    folder = join(out, "how-many-heads-quick");
  }, 120_000);

  test("fixed numbers of heads have short runs, which know less than the full one; growing ones have none", () => {
    const shorts = report.cells.map(({ result }) => (result as HowManyResult).short.length);
    expect(shorts).toEqual([2, 2, 2, 2, 0, 0, 2, 2, 2, 2, 0, 0]);
    for (const { result } of report.cells) {
      const { short, full } = result as HowManyResult;
      const bits = [...short, full].map(({ bitsPerByte }) => bitsPerByte[0] ?? NaN);
      expect(bits).toEqual([...bits].sort((a, b) => b - a));
      expect(Math.max(...bits)).toBeLessThan(8);
    }
  });

  test("pictures, tables and sentences are complete", () => {
    expect(report.figures.map(({ name }) => name)).toEqual(["loss", "rate", "choices", "growing"]);
    for (const { name } of report.figures) expect(existsSync(join(folder, "figures", `${name}.png`))).toBe(true);
    expect(report.tables.map(({ rows }) => rows.length)).toEqual([tolerances.length * 2, 3 * 4, 5]);
    for (const { columns, rows } of report.tables) for (const row of rows) expect(row).toHaveLength(columns.length);
    expect(JSON.stringify([report.tables, report.verdict, report.findings])).not.toMatch(/NaN|undefined/);
  });

  test("a cell stops when told to", async () => {
    const settings = howManyHeadsStudy.configurations("quick")[0];
    if (!settings) throw new Error("no configuration");
    const running = runHowMany({ settings, seed: 1 }, { device, signal: AbortSignal.abort() });
    await expect(running).rejects.toMatchObject({ code: "ABORTED" });
  });
});

/** Three seeds of the full study; head 1 of n heads needs `bits(n, share, growing, seed)`, all drafts are right. */
function madeUp(bits: (n: number, share: number, growing: boolean, seed: number) => number) {
  return howManyHeadsStudy.configurations("full").flatMap((settings) =>
    [1, 2, 3].map((seed) => {
      const { training, shares } = settings;
      const n = training.model.futureTokens ?? 1;
      const of = (share: number): ByteResult => ({
        ...{ parameters: 1000, stepMs: 1, peakBytes: 1, trigramBits: 3 },
        bitsPerByte: Array.from({ length: n }, (_, i) => bits(n, share, training.grownBy > 0, seed) + i),
        accuracies: new Array<number>(n).fill(0.5),
        acceptances: new Array<number>(n).fill(1),
        decoding: draftLengths(n).map((k) => ({ k, tokensPerForward: k, msPerToken: 1 / k })),
      });
      return { settings, seed, result: { full: of(1), short: shares.map(of) } };
    }),
  );
}

test("the verdict says which n the full runs ask for, how often short runs find it and what that costs", () => {
  const { verdict, findings, tables } = summariseHowMany(
    madeUp((n, share, growing, seed) => {
      if (growing) return 2 + seed / 10 + (n === 4 ? 0.125 : ([0.2, -0.2, 0.03][seed - 1] ?? 0));
      if (share === 1) return 2 + seed / 10 + (n === 8 ? 0.5 : n === 4 ? 0.025 : 0);
      if (share === 0.2) return 3 + (n >= 4 ? 0.5 : 0); // too careful: chooses 2, half as fast as 4
      if (share === 0.1) return 3; // careless: chooses 8
      return 3 + (n === 8 ? 0.5 : 0);
    }),
  );
  expect(verdict).toContain("Where head 1 may lose 5 % for speed, the full runs ask for n = 4 (3 of 3 seeds).");
  expect(verdict).toContain(
    "Short runs of 5 % of the steps choose the same in 3 of 3, give away 0.0 [0.0, 0.0] % of the speed;",
  );
  expect(verdict).toMatch(/of 10 % of the steps choose the same in 0 of 3, exceed the loss allowed in 3, by 17\.\d \[/);
  expect(verdict).toContain(
    "of 20 % of the steps choose the same in 0 of 3, give away 50.0 [50.0, 50.0] % of the speed.",
  );
  expect(verdict).toContain(
    "from 1 to 4 over 50 % of the steps: head 1 has, beside 4 from the start, 0.100 bits a byte more",
  );
  expect(verdict).toContain(
    "At all 5 losses allowed they choose the same in 9 of 15 (5 %), 0 of 15 (10 %), 3 of 15 (20 %).",
  );
  expect(verdict).toMatch(/beside one head, no difference that was seen \(0\.010 bits a byte more/);
  expect(findings.join(" ")).toContain("Short runs of all 4 take 20 %, 40 %, 80 % of the steps");
  const atOnce = tables[0]?.rows.filter(([tolerance]) => tolerance === "0 %");
  expect(atOnce?.map((row) => row[2])).toEqual(["2 2 2", "2 2 2", "2 2 2"]);
});
