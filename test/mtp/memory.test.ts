import { describe, expect, it } from "vitest";
import { openDevice, type Device } from "../../lib/device.js";
import { emptyBatch } from "../../lib/io/batch.js";
import { DeviceBatch } from "../../lib/mtp/batch.js";
import type { HeadFamily, ModelOptions } from "../../lib/mtp/config.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { scope } from "../../lib/scope.js";
import { Tape } from "../../lib/tape.js";
import { estimateMemory } from "../../lib/train/memory.js";
import { TrainingState } from "../../lib/train/step.js";
import { levels } from "../helpers/golden.js";
import { runChild } from "../helpers/child.js";

const size = {
  vocabSize: 256,
  hiddenSize: 128,
  trunkLayers: 2,
  numAttentionHeads: 2,
  numKeyValueHeads: 1,
  maxPositions: 64,
} as const;
const rows = { batchSize: 4, contextLength: 64 };
const families: readonly HeadFamily[] = ["parallel", "causal", "anticausal", "linear", "none"];

/** Peak bytes of two real training steps on a device of their own ledger. */
async function measuredPeak(
  config: ModelOptions,
  dtype: "f32" | "bf16",
  device: Device,
  accumulate = 1,
): Promise<number> {
  const before = device.memory().live;
  device.resetPeak();
  const model = LanguageModel.create(config, { device, dtype });
  const shape = { ...rows, lookahead: model.config.futureTokens };
  const state = new TrainingState(model, shape, {});
  const batches = Array.from({ length: accumulate }, () => emptyBatch(shape, 0));
  for (let step = 0; step < 2; step++) {
    state.enqueue(
      batches,
      model.heads.map(() => 1),
      1e-3,
    );
    await state.report();
  }
  const { peak } = device.memory();
  state.dispose();
  model.dispose();
  expect(device.memory().live).toBe(before);
  return peak - before;
}

describe("predicted peak = measured peak, to the byte", () => {
  const cases = families.flatMap((headFamily) => [1, 2, 4, 8].map((futureTokens) => ({ headFamily, futureTokens })));

  it.each(cases)("$headFamily, n = $futureTokens", async ({ headFamily, futureTokens }) => {
    const device = openDevice("cpu");
    for (const dtype of ["f32", "bf16"] as const) {
      const config = { ...size, headFamily, futureTokens };
      const predicted = estimateMemory(config, { ...rows, dtype, device });
      expect(await measuredPeak(config, dtype, device)).toBe(predicted.peakBytes);
    }
  });

  it.each(levels())("at level %s, with replicated unembedding, bias and accumulation", async (simd) => {
    const device = openDevice("cpu", { simd });
    const config: ModelOptions = { ...size, futureTokens: 3, unembedding: "replicated", unembeddingBias: true };
    const predicted = estimateMemory(config, { ...rows, dtype: "bf16", device, accumulate: 2 });
    expect(await measuredPeak(config, "bf16", device, 2)).toBe(predicted.peakBytes);
  });

  it("an RNN", async () => {
    const device = openDevice("cpu");
    const config: ModelOptions = {
      vocabSize: 256,
      hiddenSize: 96,
      embeddingSize: 40,
      trunk: "rnn",
      maxPositions: 64,
      futureTokens: 3,
    };
    expect(await measuredPeak(config, "f32", device)).toBe(estimateMemory(config, { ...rows, device }).peakBytes);
  });
});

describe("peak memory does not grow with n", () => {
  const rounded = (bytes: number): number => Math.ceil(bytes / 64) * 64;

  /** Peak without what the heads own: parameters and bf16 copies, gradients, moments. */
  function peakWithoutHeads(config: ModelOptions): number {
    using device = openDevice("dry");
    const model = LanguageModel.create(config, { device, dtype: "bf16" });
    const own = model.parameters.all.filter(({ name }) => /^(extra_|linear_heads)/.test(name));
    const heads = own.reduce((sum, { master }) => sum + 4 * rounded(master.size * 4) + rounded(master.size * 2), 0);
    return estimateMemory(config, { ...rows, dtype: "bf16" }).peakBytes - heads;
  }

  it.each([
    { headFamily: "parallel" },
    { headFamily: "linear" },
    { headFamily: "parallel", unembedding: "replicated" },
    { headFamily: "none", unembedding: "replicated" },
  ] as const)("$headFamily $unembedding: peak(n=8) / peak(n=1) ≤ 1.02", (family) => {
    const at = (futureTokens: number): number => peakWithoutHeads({ ...size, ...family, futureTokens });
    expect(at(8) / at(1)).toBeLessThanOrEqual(1.02);
  });

  it.each(["causal", "anticausal"] as const)(
    "%s: each head beyond the third costs one boundary of B·T·d, and its rows",
    (headFamily) => {
      const config = { ...size, headFamily };
      const activations = (futureTokens: number): number =>
        estimateMemory({ ...config, futureTokens }, { ...rows, dtype: "bf16" }).activationBytes;
      const positions = rows.batchSize * rows.contextLength;
      const boundary = rounded(positions * size.hiddenSize * 2);
      // Per head: loss and argmax of every row; per token of lookahead: tokens and targets; scale and sums per head.
      const perHead = positions * 8 + rows.batchSize * 8;
      const grown = activations(8) - activations(3);
      expect(Math.abs(grown - 5 * (boundary + perHead))).toBeLessThan(2048);
    },
  );
});

describe("the closed formula of what is held", () => {
  it.each(["f32", "bf16"] as const)("after the trunk's forward, %s", (dtype) => {
    using device = openDevice("dry");
    const config = { ...size, futureTokens: 2 };
    const model = LanguageModel.create(config, { device, dtype });
    const shape = { ...rows, lookahead: 2 };
    const batch = new DeviceBatch(device, shape);
    const before = device.memory().live;
    const tape = new Tape();
    const z = scope(() => tape.run(() => model.trunk.forward(batch.tokens, rows.contextLength, {})));
    const [R, d, f, H] = [
      rows.batchSize * rows.contextLength,
      size.hiddenSize,
      model.config.intermediateSize,
      size.numAttentionHeads,
    ];
    const keyValues = (d / H) * size.numKeyValueHeads;
    const bytes = dtype === "bf16" ? 2 : 4;
    // Per layer: its input, q, k, v, attention's output and log-sum-exp, the residual stream between its halves, gate
    // and up. Norms' outputs and the gated product are made again. The trunk's output is z.
    const layer = bytes * R * (d + d + 2 * keyValues + d + d + 2 * f) + 4 * R * H;
    expect(device.memory().live - before).toBe(size.trunkLayers * layer + bytes * R * d);
    tape.dispose();
    z.dispose();
    expect(device.memory().live).toBe(before);
  });
});

describe("the process", () => {
  it.each([
    ["parallel", 4, "bf16"],
    ["causal", 8, "bf16"],
    ["anticausal", 2, "f32"],
    ["linear", 8, "f32"],
    ["none", 8, "bf16"],
    ["parallel", 1, "f32"],
  ] as const)("grows by no more than the predicted peak × 1.03 + 16 MB: %s, n = %i, %s", async (...settings) => {
    const { stdout, stderr } = await runChild("mtp/children/high-water.ts", { args: settings.map(String) });
    expect(stderr).toBe("");
    const { grown, predicted, peak } = JSON.parse(stdout) as { grown: number; predicted: number; peak: number };
    expect(peak).toBe(predicted);
    expect(grown).toBeLessThanOrEqual(predicted * 1.03 + 16e6);
  });
});
