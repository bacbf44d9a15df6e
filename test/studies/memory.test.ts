// The memory study: four arms that compute the same, predictions that are exact, savings from what the ledger says.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { openDevice, type Device } from "../../lib/device.js";
import { emptyBatch, type Batch } from "../../lib/io/batch.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { arms, headsOf, type Arm } from "../../lib/studies/memory-arms.js";
import {
  predict,
  runMemory,
  type ArmResult,
  type MemoryResult,
  type MemorySettings,
  type Timeline,
} from "../../lib/studies/memory-cell.js";
import { largestDifference, summariseMemory } from "../../lib/studies/memory-summary.js";
import { memoryStudy } from "../../lib/studies/memory.js";
import { runStudy } from "../../lib/studies/runner.js";
import { estimateMemory } from "../../lib/train/memory.js";
import { TrainingState } from "../../lib/train/step.js";
import { relativeError } from "../helpers/golden.js";

const device = openDevice();
const settingsOf = (futureTokens: number, vocabSize: number, timeline = false): MemorySettings => ({
  model: { vocabSize, hiddenSize: 32, trunkLayers: 1, numAttentionHeads: 2, maxPositions: 24, futureTokens },
  ...{ batchSize: 2, contextLength: 24, rounds: 1, timeline },
});

/** Tokens that differ, a few of them no target, documents that end within the rows. */
function batchOf(n: number, vocabSize: number): Batch {
  const empty = emptyBatch({ batchSize: 2, contextLength: 24, lookahead: n }, 0);
  const tokens = empty.tokens.map((_, i) => (i * i * 7 + 3 * i) % vocabSize);
  const targets = tokens.map((token, i) => (i % 11 === 5 ? -100 : token));
  return {
    ...empty,
    tokens,
    targets,
    firstKey: empty.firstKey.map((_, i) => (i % 24 < 9 ? 0 : 9)),
    limit: empty.limit.map((_, i) => (i % 24 < 9 ? 8 : 23 + n)),
  };
}

/** Losses and all gradients of a step by this arm, at the seed's parameters. */
async function gradientsOf(arm: Arm, n: number, on: Device): Promise<{ sums: number[]; gradients: number[][] }> {
  using model = LanguageModel.create(settingsOf(n, 97).model, { device: on, seed: 3 });
  const state = new TrainingState(model, { batchSize: 2, contextLength: 24, lookahead: n }, {});
  state.enqueue(
    [batchOf(n, 97)],
    model.heads.map((_, i) => 1 / (i + 1)),
    0,
    headsOf[arm],
  );
  const { sums } = await state.report();
  const gradients = await Promise.all(
    model.parameters.all.map(async ({ tensor }) => Array.from(await tensor.toFloats())),
  );
  state.dispose();
  return { sums: Array.from(sums), gradients };
}

describe.each([1, 3])("the arms, n = %d", (n) => {
  test("give the same losses, metrics and gradients as the training step, to 1e-5", async () => {
    const wanted = await gradientsOf("sequential + fused", n, device);
    expect(Math.max(...wanted.gradients.flat())).toBeGreaterThan(1e-3);
    for (const arm of arms) {
      const got = await gradientsOf(arm, n, device);
      expect(relativeError(got.sums, wanted.sums), arm).toBeLessThan(1e-5);
      for (const [i, gradient] of got.gradients.entries())
        expect(relativeError(gradient, wanted.gradients[i] ?? []), arm).toBeLessThan(1e-5);
    }
  });

  test("take what is predicted, to the byte; sequential + fused what estimateMemory says of any training", async () => {
    const settings = settingsOf(n, 1024, true);
    const result = await runMemory({ settings, seed: 1 }, { device });
    const estimate = estimateMemory(settings.model, { batchSize: 2, contextLength: 24, device });
    for (const arm of arms) {
      const { peakBytes, predictedBytes, timeline } = result.arms[arm];
      expect(peakBytes, arm).toBe(predictedBytes);
      expect(Math.max(...(timeline?.bytes ?? [])), arm).toBe(peakBytes);
    }
    expect(result.arms["sequential + fused"].peakBytes).toBe(estimate.peakBytes);
    expect(result.parameterBytes).toBe(estimate.parameterBytes + estimate.gradientBytes + estimate.optimizerBytes);
    expect(largestDifference(result)).toBeLessThan(1e-5);
    expect(result.arms.naive.losses).toHaveLength(n);
    for (const loss of result.arms.naive.losses) expect(Math.abs(loss - Math.log(1024))).toBeLessThan(0.5);
  });
});

test("storing logits takes an array of them per head; the order takes all but one of these, fusing all", () => {
  const rows = 48;
  const rest = (arm: Arm, n: number, vocabSize: number): number => {
    const { peakBytes, parameterBytes } = predict(settingsOf(n, vocabSize), arm, device);
    return peakBytes - parameterBytes;
  };
  const perHead = (arm: Arm, vocabSize: number): number => (rest(arm, 8, vocabSize) - rest(arm, 4, vocabSize)) / 4;
  // Beyond V = 2048 a head's bytes grow by its logits alone.
  expect(perHead("naive", 4096) - perHead("naive", 2048)).toBe(4 * rows * 2048);
  for (const arm of ["sequential", "fused", "sequential + fused"] as const)
    expect(perHead(arm, 4096), arm).toBe(perHead(arm, 2048));
  // Loss and argmax of each row, the metrics of the head, rounded up to 64 bytes.
  expect(perHead("sequential + fused", 4096)).toBeLessThan(8 * rows + 256);
  expect(perHead("sequential", 4096)).toBe(perHead("sequential + fused", 4096));
  const kept = (vocabSize: number): number => rest("naive", 4, vocabSize) - rest("sequential", 4, vocabSize);
  expect(kept(4096) - kept(2048)).toBe(3 * 4 * rows * 2048);
});

test("the phases of a timeline follow each other, and the heads' part is where naive peaks", async () => {
  const { arms: measured } = await runMemory({ settings: settingsOf(4, 4096, true), seed: 2 }, { device });
  const timelineOf = (arm: Arm): Timeline => {
    const { timeline } = measured[arm];
    if (!timeline) throw new Error("no timeline");
    return timeline;
  };
  for (const arm of arms) {
    const { bytes, begins } = timelineOf(arm);
    expect(begins["trunk forward"]).toBe(0);
    expect(begins.heads).toBeGreaterThan(0);
    expect(begins["trunk backward"]).toBeGreaterThan(begins.heads);
    expect(begins.optimizer).toBeGreaterThan(begins["trunk backward"]);
    expect(begins.optimizer).toBe(bytes.length - 2); // the norm and AdamW
  }
  const { bytes, begins } = timelineOf("naive");
  const highest = bytes.indexOf(Math.max(...bytes));
  expect(highest).toBeGreaterThan(begins.heads);
  expect(highest).toBeLessThan(begins["trunk backward"]);
});

test("a cell stops when told to, and leaves nothing on the device", async () => {
  const before = device.memory().live;
  const stop = new AbortController();
  stop.abort();
  const running = runMemory({ settings: settingsOf(2, 64), seed: 1 }, { device, signal: stop.signal });
  await expect(running).rejects.toMatchObject({ code: "ABORTED" });
  await runMemory({ settings: settingsOf(2, 64, true), seed: 1 }, { device });
  expect(device.memory().live).toBe(before);
});

test("the largest naive step of the full form stays within 4 GB", () => {
  const planned = memoryStudy.configurations("full").map((settings) => memoryStudy.plan(settings, device).peakBytes);
  expect(Math.max(...planned)).toBeLessThan(4e9);
  expect(Math.max(...planned)).toBeGreaterThan(2e9);
});

const out = mkdtempSync(join(tmpdir(), "foretoken-memory-study-"));
afterAll(() => rmSync(out, { recursive: true }));

test("--quick: every cell, tables that are complete, a verdict of what the cells have, files", async () => {
  const draw = () => Promise.resolve({ svg: "<svg/>", png: new Uint8Array(1) });
  const report = await runStudy(memoryStudy, { size: "quick", out, device, draw });
  const configurations = memoryStudy.configurations("quick");
  expect(report.cells).toHaveLength(2 * configurations.length);
  expect(report.tooShort).toEqual([]);
  expect(report.findings[2]).toBe("Predicted and measured peaks are equal to the byte in 48 of 48 measurements.");
  const [bytes, slopes, times] = report.tables;
  expect(bytes?.rows.map((row) => row.at(-1))).toEqual(configurations.map(() => "to the byte"));
  expect(times?.rows).toHaveLength(configurations.length);
  expect(slopes?.rows).toHaveLength(2);
  for (const { columns, rows } of report.tables) for (const row of rows) expect(row).toHaveLength(columns.length);
  expect(report.verdict).toMatch(
    /^At V = 2048 and n = 4, with 64 positions of width 32, a step takes 6\.\d MB naively/,
  );
  expect(readdirSync(join(out, "memory-quick/figures"))).toHaveLength(2 * report.figures.length);
  expect(report.figures.map(({ name }) => name)).toEqual([
    "heads",
    "vocabulary",
    "savings",
    "time",
    "time-ratio",
    "timeline",
  ]);
}, 30_000);

/** Three seeds at n = 1, 2 and 4, V = 100: bytes and milliseconds as given. */
function madeUp(bytes: (arm: Arm, n: number) => number, ms: (arm: Arm, seed: number) => number) {
  return [1, 2, 4].flatMap((n) =>
    [1, 2, 3].map((seed) => {
      const armResult = (arm: Arm) => ({
        ...{ peakBytes: bytes(arm, n), predictedBytes: bytes(arm, n), losses: [1], gradientNorm: 1 },
        stepMs: [ms(arm, seed), ms(arm, seed), 1000],
      });
      const result: MemoryResult = {
        ...{ parameters: 1000, parameterBytes: 1e6 + n * 3e5 },
        arms: Object.fromEntries(arms.map((arm): [Arm, ArmResult] => [arm, armResult(arm)])) as Record<Arm, ArmResult>,
      };
      return { settings: { ...settingsOf(n, 100), rounds: 3 }, seed, result };
    }),
  );
}

test("the verdict says what each saves, what a head takes, and of times what the intervals tell apart", () => {
  const each: Record<Arm, number> = { naive: 2e6, sequential: 0, fused: 5e5, "sequential + fused": 1000 };
  const base: Record<Arm, number> = { naive: 2e6, sequential: 4e6, fused: 1e6, "sequential + fused": 1e6 };
  const ms: Record<Arm, readonly number[]> = {
    ...{ naive: [10, 20, 30], sequential: [11, 17, 31], fused: [5, 10, 15], "sequential + fused": [20, 40, 60] },
  };
  const cells = madeUp(
    (arm, n) => 1e6 + n * 3e5 + base[arm] + n * each[arm],
    (arm, seed) => ms[arm][seed - 1] ?? NaN,
  );
  const { verdict, findings } = summariseMemory(cells);
  for (const sentence of [
    "At V = 100 and n = 4, with 48 positions of width 32, a step takes 12.2 MB naively, of which 2.2 MB are parameters",
    "one head at a time it takes 6.2 MB (49.2 % less), with the fused loss alone 5.2 MB (57.4 % less), with both 3.2 MB",
    "Each further head takes 0.3 MB for its parameters, their gradients and moments, and beside these: naive 2.0 MB, sequential 0.0 kB, fused 0.5 MB, sequential + fused 1.0 kB.",
    "fused 0.50 [0.50, 0.50] times, sequential + fused 2.00 [2.00, 2.00] times",
  ])
    expect(verdict).toContain(sentence);
  expect(verdict).toMatch(/sequential no difference that was seen \(0\.99 \[0\.\d+, 1\.\d+\] times\)/);
  expect(findings[0]).toContain(
    "Of the 9.0 MB that both save there, the order alone saves 6.0 MB and the fused loss 3.0 MB more behind it; the fused loss alone saves 7.0 MB and the order 2.0 MB more behind it.",
  );
  expect(findings[2]).toBe("Predicted and measured peaks are equal to the byte in 36 of 36 measurements.");
  const wrong = cells.map((cell, i) => {
    const { naive } = cell.result.arms;
    const off = { ...cell.result.arms, naive: { ...naive, predictedBytes: naive.peakBytes + (i === 0 ? 64 : 0) } };
    return { ...cell, result: { ...cell.result, arms: off } };
  });
  expect(summariseMemory(wrong).findings[2]).toContain("in 35 of 36 measurements, and at most 64 bytes apart");
});
