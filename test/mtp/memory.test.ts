import { describe, expect, it } from "vitest";
import { openDevice, type Device } from "../../lib/device.js";
import { emptyBatch } from "../../lib/io/batch.js";
import { DeviceBatch } from "../../lib/mtp/batch.js";
import type { HeadFamily, ModelOptions } from "../../lib/mtp/config.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { linearCrossEntropyTrain } from "../../lib/ops/cross-entropy.js";
import { scope } from "../../lib/scope.js";
import { Tape } from "../../lib/tape.js";
import { zeros, type Tensor } from "../../lib/tensor.js";
import { estimateMemory } from "../../lib/train/memory.js";
import { TrainingState } from "../../lib/train/step.js";
import { levels, onGpu, onSoftwareGpu, openLevel } from "../helpers/levels.js";
import { runChild } from "../helpers/child.js";

// What is allocated depends on shapes alone: here a software GPU runs the host code and no kernel.
if (onSoftwareGpu) process.env["PTX_DRY"] = "1";

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
    const device = openDevice();
    for (const dtype of ["f32", "bf16"] as const) {
      const config = { ...size, headFamily, futureTokens };
      const predicted = estimateMemory(config, { ...rows, dtype, device });
      expect(await measuredPeak(config, dtype, device)).toBe(predicted.peakBytes);
    }
  });

  it.each(levels())("at level %s, with replicated unembedding, bias and accumulation", async (simd) => {
    const device = openLevel(simd);
    const config: ModelOptions = { ...size, futureTokens: 3, unembedding: "replicated", unembeddingBias: true };
    const predicted = estimateMemory(config, { ...rows, dtype: "bf16", device, accumulate: 2 });
    expect(await measuredPeak(config, "bf16", device, 2)).toBe(predicted.peakBytes);
  });

  it("an RNN", async () => {
    const device = openDevice();
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
    using device = openDevice("dry", { like: openDevice() });
    const model = LanguageModel.create(config, { device, dtype: "bf16" });
    const own = model.parameters.all.filter(({ name }) => /^(extra_|linear_heads)/.test(name));
    const heads = own.reduce((sum, { master }) => sum + 4 * rounded(master.size * 4) + rounded(master.size * 2), 0);
    return estimateMemory(config, { ...rows, dtype: "bf16", device }).peakBytes - heads;
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
    const [R, d, H] = [rows.batchSize * rows.contextLength, size.hiddenSize, size.numAttentionHeads];
    const keyValues = (d / H) * size.numKeyValueHeads;
    const bytes = dtype === "bf16" ? 2 : 4;
    // Per layer: its input, q, k, v, attention's output and log-sum-exp, the residual stream between its halves. Norms'
    // outputs, gate, up and their product are made again. The trunk's output is z.
    const layer = bytes * R * (d + d + 2 * keyValues + d + d) + 4 * R * H;
    expect(device.memory().live - before).toBe(size.trunkLayers * layer + bytes * R * d);
    tape.dispose();
    z.dispose();
    expect(device.memory().live).toBe(before);
  });
});

describe("the closed formula of the peak", () => {
  const { hiddenSize: d, trunkLayers: L } = size;
  const f = 192;
  const [n, keyValues, R] = [3, (d / size.numAttentionHeads) * size.numKeyValueHeads, 4 * 64];
  type Family = "parallel" | "causal" | "linear";
  const configOf = (headFamily: Family, vocabSize: number): ModelOptions => ({
    ...size,
    vocabSize,
    intermediateSize: f,
    headFamily,
    futureTokens: n,
  });
  const rounded = (bytes: number): number => Math.ceil(bytes / 64) * 64;
  const total = (blocks: readonly number[]): number => blocks.reduce((sum, bytes) => sum + rounded(bytes), 0);
  const repeat = (count: number, blocks: readonly number[]): number[] =>
    Array.from({ length: count }, () => blocks).flat();
  const widthOf = (dtype: "f32" | "bf16"): number => (dtype === "bf16" ? 2 : 4);

  /** Sizes of all parameters. */
  function parameterSizes(family: Family, V: number): number[] {
    const layer = [d, d * d, keyValues * d, keyValues * d, d * d, d, f * d, f * d, d * f];
    const heads = family === "linear" ? repeat(n, [d * d]) : repeat(n, layer);
    return [V * d, ...repeat(L, layer), ...heads, d, V * d];
  }

  /** What a training step holds from its beginning to its end. */
  function heldThroughout(family: Family, dtype: "f32" | "bf16", V: number): number {
    const perParameter = (size: number): number[] => [
      size * 4, // master
      ...(dtype === "bf16" ? [size * 2] : []), // what kernels read
      size * 4, // gradient
      ...[size * 4, size * 4], // moments
    ];
    const optimizer = [4, 16, 16]; // norm, state, status
    const batch = [4 * 4 * (64 + n), 4 * 4 * (64 + n), 4 * R, 4 * R]; // tokens, targets, limit, firstKey
    const pass = [4 * n, 32 * n, 16]; // scale, sums, status
    return total([...parameterSizes(family, V).flatMap(perParameter), ...optimizer, ...batch, ...pass]);
  }

  /** What a layer keeps for its backward pass beside its input. */
  const layerBlocks = (b: number): number[] => [
    ...[b * R * d, b * R * keyValues, b * R * keyValues], // q, k, v
    ...[b * R * d, 4 * R * size.numAttentionHeads], // attention's output and log-sum-exp
    b * R * d, // the residual stream between the halves
  ];

  /** Bytes live when the loss of head i (from 0) begins. */
  function liveAtLoss(family: Family, dtype: "f32" | "bf16", V: number, i: number): number {
    const b = widthOf(dtype);
    const stream = b * R * d;
    const trunk = [...repeat(L, [stream, ...layerBlocks(b)]), stream, 4 * R * d]; // … and z and dz
    const rows = [4 * n * R, 4 * n * R]; // every head's loss and argmax
    const head = [...(family === "linear" ? [] : layerBlocks(b)), stream, stream]; // … and its output, normed and not
    const chain = [
      ...repeat(i, [stream]), // inputs of the heads from the second to this one
      ...(i > 0 ? [4 * R * d] : []), // gradient of this head's input: for the first it is dz
      ...(i < n - 1 ? [4 * R * d] : []), // gradient from the next head
    ];
    const held = heldThroughout(family, dtype, V);
    return held + total([...trunk, ...rows, ...head, ...(family === "causal" ? chain : [])]);
  }

  /** Bytes live at the loss of each head, in the order they run, as a step takes them. */
  function observed(family: Family, dtype: "f32" | "bf16", V: number, device: Device): number[] {
    const model = LanguageModel.create(configOf(family, V), { device, dtype });
    const shape = { ...rows, lookahead: n };
    const state = new TrainingState(model, shape, {});
    const step = (): void => state.enqueue([emptyBatch(shape, 0)], [1, 1, 1], 1e-3);
    step(); // allocates the gradients
    const live: number[] = [];
    const finish = model.finish.bind(model);
    model.finish = (output) => {
      const hidden = finish(output);
      live.push(device.memory().live);
      return hidden;
    };
    step();
    state.dispose();
    model.dispose();
    return live;
  }

  /** Workspace of the fused loss and its gradients. */
  function lossWorkspace(dtype: "f32" | "bf16", V: number, simd: string): number {
    using device = openDevice("dry", { simd });
    scope(() => {
      const of = (shape: number[], as: "f32" | "bf16" | "i32"): Tensor => zeros(shape, { dtype: as, device });
      const weight = of([V, d], dtype);
      linearCrossEntropyTrain(
        of([R, d], dtype),
        weight,
        { tensor: of([V, d], "f32"), filled: true },
        undefined,
        { tokens: of([4, 64 + n], "i32"), limit: of([4, 64], "i32"), shift: 1 },
        { scale: of([1], "f32"), loss: of([R], "f32"), argmax: of([R], "i32") },
      );
    });
    return device.memory().byTag.workspace.peak;
  }

  const combinations = (["parallel", "causal", "linear"] as const).flatMap((family) =>
    (["f32", "bf16"] as const).map((dtype) => [family, dtype] as const),
  );
  const headsRun = (family: Family): number[] => (family === "causal" ? [2, 1, 0] : [0, 1, 2]);

  it.each(combinations)("bytes live where the loss of each head begins: %s %s", (family, dtype) => {
    using device = openDevice("dry");
    const expected = headsRun(family).map((i) => liveAtLoss(family, dtype, 256, i));
    expect(observed(family, dtype, 256, device)).toEqual(expected);
  });

  // With a large vocabulary and blocks of logits the loss is the highest place: its hidden states' gradient and workspace.
  it.each(levels().filter((simd) => simd !== "generic"))("the peak, in the loss, at level %s", (simd) => {
    for (const [family, dtype] of combinations) {
      using device = openDevice("dry", { simd });
      const V = 4096;
      const highest = Math.max(...headsRun(family).map((i) => liveAtLoss(family, dtype, V, i)));
      const expected = highest + rounded(widthOf(dtype) * R * d) + lossWorkspace(dtype, V, simd);
      const { peakBytes } = estimateMemory(configOf(family, V), { ...rows, dtype, device });
      expect(peakBytes, `${family} ${dtype}`).toBe(expected);
    }
  });

  // The portable loops take no workspace to speak of: there the highest place is the down projection's backward in the
  // head that runs first, where norm, gate, up and the gated product are made again beside the product's gradient.
  it.each([
    ["parallel", "f32", 0],
    ["parallel", "bf16", 0],
    ["causal", "f32", n - 1],
    ["causal", "bf16", n - 1],
  ] as const)("the peak, in a head's backward: %s %s", (family, dtype, i) => {
    using device = openDevice("dry", { simd: "generic" });
    const b = widthOf(dtype);
    const gradients = [b * R * d, 4 * R * d, ...(dtype === "bf16" ? [2 * R * d] : [])]; // hidden's, output's, its bf16 copy
    const madeAgain = [b * R * d, b * R * f, b * R * f, b * R * f];
    const expected = liveAtLoss(family, dtype, 256, i) + total([...gradients, ...madeAgain, b * R * f]);
    expect(estimateMemory(configOf(family, 256), { ...rows, dtype, device }).peakBytes).toBe(expected);
  });
});

// A GPU's memory is not the process's.
describe.skipIf(onGpu)("the process", () => {
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
