// Beam search: what it finds, and that drafts only save forwards.
import { describe, expect, it } from "vitest";
import { beamSearch, type BeamSearchOptions, type Hypothesis } from "../../lib/decode/beam.js";
import { byteTokenizer, type Tokenizer } from "../../lib/io/tokenizer.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { families, randomTokens } from "../helpers/decoding.js";
import { quickDtypes } from "../helpers/levels.js";
import { textOf } from "../helpers/speculation.js";

const vocabSize = 7;
const heads = 4;
const kinds = families({ vocabSize, heads, maxPositions: 64 });

/** Log-probabilities of the token after a text, (V). */
async function logsAfter(model: LanguageModel, text: readonly number[]): Promise<number[]> {
  const logits = model.forward([text]);
  const values = (await logits[0]?.toFloats()) ?? new Float64Array();
  for (const each of logits) each.dispose();
  const last = Array.from(values.subarray((text.length - 1) * vocabSize, text.length * vocabSize));
  const largest = Math.max(...last);
  const lse = largest + Math.log(last.reduce((sum, value) => sum + Math.exp(value - largest), 0));
  return last.map((value) => value - lse);
}

/** The same search by whole forwards. */
async function plainSearch(model: LanguageModel, prompt: number[], beams: number, length: number, eos?: number) {
  let texts: { tokens: number[]; log: number; ended: boolean }[] = [{ tokens: [], log: 0, ended: false }];
  for (let i = 0; i < length; i++) {
    const grown: typeof texts = [];
    for (const text of texts) {
      if (text.ended) {
        grown.push(text);
        continue;
      }
      const logs = await logsAfter(model, [...prompt, ...text.tokens]);
      for (const [token, each] of logs.entries()) {
        const ended = token === eos;
        grown.push({ tokens: ended ? text.tokens : [...text.tokens, token], log: text.log + each, ended });
      }
    }
    texts = grown.sort((a, b) => b.log - a.log).slice(0, beams);
  }
  return texts;
}

const tokensOf = (hypotheses: readonly Hypothesis[]): (readonly number[])[] => hypotheses.map(({ tokens }) => tokens);

describe.each(Object.entries(kinds))("%s", (name, config) => {
  const everything = Array.from({ length: vocabSize }, (_, rank) => [rank]);
  const trees: BeamSearchOptions["tree"][] =
    name === "rnn" ? [undefined] : [undefined, [[0], [0, 0]], [[0], [1], [2], [0, 0], [1, 0], [1, 0, 3]], everything];

  it("finds what whole forwards find, whatever is drafted", async () => {
    using model = LanguageModel.create(config, { dtype: "f32", seed: 3 });
    for (const length of [6, 1]) {
      const prompt = randomTokens(length, vocabSize, length);
      const expected = await plainSearch(model, prompt, 3, 12);
      for (const tree of trees) {
        const { hypotheses } = await beamSearch(model, prompt, { numBeams: 3, maxNewTokens: 12, tree });
        expect(tokensOf(hypotheses)).toEqual(expected.map(({ tokens }) => tokens));
        for (const [i, { logProbability, finished }] of hypotheses.entries()) {
          expect(logProbability).toBeCloseTo(expected[i]?.log ?? NaN, 3);
          expect(finished).toBe("length");
        }
      }
    }
  });

  it.each(quickDtypes)("in %s, drafts change no bit", async (dtype) => {
    using model = LanguageModel.create(config, { dtype, seed: 5 });
    const prompt = randomTokens(9, vocabSize, 2);
    const options = { numBeams: 4, maxNewTokens: 200 };
    const plain = await beamSearch(model, prompt, options);
    expect(plain.hypotheses.map(({ finished }) => finished)).toEqual(Array(4).fill("context"));
    expect(plain.hypotheses[0]?.tokens).toHaveLength(64 - 9 + 1);
    expect(plain.forwards).toBe(56);
    for (const tree of trees.slice(1)) {
      const drafted = await beamSearch(model, prompt, { ...options, tree });
      expect(drafted.hypotheses).toEqual(plain.hypotheses);
      expect(drafted.forwards).toBeLessThanOrEqual(plain.forwards);
    }
  });
});

describe("drafts", () => {
  it("save forwards: with every token of the next place in the tree, every other one", async () => {
    using model = LanguageModel.create(kinds.parallel, { dtype: "f32", seed: 3 });
    const tree = Array.from({ length: vocabSize }, (_, rank) => [rank]);
    const { forwards } = await beamSearch(model, [1, 2], { numBeams: 3, maxNewTokens: 21, tree });
    expect(forwards).toBe(11); // the first has none
  });
});

it("one beam is greedy decoding, and more beams never find a less likely text", async () => {
  using model = LanguageModel.create(kinds.causal, { dtype: "f32", seed: 9 });
  const one = await beamSearch(model, [1, 2, 3], { numBeams: 1, maxNewTokens: 20 });
  expect(one.hypotheses).toHaveLength(1);
  expect(one.hypotheses[0]?.tokens).toEqual(await textOf(model, [1, 2, 3], { maxNewTokens: 20, speculate: "off" }));
  const all = await beamSearch(model, [1, 2, 3], { numBeams: vocabSize ** 2, maxNewTokens: 3 });
  expect(all.hypotheses).toHaveLength(vocabSize ** 2);
  // Every text of three tokens begins with one of the 49 that were kept: this is exact.
  const expected = await plainSearch(model, [1, 2, 3], vocabSize ** 3, 3);
  expect(all.hypotheses[0]?.tokens).toEqual(expected[0]?.tokens);
});

it("a text that ends stays among the beams with its probability", async () => {
  const eosToken = 3;
  const tokenizer: Tokenizer = {
    ...byteTokenizer(),
    ...{
      vocabSize,
      eosToken,
      encode: (text) => Int32Array.from(text, Number),
      decode: (tokens) => Array.from(tokens).join(""),
    },
  };
  using model = LanguageModel.create(kinds.parallel, { dtype: "f32", seed: 3, tokenizer });
  const expected = await plainSearch(model, [1, 2], 5, 8, eosToken);
  const ended = expected.map(({ ended }) => ended);
  expect(new Set(ended).size).toBe(2); // some ended, some did not
  for (const tree of [undefined, [[0]], [[1], [0]]]) {
    const { hypotheses } = await beamSearch(model, "12", { numBeams: 5, maxNewTokens: 8, tree });
    expect(tokensOf(hypotheses)).toEqual(expected.map(({ tokens }) => tokens));
    expect(hypotheses.map(({ finished }) => finished === "eos")).toEqual(ended);
    expect(hypotheses.map(({ text }) => text)).toEqual(expected.map(({ tokens }) => tokens.join("")));
    for (const [i, { logProbability }] of hypotheses.entries())
      expect(logProbability).toBeCloseTo(expected[i]?.log ?? NaN, 3);
  }
});

describe("is refused", () => {
  it.each([
    [{ numBeams: 0 }, "numBeams"],
    [{ tree: [[7]] }, "tree"],
    [{ tree: [] }, "tree"],
  ] as const)("%o", async (options, argument) => {
    using model = LanguageModel.create(kinds.parallel, { dtype: "f32", seed: 3 });
    const message = expect.stringContaining(argument) as unknown;
    await expect(beamSearch(model, [1], options)).rejects.toMatchObject({ code: "BAD_OPTION", message });
  });

  it("a tree with an RNN trunk, an aborted search; nothing is left behind", async () => {
    using model = LanguageModel.create(kinds.rnn, { dtype: "f32", seed: 3 });
    const before = model.device.memory().live;
    await expect(beamSearch(model, [1], { tree: [[0]] })).rejects.toMatchObject({ code: "BAD_OPTION" });
    const signal = AbortSignal.abort();
    await expect(beamSearch(model, [1], { signal })).rejects.toMatchObject({ code: "ABORTED" });
    await beamSearch(model, [1], { maxNewTokens: 3 });
    expect(model.device.memory().live).toBe(before);
  });
});
