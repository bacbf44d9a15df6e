// A GPU that itself has no more memory, in the middle of a step. Limits that the ledger keeps are in test/train.
import { expect, it } from "vitest";
import { openDevice } from "../../lib/device.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { TrainingState } from "../../lib/train/step.js";
import { fullBatch } from "../helpers/golden.js";
import { onSoftwareGpu } from "../helpers/levels.js";
import { tinyModel } from "../train/example.js";

const memory = 3 << 20; // a page of 2 MiB, and a rest that no page fits in
if (onSoftwareGpu) process.env["PTX_MEMORY"] = String(memory);

it.runIf(onSoftwareGpu)("a smaller batch goes on where the GPU had no memory for a larger one", async () => {
  using device = openDevice("cuda", { memoryLimit: 1 << 30 }); // so that the GPU refuses, not the ledger
  using model = LanguageModel.create({ ...tinyModel, maxPositions: 48 }, { device, dtype: "bf16", seed: 3 });
  const { live } = device.memory();

  const gradientNorm = async (batchSize: number): Promise<number> => {
    const shape = { batchSize, contextLength: 48, lookahead: 3 };
    const tokens = Int32Array.from({ length: batchSize * (48 + 3) }, (_, i) => (i * 7) % 256);
    const state = new TrainingState(model, shape, {});
    try {
      state.enqueue([fullBatch(shape, tokens)], [1, 1, 1], 1e-3);
      return (await state.report()).gradientNorm;
    } finally {
      state.dispose();
    }
  };

  await expect(gradientNorm(8)).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
  expect(device.memory().byTag.activation.peak).toBeGreaterThan(memory / 8); // well into the step
  expect(device.memory().peak).toBeLessThanOrEqual(memory);
  expect(device.memory().live).toBe(live);
  expect(await gradientNorm(2)).toBeGreaterThan(0);
  expect(device.memory().live).toBe(live);
});
