import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openDevice, type Device } from "../../lib/device.js";
import { generateTokens } from "../../lib/decode/generate.js";
import { ForetokenError } from "../../lib/errors.js";
import { emptyBatch } from "../../lib/io/batch.js";
import { tokenDataset } from "../../lib/io/dataset.js";
import type { HeadFamily } from "../../lib/mtp/config.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { owning } from "../../lib/scope.js";
import { estimateMemory } from "../../lib/train/memory.js";
import { TrainingState } from "../../lib/train/step.js";
import { Trainer } from "../../lib/train/trainer.js";
import { exampleTokens, tinyModel } from "./example.js";

const size = { vocabSize: 64, hiddenSize: 32, trunkLayers: 1, numAttentionHeads: 2, maxPositions: 16, futureTokens: 3 };
const shape = { batchSize: 2, contextLength: 16, lookahead: 3 };
const families: readonly HeadFamily[] = ["parallel", "causal", "anticausal", "linear", "none"];

/** Runs fn on devices with ever more memory until it fits; each failure is OUT_OF_MEMORY and leaves nothing behind. */
async function sweep(peak: number, steps: number, fn: (device: Device) => void | Promise<void>): Promise<number> {
  let refused = 0;
  for (let i = 0; i <= steps; i++) {
    const memoryLimit = Math.max(64, Math.floor((peak * i) / steps));
    using device = openDevice("dry", { memoryLimit, like: openDevice() });
    const error: unknown = await (async () => fn(device))().then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(device.memory().live, `after a limit of ${i}/${steps} of the peak`).toBe(0);
    if (error === undefined) continue;
    expect(error).toBeInstanceOf(ForetokenError);
    expect((error as ForetokenError).code).toBe("OUT_OF_MEMORY");
    refused++;
  }
  return refused;
}

describe.each(families)("running out of memory loses nothing, %s", (headFamily) => {
  const config = { ...size, headFamily };

  it.each(["f32", "bf16"] as const)("in a training step, wherever it happens, %s", async (dtype) => {
    const { peakBytes } = estimateMemory(config, { ...shape, dtype });
    const refused = await sweep(peakBytes, 150, (device) => {
      using model = LanguageModel.create(config, { device, dtype });
      const state = owning(() => new TrainingState(model, shape, {}));
      try {
        // The first step makes the gradients, so the second stands higher.
        for (let step = 0; step < 2; step++) state.enqueue([emptyBatch(shape, 0)], [1, 1, 1], 1e-3);
      } finally {
        state.dispose();
      }
    });
    expect(refused).toBe(150); // the peak itself is enough, and nothing less
  });

  // Not "auto": which steps are recorded, and so the peak, would hang on what they take.
  it.each(["off", 2, 3] as const)("while generating, speculate: %s", async (speculate) => {
    using roomy = openDevice("dry", { like: openDevice() });
    const write = async (device: Device): Promise<void> => {
      using model = LanguageModel.create(config, { device, dtype: "bf16" });
      for await (const _ of generateTokens(model, [1, 2, 3], { maxNewTokens: 3, speculate }));
    };
    await write(roomy);
    const refused = await sweep(roomy.memory().peak, 400, write);
    expect(refused).toBe(400);
  });
});

describe("a run whose memory ends in the middle of a step", () => {
  const data = tokenDataset(exampleTokens(), { vocabSize: 256 });
  const [small, large] = [2, 8];
  const needs = (batchSize: number): number => estimateMemory(tinyModel, { batchSize, dtype: "bf16" }).peakBytes;

  async function weightsOf(model: LanguageModel): Promise<ArrayLike<number>[]> {
    return Promise.all(model.parameters.all.map(({ master }) => master.data()));
  }

  it("loses nothing, and goes on with a smaller batch as if nothing had happened", async () => {
    const out = await mkdtemp(join(tmpdir(), "foretoken-memory-"));
    const memoryLimit = Math.round((needs(small) + needs(large)) / 2);
    using device = openDevice(openDevice().kind, { memoryLimit });
    using model = LanguageModel.create(tinyModel, { device, dtype: "bf16", seed: 7 });
    const { live } = device.memory();
    const run = { data, warmupSteps: 0, schedule: "constant", out } as const;
    await new Trainer(model, { ...run, steps: 2, batchSize: small }).run();
    const saved = await weightsOf(model);

    const tooLarge = new Trainer(model, { ...run, steps: 4, batchSize: large, resume: true });
    await expect(tooLarge.run()).rejects.toMatchObject({ code: "OUT_OF_MEMORY" });
    expect(device.memory().byTag.activation.peak).toBeGreaterThan(memoryLimit / 8); // well into the step
    expect(device.memory().live).toBe(live);
    expect(await weightsOf(model)).toEqual(saved);

    const { step } = await new Trainer(model, { ...run, steps: 4, batchSize: small, resume: true }).run();
    expect(step).toBe(4);
    expect(device.memory().live).toBe(live);
    using straight = LanguageModel.create(tinyModel, { dtype: "bf16", seed: 7 });
    await new Trainer(straight, { ...run, out: undefined, steps: 4, batchSize: small }).run();
    expect(await weightsOf(model)).toEqual(await weightsOf(straight));
    await rm(out, { recursive: true });
  });
});
