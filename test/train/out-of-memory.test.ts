import { describe, expect, it } from "vitest";
import { openDevice, type Device } from "../../lib/device.js";
import { generateTokens } from "../../lib/decode/generate.js";
import { ForetokenError } from "../../lib/errors.js";
import { emptyBatch } from "../../lib/io/batch.js";
import type { HeadFamily } from "../../lib/mtp/config.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { owning } from "../../lib/scope.js";
import { estimateMemory } from "../../lib/train/memory.js";
import { TrainingState } from "../../lib/train/step.js";

const size = { vocabSize: 64, hiddenSize: 32, trunkLayers: 1, numAttentionHeads: 2, maxPositions: 16, futureTokens: 3 };
const shape = { batchSize: 2, contextLength: 16, lookahead: 3 };
const families: readonly HeadFamily[] = ["parallel", "causal", "anticausal", "linear", "none"];

/** Runs fn on devices with ever more memory until it fits; each failure is OUT_OF_MEMORY and leaves nothing behind. */
async function sweep(peak: number, steps: number, fn: (device: Device) => void | Promise<void>): Promise<number> {
  let refused = 0;
  for (let i = 0; i <= steps; i++) {
    using device = openDevice("dry", { memoryLimit: Math.max(64, Math.floor((peak * i) / steps)) });
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

  it("while generating", async () => {
    using roomy = openDevice("dry");
    const write = async (device: Device): Promise<void> => {
      using model = LanguageModel.create(config, { device, dtype: "bf16" });
      for await (const _ of generateTokens(model, [1, 2, 3], { maxNewTokens: 3 }));
    };
    await write(roomy);
    const refused = await sweep(roomy.memory().peak, 100, write);
    expect(refused).toBe(100);
  });
});
