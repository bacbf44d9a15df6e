import { describe, expect, it } from "vitest";
import { Acceptance, chooseLengths, type StepCosts } from "../../lib/decode/adaptive.js";
import { draftModel, promptLookup, type DraftPredictor } from "../../lib/decode/drafts.js";
import { generateTokens } from "../../lib/decode/generate.js";
import type { Draw } from "../../lib/decode/inputs.js";
import type { GenerateOptions } from "../../lib/decode/options.js";
import { DecodeStatistics } from "../../lib/decode/statistics.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { families, randomTokens } from "../helpers/decoding.js";

const { parallel, rnn } = families({ vocabSize: 61, heads: 2, maxPositions: 64 });
const draw: Draw = { temperature: 0, topK: 0, topP: 1, seed: 0, request: 0, position: 0 };

async function textOf(
  model: LanguageModel,
  prompt: readonly number[],
  options: GenerateOptions,
): Promise<{ tokens: number[]; statistics: DecodeStatistics }> {
  const statistics = new DecodeStatistics();
  const tokens: number[] = [];
  const onStep: GenerateOptions["onStep"] = (step) => statistics.add(step);
  for await (const { token } of generateTokens(model, prompt, { ...options, onStep })) tokens.push(token);
  return { tokens, statistics };
}

describe("promptLookup", () => {
  const propose = async (tokens: number[], count: number, options = {}): Promise<readonly number[] | undefined> => {
    using model = LanguageModel.create(parallel, { dtype: "f32" });
    const session = promptLookup(options).open(model, 1, 64);
    const [found] = await session.propose([{ slot: 0, tokens, count, draw }]);
    session.dispose();
    return found;
  };
  it.each([
    ["what followed the ending", [1, 2, 3, 4, 9, 1, 2], 2, {}, [3, 4]],
    ["the longest ending there is", [7, 2, 5, 1, 2, 6, 1, 2], 1, {}, [6]],
    ["the latest of equals", [1, 3, 1, 4, 1], 1, {}, [4]],
    ["no ending longer than ngram", [1, 2, 3, 9, 2, 4, 1, 2], 1, { ngram: 1 }, [4]],
    ["at most what is known", [1, 2, 1], 5, {}, [2, 1]],
    ["at most `longest`", [1, 2, 3, 4, 1], 5, { longest: 2 }, [2, 3]],
    ["nothing where nothing repeats", [1, 2, 3], 4, {}, []],
    ["nothing after one token", [1], 4, {}, []],
  ])("proposes %s", async (_name, tokens, count, options, expected) => {
    expect(await propose(tokens, count, options)).toEqual(expected);
  });

  it("saves forwards where a text repeats itself, and changes nothing in it", async () => {
    using model = LanguageModel.create({ ...parallel, initializerRange: 0.1 }, { dtype: "f32", seed: 3 });
    const prompt = randomTokens(4, 61, 1);
    const plain = await textOf(model, prompt, { maxNewTokens: 60, speculate: "off" });
    for (const speculate of [3, 9, "auto"] as const) {
      const { tokens, statistics } = await textOf(model, prompt, {
        maxNewTokens: 60,
        speculate,
        draft: promptLookup(),
      });
      expect(tokens).toEqual(plain.tokens);
      // What "auto" does depends on what steps cost here.
      if (speculate !== "auto") expect(statistics.tokensPerForward).toBeGreaterThan(1.3); // so small a model soon goes round in circles
    }
  });
});

describe("draftModel", () => {
  it.each([0, 1])("the model itself is always right: whole drafts, temperature %d", async (temperature) => {
    using model = LanguageModel.create(parallel, { dtype: "f32", seed: 3 });
    const options = { maxNewTokens: 41, temperature, seed: 8 };
    const plain = await textOf(model, [1, 2, 3], { ...options, speculate: "off" });
    const { tokens, statistics } = await textOf(model, [1, 2, 3], {
      ...options,
      speculate: 5,
      draft: draftModel(model),
    });
    expect(tokens).toEqual(plain.tokens);
    expect(statistics.forwards).toBe(1 + 40 / 5); // the prompt's, then five tokens each
    expect(statistics.acceptances).toEqual([1, 1, 1, 1]);
  });

  it.each([0, 1])("another model proposes, the text stays, temperature %d", async (temperature) => {
    using model = LanguageModel.create(parallel, { dtype: "f32", seed: 3 });
    using small = LanguageModel.create({ ...rnn, maxPositions: 30 }, { dtype: "f32", seed: 4 });
    const { live } = model.device.memory();
    const options = { maxNewTokens: 45, temperature };
    const plain = await textOf(model, [1, 2, 3], { ...options, speculate: "off" });
    for (const speculate of [4, "auto"] as const) {
      const { tokens } = await textOf(model, [1, 2, 3], { ...options, speculate, draft: draftModel(small) });
      expect(tokens).toEqual(plain.tokens); // also past the small model's context
    }
    expect(model.device.memory().live).toBe(live);
  });

  it("refuses another vocabulary", async () => {
    using model = LanguageModel.create(parallel, { dtype: "f32" });
    using other = LanguageModel.create({ ...parallel, vocabSize: 60 }, { dtype: "f32" });
    const { live } = model.device.memory();
    await expect(textOf(model, [1], { draft: draftModel(other) })).rejects.toMatchObject({
      code: "BAD_ARGUMENT",
      message: expect.stringMatching(/draft: expected a model with 61 tokens, got 60/) as string,
    });
    expect(() => draftModel(other, { longest: 0 })).toThrow(/longest: expected a whole number above 0, got 0/);
    expect(model.device.memory().live).toBe(live);
  });
});

it("a predictor that fails ends the text with its own error, and nothing leaks", async () => {
  using model = LanguageModel.create(parallel, { dtype: "f32" });
  const { live } = model.device.memory();
  const failing: DraftPredictor = {
    longest: 2,
    open: () => ({
      propose: () => Promise.reject(new RangeError("mine")),
      release: () => undefined,
      dispose: () => undefined,
    }),
  };
  await expect(textOf(model, [1], { draft: failing, speculate: 3 })).rejects.toThrow("mine");
  expect(model.device.memory().live).toBe(live);
});

describe("chooseLengths", () => {
  /** Reading rows costs nothing more up to 4; heads cost a tenth of a forward each. */
  const costs: StepCosts = {
    plain: () => 1,
    verify: (rows) => Math.max(1, rows / 4),
    propose: (k) => (k > 1 ? 0.1 * (k - 1) : 0),
  };
  const after = (steps: readonly (readonly [proposed: number, accepted: number])[]): Acceptance => {
    const acceptance = new Acceptance(3);
    for (let i = 0; i < 60; i++) for (const [proposed, accepted] of steps) acceptance.observe(proposed, accepted);
    return acceptance;
  };
  const always = [[3, 3]] as const;
  const never = [[3, 0]] as const;
  const firstOnly = [[3, 1]] as const;

  it("is long where drafts are right, short where they are not", () => {
    const one = (steps: Parameters<typeof after>[0]): number[] => {
      const sequence = { acceptance: after(steps), limit: 3 };
      const [first = 0] = chooseLengths([sequence], costs); // may try one place more
      sequence.acceptance.observe(first, Math.min(first, steps[0]?.[1] ?? 0));
      return chooseLengths([sequence], costs);
    };
    expect(one(always)).toEqual([3]);
    expect(one(never)).toEqual([0]);
    expect(one(firstOnly)).toEqual([1]);
  });

  it("gives the rows of a shared step to whom they help", () => {
    const sequences = [always, never, always].map((steps) => ({ acceptance: after(steps), limit: 3 }));
    const lengths = chooseLengths(sequences, { plain: () => 1.3, verify: (rows) => 1 + rows / 10, propose: () => 0 });
    expect(lengths).toEqual([3, 0, 3]);
  });

  it("keeps to limits", () => {
    expect(
      chooseLengths(
        [
          { acceptance: after(always), limit: 2 },
          { acceptance: after(always), limit: 0 },
        ],
        costs,
      ),
    ).toEqual([2, 0]);
  });

  it("tries again after a while, less and less often, and comes back when drafts are right", () => {
    const acceptance = after(never);
    const tries: number[] = [];
    for (let step = 0; step < 400; step++) {
      const [length = 0] = chooseLengths([{ acceptance, limit: 3 }], costs);
      if (length > 0) tries.push(step);
      if (length > 0) acceptance.observe(length, 0);
    }
    const gaps = tries.map((step, i) => step - (tries[i - 1] ?? 0));
    expect(tries.length).toBeGreaterThan(2);
    expect(gaps.slice(1).every((gap, i) => gap >= (gaps[i] ?? 0))).toBe(true);
    let recovered = 0;
    for (let step = 0; step < 2000; step++) {
      const [length = 0] = chooseLengths([{ acceptance, limit: 3 }], costs);
      if (length > 0) acceptance.observe(length, length);
      if (length === 3) recovered++;
    }
    expect(recovered).toBeGreaterThan(1000);
  });
});

it("statistics count what was proposed after right places alone", () => {
  const statistics = new DecodeStatistics();
  const token = { token: 1, head: 1, logProbability: 0 };
  statistics.add({ position: 3, proposed: 3, accepted: 1, tokens: [token, token] });
  statistics.add({ position: 5, proposed: 3, accepted: 3, tokens: [token, token, token, token] });
  statistics.add({ position: 9, proposed: 0, accepted: 0, tokens: [token] });
  expect(statistics.tokensPerForward).toBeCloseTo(7 / 3);
  expect(statistics.places).toEqual([
    { proposed: 2, accepted: 2 },
    { proposed: 2, accepted: 1 },
    { proposed: 1, accepted: 1 },
  ]);
  expect(statistics.acceptances).toEqual([1, 0.5, 1]);
});
