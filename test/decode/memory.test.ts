// What decoding takes, known beforehand: a dry device's ledger is the real one's, and everything is given back.
import { describe, expect, it } from "vitest";
import { openDevice, type Device } from "../../lib/device.js";
import { beamSearch } from "../../lib/decode/beam.js";
import { generateBatch } from "../../lib/decode/batch.js";
import type { BatchOptions } from "../../lib/decode/batch.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { families } from "../helpers/decoding.js";
import { onGpu } from "../helpers/levels.js";

const size = { vocabSize: 61, heads: 4, maxPositions: 64 };
const prompts = [[1, 2, 3], [4, 5, 6, 7, 8], [9]];

async function cacheBytes(device: Device, config: Parameters<typeof LanguageModel.create>[0], options: BatchOptions) {
  const { live } = device.memory();
  const model = LanguageModel.create(config, { device, dtype: "bf16", seed: 1 });
  const before = device.memory().live;
  device.resetPeak();
  for await (const _ of generateBatch(model, prompts, { maxNewTokens: 20, slots: 2, ...options }));
  const { byTag } = device.memory();
  expect(device.memory().live).toBe(before);
  model.dispose();
  expect(device.memory().live).toBe(live);
  return byTag.cache.peak;
}

describe.each(Object.entries(families(size)))("%s", (name, config) => {
  it.each([{ speculate: "off" }, { speculate: 4 }] as const)("caches, predicted and measured: %o", async (options) => {
    const device = onGpu ? openDevice("cuda") : openDevice("cpu");
    using dry = openDevice("dry", { like: device });
    const predicted = await cacheBytes(dry, config, options);
    expect(await cacheBytes(device, config, options)).toBe(predicted);
    if (name === "rnn") return;
    // Keys and values of two slots, for the layers that are read; with drafts the hidden states that the heads start from.
    const layers = { parallel: 1, replicated: 1, causal: 1, anticausal: 4, linear: 0, none: 0 }[name] ?? 0;
    const others =
      options.speculate === "off" || name === "anticausal" ? 0 : { parallel: 3, replicated: 3, causal: 3 }[name];
    const positions = 64 + (options.speculate === "off" ? 0 : 3); // the last draft may reach beyond the context
    const perSlot = positions * 2 * 16 * 2 * (1 + layers + (others ?? 0)); // positions × (keys, values) × G·D × bytes
    const states = options.speculate === "off" ? 0 : positions * 32 * 2 * (name === "anticausal" ? 3 : 1);
    expect(predicted - 2 * (perSlot + states)).toBeLessThan(2048); // the tokens' pool
    expect(predicted).toBeGreaterThanOrEqual(2 * (perSlot + states));
  });
});

it.each(["parallel", "anticausal", "none"] as const)(
  "caches of trees and beams, predicted and measured: %s",
  async (kind) => {
    const config = families(size)[kind];
    const device = onGpu ? openDevice("cuda") : openDevice("cpu");
    using dry = openDevice("dry", { like: device });
    const tree = [[0], [1], [0, 0], [0, 1], [1, 0]];
    const options = { speculate: 4, tree } as const;
    const predicted = await cacheBytes(dry, config, options);
    expect(await cacheBytes(device, config, options)).toBe(predicted);
    // 5 places more per slot than a chain of two: the deepest path's two, and three nodes beside the likeliest chain.
    const perPlace = (predicted - (await cacheBytes(dry, config, { speculate: 3 }))) / (2 * 5);
    const heads = { parallel: 3, anticausal: 4, none: 0 }[kind];
    const states = kind === "anticausal" ? 3 : 1;
    expect(Math.abs(perPlace - 2 * 16 * 2 * (1 + heads) - 32 * 2 * states)).toBeLessThan(8); // and the pool's candidates

    const bytes = async (on: Device): Promise<number> => {
      using model = LanguageModel.create(config, { device: on, dtype: "bf16", seed: 1 });
      on.resetPeak();
      await beamSearch(model, [1, 2, 3], { numBeams: 3, maxNewTokens: 10, tree });
      return on.memory().byTag.cache.peak;
    };
    expect(await bytes(device)).toBe(await bytes(dry));
  },
);
