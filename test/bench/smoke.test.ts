// Every bench runs, at tiny sizes, and its own checks of the results pass: a bench that measures something wrong throws.
import { expect, test } from "vitest";
import { benches } from "../../bench/benches.js";
import { formatTable, quantile, type Figure, type Finding } from "../../bench/report.js";
import { traceStep } from "../../bench/trace.js";
import { jobs, randomBatch, smokeJob, withHeads } from "../../bench/workload.js";
import { stepFlop } from "../../bench/peaks.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { openDevice } from "../../lib/device.js";

test.each(Object.entries(benches))("%s gives finite figures", async (_name, bench) => {
  const rows: Figure[] = [];
  for await (const finding of bench.run({ smoke: true, rounds: 1, trace: false })) rows.push(...finding.rows);
  expect(rows.length).toBeGreaterThan(0);
  const numbers = rows.flatMap((row) => Object.values(row)).filter((value) => typeof value === "number");
  expect(numbers.length).toBeGreaterThan(0);
  expect(numbers.filter((value) => !Number.isFinite(value))).toEqual([]);
});

test("a trace finds every kernel of a step, and the step's own time", async () => {
  const findings: Finding[] = [];
  for await (const finding of traceStep(smokeJob, "bf16", 1)) findings.push(finding);
  const calls = Object.fromEntries((findings[0]?.rows ?? []).map((row) => [String(row["slot"]), row["calls"]]));
  expect(calls).toMatchObject({
    adamw: 1,
    gradientNorm: 1,
    embedding: 1,
    linearCrossEntropyTrain: 4,
    attentionBackward: 5,
  });
});

test("equal size means equal parameters, the same trunk means as many layers", () => {
  const job = jobs[1];
  if (!job) throw new Error("there are two jobs");
  const parameters = (n: number, trunk: "same size" | "same trunk"): number => {
    using device = openDevice("dry");
    using model = LanguageModel.create(withHeads(job, n, trunk).config, { device });
    return model.parameters.count;
  };
  expect(parameters(1, "same size")).toBe(parameters(8, "same size"));
  const layer = 4 * 256 ** 2 + 3 * 256 * 704 + 2 * 256;
  expect(parameters(3, "same trunk") - parameters(2, "same trunk")).toBe(layer);
});

test("FLOP of a step: three products per weight and token, and causal attention", () => {
  const [job] = jobs;
  if (!job) throw new Error("there are two jobs");
  const layer = 6 * 2048 * (4 * 256 ** 2 + 3 * 256 * 704) + (14 * 256 * 8 * (256 * 257)) / 2;
  expect(stepFlop(job)).toBe(7 * layer + 4 * 6 * 2048 * 256 * 32000);
});

test("batches are the same each time, differ by number, and give every head every target", () => {
  const [job] = jobs;
  if (!job) throw new Error("there are two jobs");
  const [a, b, c] = [randomBatch(job, 0), randomBatch(job, 0), randomBatch(job, 1)];
  expect(a.tokens).toEqual(b.tokens);
  expect(a.tokens).not.toEqual(c.tokens);
  expect(Math.min(...a.tokens)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...a.tokens)).toBeLessThan(32000);
  expect(new Set(a.tokens).size).toBeGreaterThan(1900);
});

test("quantiles and tables", () => {
  expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5);
  expect(quantile([1, 2, 3], 1)).toBe(3);
  expect(
    formatTable([
      { name: "a", ms: 1234.5 },
      { name: "long", ms: 0.01 },
    ]),
  ).toBe("name      ms\na      1,235\nlong  0.0100");
});
