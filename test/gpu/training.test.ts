// Twenty steps on the GPU beside the same on the CPU, and what goes wrong in the middle of one.
import { describe, expect, it } from "vitest";
import { openDevice, type Device } from "../../lib/device.js";
import { emptyBatch } from "../../lib/io/batch.js";
import { tokenDataset } from "../../lib/io/dataset.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { add } from "../../lib/ops/elementwise.js";
import { tensor } from "../../lib/tensor.js";
import { TrainingState } from "../../lib/train/step.js";
import { Trainer } from "../../lib/train/trainer.js";
import { fullBatch } from "../helpers/golden.js";
import { exampleTokens, tinyModel } from "../train/example.js";

const model = { ...tinyModel, hiddenSize: 64, trunkLayers: 2, maxPositions: 48 };

// f32 has no tensor cores: a software GPU takes its multiply-adds one by one.
const sizes = { f32: tinyModel, bf16: model };

async function losses(device: Device, dtype: "f32" | "bf16"): Promise<number[][]> {
  using trained = LanguageModel.create(sizes[dtype], { device, dtype, seed: 3 });
  const data = tokenDataset(exampleTokens(), { vocabSize: 256 });
  const all: number[][] = [];
  for await (const { losses } of new Trainer(trained, { data, steps: 20, batchSize: 4, learningRate: 3e-3 }))
    all.push([...losses]);
  return all;
}

describe("twenty steps", () => {
  // f32: rounding in another order, grown by twenty updates. bf16: 2⁻⁸ of a loss of about 5.
  it.each([
    ["f32", 2e-3],
    ["bf16", 4e-2],
  ] as const)("have the CPU's losses, %s", async (dtype, bound) => {
    const own = await losses(openDevice("cuda"), dtype);
    const expected = await losses(openDevice("cpu"), dtype);
    expect(own).toHaveLength(20);
    for (const [step, row] of expected.entries())
      for (const [head, loss] of row.entries())
        expect(Math.abs((own[step]?.[head] ?? NaN) - loss), `step ${step + 1}, head ${head + 1}`).toBeLessThan(bound);
    expect(own.at(-1)?.[0]).toBeLessThan((own[0]?.[0] ?? 0) - 0.2); // it learns
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

  it("goes on with a smaller batch after memory ran out in the middle of a step", async () => {
    const shape = (batchSize: number) => ({ batchSize, contextLength: 48, lookahead: 3 });
    const needs = (batchSize: number): number => {
      using dry = openDevice("dry", { like: openDevice("cuda") });
      using planned = LanguageModel.create(model, { device: dry, dtype: "bf16" });
      const state = new TrainingState(planned, shape(batchSize), {});
      state.enqueue([emptyBatch(shape(batchSize), 0)], [1, 1, 1], 1e-3);
      const { peak } = dry.memory();
      state.dispose();
      return peak;
    };
    using device = openDevice("cuda", { memoryLimit: Math.round((needs(2) + needs(16)) / 2) });
    using trained = LanguageModel.create(model, { device, dtype: "bf16", seed: 3 });
    const before = device.memory().live;
    const step = async (batchSize: number): Promise<number> => {
      const state = new TrainingState(trained, shape(batchSize), {});
      try {
        const tokens = Int32Array.from({ length: batchSize * (48 + 3) }, (_, i) => (i * 7) % 256);
        state.enqueue([fullBatch(shape(batchSize), tokens)], [1, 1, 1], 1e-3);
        return (await state.report()).gradientNorm;
      } finally {
        state.dispose();
      }
    };
    await expect(step(16)).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
    expect(await step(2)).toBeGreaterThan(0);
    expect(device.memory().live).toBeGreaterThanOrEqual(before);
  });
});
