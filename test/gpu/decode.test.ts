// Decoding steps as they run on a GPU, a graph each: drafts by heads, by others, right and wrong, leave the text of plain
// decoding. The whole property is proven on the CPU (test/decode); the software GPU takes a second for a few forwards.
import { describe, expect, it } from "vitest";
import { openDevice } from "../../lib/device.js";
import { beamSearch } from "../../lib/decode/beam.js";
import type { DecodeStep } from "../../lib/decode/sequence.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { families } from "../helpers/decoding.js";
import { kinds, oracle, textOf, textsOf } from "../helpers/speculation.js";

const prompts = [
  [5, 17, 3, 44],
  [9, 9],
];
const length = 9;

describe.each(kinds)("%s heads", (name, config) => {
  it.each(name === "parallel" || name === "rnn" ? [0, 1.3] : [0])(
    "write the text of plain decoding, temperature %d",
    async (temperature) => {
      const device = openDevice("cuda");
      const { live } = device.memory();
      {
        using model = LanguageModel.create(config, { device, dtype: "bf16", seed: 3 });
        const options = { maxNewTokens: length, temperature, request: 0 };
        const plain: number[][] = [];
        for (const prompt of prompts) plain.push(await textOf(model, prompt, { ...options, speculate: "off" }));
        expect(plain.map((text) => text.length)).toEqual([length, length]);
        const requests = prompts.map((prompt) => ({ prompt, request: 0 }));
        expect(await textsOf(model, requests, { ...options, speculate: 3, slots: 2 })).toEqual(plain);
        // Right, right but for the second token, wrong.
        const texts = prompts.map((prompt, i) => [...prompt, ...(plain[i] ?? [])]);
        const draft = oracle(texts, (next, { tokens }) =>
          next.map((token, i) => (i === [3, 1, 0][tokens.length % 3] ? (token + 1) % config.vocabSize! : token)),
        );
        expect(await textsOf(model, requests, { ...options, speculate: 4, slots: 2, draft })).toEqual(plain);
      }
      expect(device.memory().live).toBe(live);
    },
  );
});

describe("trees and beams", () => {
  it.each(["parallel", "anticausal"] as const)("with %s heads change no token", async (kind) => {
    const device = openDevice("cuda");
    const { live } = device.memory();
    {
      // So few tokens that some branch of a tree is always right.
      const config = families({ vocabSize: 4, heads: 3, maxPositions: 64 })[kind];
      using model = LanguageModel.create(config, { device, dtype: "bf16", seed: 3 });
      const tree = [[0], [3], [1], [0, 1], [1, 2], [3, 0], [3, 3]];
      const accepted: number[] = [];
      for (const temperature of [0, 1.3]) {
        const options = { maxNewTokens: 12, temperature, request: 0 };
        const plain: number[][] = [];
        for (const prompt of [[1, 3, 2], [2]])
          plain.push(await textOf(model, prompt, { ...options, speculate: "off" }));
        const requests = [[1, 3, 2], [2]].map((prompt) => ({ prompt, request: 0 }));
        const onStep = (step: DecodeStep): unknown => accepted.push(step.accepted);
        expect(await textsOf(model, requests, { ...options, speculate: 3, tree, slots: 2, onStep })).toEqual(plain);
      }
      expect(new Set(accepted)).toEqual(new Set([0, 1, 2]));
      const search = { numBeams: 2, maxNewTokens: 8 };
      const undrafted = await beamSearch(model, [1, 3, 2], search);
      const drafted = await beamSearch(model, [1, 3, 2], { ...search, tree });
      expect(drafted.hypotheses).toEqual(undrafted.hypotheses);
      expect(drafted.forwards).toBeLessThan(undrafted.forwards);
    }
    expect(device.memory().live).toBe(live);
  });
});
