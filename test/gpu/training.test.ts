// Training on the GPU beside the same on the CPU, and what it refuses.
import { describe, expect, it } from "vitest";
import { openDevice, type Device } from "../../lib/device.js";
import { tokenDataset } from "../../lib/io/dataset.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { add } from "../../lib/ops/elementwise.js";
import { tensor } from "../../lib/tensor.js";
import { Trainer } from "../../lib/train/trainer.js";
import { onSoftwareGpu } from "../helpers/levels.js";
import { exampleTokens, tinyModel } from "../train/example.js";

// f32 has no tensor cores: a software GPU takes its multiply-adds one by one.
const runs = {
  f32: { config: tinyModel, steps: onSoftwareGpu ? 4 : 20 },
  bf16: { config: { ...tinyModel, hiddenSize: 64, trunkLayers: 2, maxPositions: 48 }, steps: 20 },
};

async function losses(device: Device, dtype: "f32" | "bf16"): Promise<number[][]> {
  const { config, steps } = runs[dtype];
  using model = LanguageModel.create(config, { device, dtype, seed: 3 });
  const data = tokenDataset(exampleTokens(), { vocabSize: 256 });
  const all: number[][] = [];
  for await (const metrics of new Trainer(model, { data, steps, batchSize: 2, learningRate: 3e-3, warmupSteps: 2 })) {
    all.push([...metrics.losses]);
    // The first step makes the gradients, so the second stands higher.
    if (metrics.step > 1) expect(metrics.peakBytes).toBe(metrics.predictedPeakBytes);
  }
  return all;
}

describe("a run", () => {
  // f32: rounding in another order, grown by the updates. bf16: 2⁻⁸ of a loss of about 5.
  it.each([
    ["f32", 2e-3],
    ["bf16", 2e-2],
  ] as const)("has the CPU's losses, and the memory that was predicted, %s", async (dtype, bound) => {
    const own = await losses(openDevice("cuda"), dtype);
    const expected = await losses(openDevice("cpu"), dtype);
    expect(own).toHaveLength(runs[dtype].steps);
    for (const [step, row] of expected.entries())
      for (const [head, loss] of row.entries())
        expect(Math.abs((own[step]?.[head] ?? NaN) - loss), `step ${step + 1}, head ${head + 1}`).toBeLessThan(bound);
    if (own.length === 20) expect(own.at(-1)?.[0]).toBeLessThan((own[0]?.[0] ?? 0) - 0.1); // it learns
  });
});

describe("bad input", () => {
  it("refuses a tensor of another device", () => {
    const here = tensor(Float32Array.of(1), { dtype: "f32", device: openDevice("cuda") });
    const there = tensor(Float32Array.of(1), { dtype: "f32", device: openDevice("cpu") });
    expect(() => add(here, there)).toThrow(/another device/);
  });

  it("refuses a GPU that does not exist", () => {
    expect(() => openDevice("cuda", { index: 41 })).toThrow(expect.objectContaining({ code: "NO_DEVICE" }) as Error);
  });
});
