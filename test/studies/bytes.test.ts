// The byte study: models of equal size, what a cell measures beside other ways to count it, and the interval's verdict.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { generateTokens } from "../../lib/decode/generate.js";
import { openDevice } from "../../lib/device.js";
import { tokenDataset } from "../../lib/io/dataset.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { headWeightsAt } from "../../lib/mtp/head-weights.js";
import { byteStudy } from "../../lib/studies/bytes.js";
import { growingWeights, type ByteResult } from "../../lib/studies/bytes-cell.js";
import { summariseBytes, type ByteSettings } from "../../lib/studies/bytes-summary.js";
import { loadCharts } from "../../lib/studies/charts.js";
import { draftLengths, expectedTokens, measureDecoding, promptsFrom } from "../../lib/studies/decoding.js";
import { runStudy } from "../../lib/studies/runner.js";
import type { StudyReport } from "../../lib/studies/report.js";
import { studySizes } from "../../lib/studies/study.js";
import { workFolder } from "../cli/command.js";

const device = openDevice();
const work = workFolder();
afterAll(work.remove);

test.each(studySizes)("%s: models of one corpus have equally many parameters, to half a percent", (size) => {
  const counts = byteStudy.configurations(size).map((settings) => byteStudy.plan(settings, device).parameters);
  for (const count of counts) expect(Math.abs(count / (counts[0] ?? NaN) - 1)).toBeLessThan(1 / 200);
});

test("full and long runs read enough to be judged, with every n, both unembeddings and both corpora", () => {
  for (const size of ["full", "long"] as const) {
    const configurations = byteStudy.configurations(size);
    expect(configurations.map((settings) => byteStudy.describe(settings))).toEqual([
      ...["code, n = 1", "code, n = 2", "code, n = 4", "code, n = 8"],
      ...["code, n = 2, replicated", "code, n = 4, replicated", "code, n = 8, replicated"],
      ...["prose, n = 1", "prose, n = 2", "prose, n = 4", "prose, n = 8"],
    ]);
    for (const settings of configurations) {
      const { tokens, parameters } = byteStudy.plan(settings, device);
      expect(tokens / parameters).toBeGreaterThan(20);
    }
  }
});

test("heads that grow in number: one more in each stage up to half of the steps, then all of them", () => {
  const active = (step: number): number[] => headWeightsAt(growingWeights(0.5, 4, 16), 4, step);
  const counts = Array.from({ length: 16 }, (_, i) => active(i + 1).filter((weight) => weight === 1).length);
  expect(counts).toEqual([1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4]);
  expect(growingWeights(0, 4, 16)).toBe("equal");
});

describe("decoding", () => {
  const options = { vocabSize: 32, hiddenSize: 16, trunkLayers: 1, numAttentionHeads: 1, maxPositions: 64 };
  const prompts = [Int32Array.of(1, 2, 3), Int32Array.of(4, 5), Int32Array.of(31, 7)];

  /** Forwards that a text takes behind its first token, from what every head says at every position of the whole text. */
  async function countedForwards(model: LanguageModel, prompt: Int32Array, count: number, k: number): Promise<number> {
    const text = [...prompt];
    for await (const { token } of generateTokens(model, prompt, { maxNewTokens: count, speculate: "off" }))
      text.push(token);
    const heads = model.forward([text]);
    const logits = await Promise.all(heads.map(async (head) => await head.toFloats()));
    for (const head of heads) head.dispose();
    const said = (head: number, t: number): number => {
      const own = Array.from(logits[head] ?? []).slice(32 * t, 32 * (t + 1));
      return own.indexOf(Math.max(...own));
    };
    let forwards = 0;
    for (let [last, written] = [prompt.length - 1, 1]; written < count; forwards++) {
      let right = 0; // of the draft by heads 2 to k behind `last`
      while (right < k - 1 && said(right + 1, last) === text[last + 2 + right]) right++;
      written += right + 1;
      last += right + 1;
    }
    return forwards;
  }

  test("counts the tokens and forwards behind each text's first token, for plain decoding and drafts up to n", async () => {
    using model = LanguageModel.create({ ...options, futureTokens: 4 }, { device, seed: 3 });
    const measured = await measureDecoding(model, prompts, { newTokens: 20, rounds: 1 });
    expect(measured.map(({ k }) => k)).toEqual([1, 2, 4]);
    for (const { k, tokensPerForward, msPerToken } of measured) {
      let forwards = 0;
      for (const prompt of prompts) forwards += await countedForwards(model, prompt, 20, k);
      expect(tokensPerForward).toBe((3 * 19) / forwards);
      expect(msPerToken).toBeGreaterThan(0);
    }
    expect(measured[0]?.tokensPerForward).toBe(1);
    expect(measured[2]?.tokensPerForward).toBeGreaterThan(1);
  });

  test("stops when told to", async () => {
    using model = LanguageModel.create({ ...options, futureTokens: 2 }, { device, seed: 3 });
    const running = measureDecoding(model, prompts, { newTokens: 20, rounds: 1 }, AbortSignal.abort());
    await expect(running).rejects.toMatchObject({ code: "ABORTED" });
  });

  test.each([
    [1, [1]],
    [2, [1, 2]],
    [7, [1, 2, 4]],
    [8, [1, 2, 4, 8]],
  ])("drafts of %d heads", (n, lengths) => {
    expect(draftLengths(n)).toEqual(lengths);
  });

  test("a draft's expected tokens are head 1's and the acceptances of those up to k", () => {
    expect([1, 2, 3, 4].map((k) => expectedTokens([1, 0.5, 0.25, null], k))).toEqual([1, 1.5, 1.75, 1.75]);
  });

  test("prompts are pieces of different held-out documents that are long enough", () => {
    const document = (first: number, length: number) => ({ tokens: Array.from({ length }, (_, i) => first + i) });
    const data = tokenDataset([document(0, 12), document(20, 5), document(40, 13)], { vocabSize: 64 });
    const plan = { prompts: 2, promptLength: 3, newTokens: 1, rounds: 1 };
    expect(promptsFrom(data, plan).map((prompt) => [...prompt])).toEqual([
      [4, 5, 6],
      [45, 46, 47],
    ]);
    expect(() => promptsFrom(data, { ...plan, promptLength: 4 })).toThrow(/a document of 16 tokens/);
  });
});

describe("quick", () => {
  let report: StudyReport;
  let folder: string;
  beforeAll(async () => {
    const out = work.path("studies");
    report = await runStudy(byteStudy, { size: "quick", out, device, draw: await loadCharts() });
    folder = join(out, "bytes-quick");
  }, 120_000);

  test("every cell has what it should, within what is possible", () => {
    expect(report.cells).toHaveLength(7 * 2);
    for (const { settings, result: found } of report.cells) {
      const [{ model }, result] = [settings as ByteSettings, found as ByteResult];
      const n = model.futureTokens ?? NaN;
      for (const each of [result.bitsPerByte, result.accuracies, result.acceptances]) expect(each).toHaveLength(n);
      for (const bits of result.bitsPerByte) expect(bits).toBeLessThan(8);
      expect(result.trigramBits).toBeGreaterThan(2);
      expect(result.trigramBits).toBeLessThan(8);
      expect(result.decoding.map(({ k }) => k)).toEqual(draftLengths(n));
      for (const { k, tokensPerForward } of result.decoding) {
        expect(tokensPerForward).toBeGreaterThanOrEqual(1);
        expect(tokensPerForward).toBeLessThanOrEqual(k);
      }
      expect(result.peakBytes).toBe(byteStudy.plan(settings as ByteSettings, device).peakBytes);
    }
  });

  test("one training is the same again but for the clock", async () => {
    const cell = report.cells[2];
    if (!cell) throw new Error("no cell");
    const { stepMs: _, decoding, ...again } = await byteStudy.runCell(cell as never, { device });
    expect(cell.result).toMatchObject(again);
    const tokens = (result: Pick<ByteResult, "decoding">) => result.decoding.map((way) => way.tokensPerForward);
    expect(tokens({ decoding })).toEqual(tokens(cell.result as ByteResult));
  });

  test("numbers, pictures and the page are written", () => {
    for (const { name } of report.figures) {
      expect(readFileSync(join(folder, "figures", `${name}.svg`), "utf8")).toContain("<svg");
      expect(existsSync(join(folder, "figures", `${name}.png`))).toBe(true);
    }
    expect(readFileSync(join(folder, "index.html"), "utf8")).toContain("Too short to judge");
    for (const { columns, rows } of report.tables) for (const row of rows) expect(row).toHaveLength(columns.length);
    expect(JSON.stringify([report.tables, report.verdict, report.findings])).not.toMatch(/NaN|undefined/);
  });
});

/** Three seeds whose head 1 needs `bits(settings, seed)`; a draft of k makes decoding `speedUp(n, k)` times as fast. */
function madeUp(
  bits: (settings: ByteSettings, seed: number) => number,
  speedUp: (n: number, k: number, seed: number) => number,
) {
  return byteStudy.configurations("full").flatMap((settings) =>
    [3, 1, 2].map((seed) => {
      const n = settings.model.futureTokens ?? 1;
      const heads = Array.from({ length: n }, (_, i) => i);
      const result: ByteResult = {
        ...{ parameters: 1000, stepMs: 10 * (1 + n / 10), peakBytes: 1e6 * n, trigramBits: 2.5 },
        bitsPerByte: heads.map((i) => bits(settings, seed) + i),
        accuracies: heads.map((i) => 0.5 / (i + 1)),
        acceptances: heads.map((i) => 0.5 ** i),
        decoding: draftLengths(n).map((k) => ({
          ...{ k, tokensPerForward: k === 1 ? 1 : 1.5, msPerToken: 0.2 / speedUp(n, k, seed) },
        })),
      };
      return { settings, seed, result };
    }),
  );
}

test("the verdict tells what the intervals tell apart, and what they do not", () => {
  const noise = [0.2, -0.2, 0.03];
  const { verdict, findings } = summariseBytes(
    madeUp(
      ({ corpus, model, unembedding }, seed) =>
        2 +
        seed / 10 +
        (corpus === "code" && model.futureTokens === 4 ? 0.15 : 0) +
        (model.futureTokens === 8 ? (noise[seed - 1] ?? 0) : 0) -
        (unembedding === "replicated" && model.futureTokens === 2 ? 0.05 : 0),
      (n, k, seed) => (k === 1 ? 1 : n === 8 ? (k === 8 ? 0.5 : 1.25) : 1 + ([0.5, -0.5, 0.03][seed - 1] ?? 0)),
    ),
  );
  for (const sentence of [
    "Code, head 1 beside the only head of a model of as many parameters: n = 2 no difference that was seen (0.000",
    "n = 4 0.150 bits a byte more [0.150, 0.150]",
    "Unembeddings of their own beside a shared one: n = 2 0.050 bits a byte less [-0.050, -0.050]; n = 4 no difference",
    "n = 8 1.25 [1.25, 1.25] times as fast with k = 2.",
    "Prose, head 1 beside",
  ])
    expect(verdict).toContain(sentence);
  expect(verdict).toMatch(/n = 8 no difference that was seen \(0\.010 bits a byte more, \[-0\.\d+, 0\.\d+\]\)/);
  expect(verdict).toMatch(/n = 2 1\.01 \[0\.\d+, 2\.\d+\] times as fast with k = 2 \(no difference that was seen\)/);
  expect(findings.join("\n")).toContain("n = 8 1.64 [1.64, 1.64] and 8.00"); // (1 + 0.8) / (1 + 0.1)
  expect(findings.join("\n")).toContain("n = 4 1.88 and 1.50"); // 1 + 1/2 + 1/4 + 1/8
});

test("tables have a row for every arm and every k", () => {
  const { tables, figures } = summariseBytes(
    madeUp(
      () => 2,
      () => 1,
    ),
  );
  expect(tables.map(({ rows }) => rows.length)).toEqual([11, 1 + 2 + 3 + 4 + (2 + 3 + 4) + (1 + 2 + 3 + 4), 11]);
  expect(figures.map(({ name }) => name)).toEqual(["loss", "heads", "drafts", "speed", "cost"]);
});
