// Lossless sampling: rejection keeps head 1's distribution, against exact enumeration; what is kept where, by hand.
import { describe, expect, it } from "vitest";
import {
  distribution,
  judgeByRejection,
  judgeByTypicality,
  judgeExactly,
  type Judged,
  type Place,
} from "../../lib/decode/acceptance.js";
import { DraftShape } from "../../lib/decode/tree.js";
import { generateBatch } from "../../lib/decode/batch.js";
import type { Draw } from "../../lib/decode/inputs.js";
import type { GenerateOptions, Verification } from "../../lib/decode/options.js";
import { philox, uniform } from "../../lib/decode/philox.js";
import { DecodeStatistics } from "../../lib/decode/statistics.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { promptLookup } from "../../lib/decode/drafts.js";

const drawAt = (position: number, settings: Partial<Draw> = {}): Draw => ({
  ...{ temperature: 1, topK: 0, topP: 1, seed: 7, request: 0, position },
  ...settings,
});
const logitsOf = (shares: readonly number[]): Float32Array => Float32Array.from(shares, Math.log);
const shareOf = (place: Place): number[] => Array.from(distribution(place), (share) => Math.round(share * 1e6) / 1e6);

describe("philox", () => {
  it("gives the known answers of Random123", () => {
    expect(philox([0, 0, 0, 0], [0, 0])).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    expect(philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])).toEqual([
      0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1,
    ]);
  });

  it("numbers differ by seed, request, position and purpose", () => {
    const numbers = [
      drawAt(1),
      drawAt(2),
      drawAt(1, { seed: 8 }),
      drawAt(1, { seed: 7 + 2 ** 32 }),
      drawAt(1, { request: 1 }),
    ].flatMap((draw) => [uniform(draw, "keep"), uniform(draw, "draw")]);
    expect(new Set(numbers).size).toBe(10);
    const mean = Array.from({ length: 4000 }, (_, i) => uniform(drawAt(i), "keep")).reduce((a, b) => a + b) / 4000;
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.02);
  });
});

describe("distribution", () => {
  const logits = logitsOf([0.1, 0.4, 0.3, 0.2]);
  it.each([
    [{}, [0.1, 0.4, 0.3, 0.2]],
    [{ temperature: 0.5 }, [0.033333, 0.533333, 0.3, 0.133333]],
    [{ topK: 2 }, [0, 0.571429, 0.428571, 0]],
    [{ topP: 0.6 }, [0, 0.571429, 0.428571, 0]],
    [{ topP: 0.3 }, [0, 1, 0, 0]],
    [{ topK: 3, topP: 0.7 }, [0, 0.571429, 0.428571, 0]],
  ])("%o", (settings, expected) => {
    expect(shareOf({ logits, draw: drawAt(0, settings) })).toEqual(expected);
  });
});

/** In the middle of what was read and drawn for others too. */
function exactly(shape: DraftShape, draft: readonly number[], drawn: readonly number[]): Judged {
  const read = Int32Array.of(8, 8, 8, ...draft, 8);
  const logProbabilities = Float32Array.of(1, ...drawn.map((token) => -token), 1);
  const verdict = { read, drawn: Int32Array.of(8, ...drawn, 8), logProbabilities, logits: undefined };
  return judgeExactly(shape, verdict, { length: draft.length, row: 2, draw: 1 });
}

describe("judgeExactly", () => {
  it.each([
    [[1, 2, 3], [1, 2, 3, 4], 3, [1, 2, 3, 4]],
    [[1, 9, 3], [1, 2, 3, 4], 1, [1, 2]],
    [[9, 2, 3], [1, 2, 3, 4], 0, [1]],
    [[], [1], 0, [1]],
  ])("%o against %o", (draft, drawn, accepted, tokens) => {
    const judged = exactly(DraftShape.chain(3), draft, drawn);
    expect(judged.path).toEqual([0, 1, 2].slice(0, accepted));
    expect(judged.tried).toBe(Math.min(accepted + 1, draft.length));
    expect(judged.tokens.map(({ token }) => token)).toEqual(tokens);
    expect(judged.tokens.map(({ logProbability }) => logProbability)).toEqual(tokens.map((token) => -token));
  });
});

describe("judgeExactly, in a tree", () => {
  const shape = new DraftShape([[0], [0, 0], [1], [1, 0], [1, 1], [1, 1, 0]]);
  const draft = [5, 6, 7, 6, 8, 9];
  it.each([
    ["the likeliest chain", [5, 6, 1, 0, 0, 0, 0], [0, 1], 2, [5, 6, 1]],
    ["a branch aside", [7, 0, 0, 8, 0, 9, 4], [2, 4, 5], 3, [7, 8, 9, 4]],
    ["a branch as far as it is right", [7, 0, 0, 6, 3, 0, 0], [2, 3], 2, [7, 6, 3]],
    ["nothing where no branch is right", [6, 6, 6, 6, 6, 6, 6], [], 1, [6]],
    ["a node in which nothing is right", [7, 5, 5, 5, 5, 5, 5], [2], 2, [7, 5]],
  ])("keeps %s", (_name, drawn, path, tried, tokens) => {
    const judged = exactly(shape, draft, drawn);
    expect({ path: judged.path, tried: judged.tried }).toEqual({ path, tried });
    expect(judged.tokens.map(({ token }) => token)).toEqual(tokens);
  });

  it("looks at the first nodes alone where no more were proposed", () => {
    expect(exactly(shape, draft.slice(0, 3), [7, 0, 0, 8])).toMatchObject({ path: [2], tried: 1 });
  });
});

describe("judgeByRejection", () => {
  const p = [0.1, 0.4, 0.3, 0.2];
  it.each([
    ["another distribution", [0.7, 0.1, 0.1, 0.1], 1 - 0.6],
    ["the same distribution", p, 1],
    ["one that never proposes what is likely", [0.5, 0, 0, 0.5], 0.3],
  ])("leaves the distribution as it is with drafts from %s", (_name, q, keptShare) => {
    const counts = [0, 0, 0, 0];
    let kept = 0;
    const rounds = 20_000;
    for (let i = 0; i < rounds; i++) {
      const draw = drawAt(i);
      let draft = 0; // drawn from q with numbers of its own
      for (let left = uniform(drawAt(i, { seed: 99 }), "draw"); left >= (q[draft] ?? 1); draft++) left -= q[draft] ?? 1;
      const places = [
        { logits: logitsOf(p), draw },
        { logits: logitsOf(p), draw: drawAt(i + rounds) },
      ];
      const { path, tokens } = judgeByRejection([draft], places, [{ logits: logitsOf(q), draw }]);
      kept += path.length;
      const { token = -1 } = tokens[0] ?? {};
      counts[token] = (counts[token] ?? 0) + 1;
      expect(tokens[0]?.logProbability).toBeCloseTo(Math.log(p[token] ?? 0), 5);
    }
    const chiSquared = p.reduce(
      (sum, share, j) => sum + ((counts[j] ?? 0) - share * rounds) ** 2 / (share * rounds),
      0,
    );
    expect(chiSquared).toBeLessThan(16.3); // 3 degrees of freedom, 1 in 1000
    expect(Math.abs(kept / rounds - keptShare)).toBeLessThan(0.015); // Σ min(p, q)
  });

  it("without a proposer's distribution a draft is kept with its own probability", () => {
    const kept = Array.from({ length: 4000 }, (_, i) => {
      const places = [0, 1].map((j) => ({ logits: logitsOf(p), draw: drawAt(i + 4000 * j) }));
      return judgeByRejection([1], places, undefined).path.length;
    });
    expect(Math.abs(kept.reduce((a, b) => a + b) / 4000 - 0.4)).toBeLessThan(0.03);
  });
});

describe("judgeByTypicality", () => {
  const keeps = (shares: readonly number[], token: number): boolean =>
    judgeByTypicality(
      [token],
      [0, 1].map((position) => ({ logits: logitsOf(shares), draw: drawAt(position) })),
    ).path.length === 1;
  it("keeps what is likely enough, and less likely tokens where head 1 is unsure", () => {
    expect(keeps([0.85, 0.1, 0.05], 1)).toBe(true); // above 0.09
    expect(keeps([0.85, 0.1, 0.05], 2)).toBe(false);
    const flat = Array<number>(32).fill(1 / 32); // 0.3·exp(−ln 32) < 1/32 < 0.09
    expect(keeps(flat, 5)).toBe(true);
  });
});

describe("a whole model", () => {
  const vocabSize = 8;
  const config = {
    ...{ vocabSize, hiddenSize: 16, trunkLayers: 1, numAttentionHeads: 2, maxPositions: 16, futureTokens: 3 },
    initializerRange: 0.3,
  };
  const prompt = [1, 5];

  /** P(text) of every text of three tokens, from whole-sequence forwards. */
  async function enumerate(model: LanguageModel): Promise<Map<string, number>> {
    const all = Array.from({ length: vocabSize }, (_, i) => i);
    const pairs = all.flatMap((a) => all.map((b) => [...prompt, a, b]));
    const logits = model.forward(pairs);
    const values = (await logits[0]?.toFloats()) ?? [];
    for (const each of logits) each.dispose();
    const shares = (pair: number, position: number): Float64Array => {
      const start = (pair * 4 + position) * vocabSize;
      return distribution({ logits: Float32Array.from(values.slice(start, start + vocabSize)), draw: drawAt(0) });
    };
    const exact = new Map<string, number>();
    for (const [pair, [, , a = 0, b = 0]] of pairs.entries())
      for (const c of all)
        exact.set([a, b, c].join(), (shares(pair, 1)[a] ?? 0) * (shares(pair, 2)[b] ?? 0) * (shares(pair, 3)[c] ?? 0));
    return exact;
  }

  async function sampled(
    model: LanguageModel,
    verify: Verification,
    options: GenerateOptions,
  ): Promise<{ texts: number[][]; statistics: DecodeStatistics }> {
    const count = 4000;
    const texts: number[][] = Array.from({ length: count }, () => []);
    const statistics = new DecodeStatistics();
    const requests = texts.map(() => prompt);
    const onStep: GenerateOptions["onStep"] = (step) => statistics.add(step);
    const settings = { maxNewTokens: 3, temperature: 1, seed: 11, verify, onStep, slots: 32, ...options };
    for await (const { request, tokens } of generateBatch(model, requests, settings))
      texts[request]?.push(...tokens.map(({ token }) => token));
    return { texts, statistics };
  }

  /** Texts that are expected fewer than 5 times are counted together. */
  function chiSquared(
    texts: readonly number[][],
    exact: ReadonlyMap<string, number>,
  ): { value: number; freedom: number } {
    const counts = new Map<string, number>();
    for (const text of texts) counts.set(text.join(), (counts.get(text.join()) ?? 0) + 1);
    let [value, freedom, restSeen, restExpected] = [0, -1, 0, 0];
    for (const [text, share] of exact) {
      const expected = share * texts.length;
      const seen = counts.get(text) ?? 0;
      if (expected < 5) [restSeen, restExpected] = [restSeen + seen, restExpected + expected];
      else [value, freedom] = [value + (seen - expected) ** 2 / expected, freedom + 1];
    }
    return { value: value + (restSeen - restExpected) ** 2 / restExpected, freedom: freedom + 1 };
  }

  it.each([
    ["exact", {}],
    ["rejection", {}],
    ["rejection", { speculate: "off" }],
    ["rejection", { speculate: "auto" }],
    ["typical", { speculate: "off" }],
    ["rejection", { draft: promptLookup({ ngram: 1 }) }],
  ] as const)("%s %o: texts have their exact probabilities", async (verify, options) => {
    using model = LanguageModel.create(config, { dtype: "f32", seed: 2 });
    const exact = await enumerate(model);
    expect([...exact.values()].reduce((a, b) => a + b)).toBeCloseTo(1, 5);
    const { texts, statistics } = await sampled(model, verify, { speculate: 3, ...options });
    const { value, freedom } = chiSquared(texts, exact);
    expect(freedom).toBeGreaterThan(100);
    expect(value).toBeLessThan(freedom + 3.3 * Math.sqrt(2 * freedom)); // about 1 in 2000
    if (!("speculate" in options)) expect(statistics.tokensPerForward).toBeGreaterThan(1.01);
  });

  it("typical acceptance is another distribution", async () => {
    using model = LanguageModel.create(config, { dtype: "f32", seed: 2 });
    const exact = await enumerate(model);
    const lossy = await sampled(model, "typical", { speculate: 3 });
    const { value, freedom } = chiSquared(lossy.texts, exact);
    expect(value).toBeGreaterThan(freedom + 10 * Math.sqrt(2 * freedom));
  });

  it.each(["rejection", "typical"] as const)(
    "%s: greedy text is plain decoding's; a seed repeats its text",
    async (verify) => {
      using model = LanguageModel.create(config, { dtype: "f32", seed: 2 });
      const text = async (options: GenerateOptions): Promise<number[]> => {
        const tokens: number[] = [];
        for await (const piece of generateBatch(model, [prompt], { maxNewTokens: 12, ...options }))
          tokens.push(...piece.tokens.map(({ token }) => token));
        return tokens;
      };
      expect(await text({ verify, speculate: 3 })).toEqual(await text({ speculate: "off" }));
      const sampledOnce = await text({ verify, speculate: 3, temperature: 1, seed: 3 });
      expect(await text({ verify, speculate: 3, temperature: 1, seed: 3 })).toEqual(sampledOnce);
      expect(await text({ verify, speculate: 3, temperature: 1, seed: 4 })).not.toEqual(sampledOnce);
    },
  );
});
