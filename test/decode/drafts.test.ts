import { describe, expect, it } from "vitest";
import { Acceptance, chooseLengths, Experience } from "../../lib/decode/adaptive.js";
import type { StepCosts } from "../../lib/decode/costs.js";
import { draftModel, promptLookup, type DraftPredictor } from "../../lib/decode/drafts.js";
import { generateTokens } from "../../lib/decode/generate.js";
import type { Draw } from "../../lib/decode/inputs.js";
import type { GenerateOptions } from "../../lib/decode/options.js";
import type { DecodeStep } from "../../lib/decode/sequence.js";
import { DecodeStatistics } from "../../lib/decode/statistics.js";
import { DraftShape } from "../../lib/decode/tree.js";
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

it("a fixed draft begins behind a prompt of one token as soon as heads have something to go on from", async () => {
  using model = LanguageModel.create(parallel, { dtype: "f32", seed: 3 });
  const proposed: number[] = [];
  const options = { maxNewTokens: 20, speculate: 2, onStep: (step: DecodeStep) => proposed.push(step.proposed) };
  for await (const _ of generateTokens(model, [1], options));
  // Once the first token has landed.
  expect(proposed).toEqual(proposed.map((_, i) => (i === 0 ? 0 : 1)));
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

/** Tokens still to come: many. Heads have read what there is. */
const room = 1000;
const unread = (): number => 0;

describe("chooseLengths", () => {
  const shape = DraftShape.chain(3);
  const upTo = (length: number): number[] => Array.from({ length }, (_, i) => i);
  /** Reading rows costs nothing more up to 4; heads cost a tenth of a forward each. */
  const costs: StepCosts = {
    plain: () => 1,
    drafted: (rows, k) => Math.max(1, rows / 4) + 0.1 * (k - 1),
    reading: (positions: number) => positions / 100,
    interruption: 1,
    lengthening: 0,
    tried: () => undefined,
  };
  const after = (steps: readonly (readonly [proposed: number, accepted: number])[]): Acceptance => {
    const acceptance = new Acceptance(shape);
    for (let i = 0; i < 60; i++) for (const [proposed, accepted] of steps) acceptance.observe(proposed, upTo(accepted));
    return acceptance;
  };
  const always = [[3, 3]] as const;
  const never = [[3, 0]] as const;
  const firstOnly = [[3, 1]] as const;

  it("is long where drafts are right, short where they are not", () => {
    const one = (steps: Parameters<typeof after>[0]): number[] =>
      chooseLengths([{ acceptance: after(steps), limit: 3, room, unread }], shape, costs);
    expect(one(always)).toEqual([3]);
    expect(one(never)).toEqual([0]);
    expect(one(firstOnly)).toEqual([1]);
  });

  it("gives the rows of a shared step to whom they help", () => {
    const sequences = [always, never, always].map((steps) => ({ acceptance: after(steps), limit: 3, room, unread }));
    const lengths = chooseLengths(sequences, shape, {
      plain: () => 1.3,
      drafted: (rows) => 1 + rows / 10,
      reading: (positions: number) => positions / 100,
      interruption: 0,
      lengthening: 0,
      tried: () => undefined,
    });
    expect(lengths).toEqual([3, 0, 3]);
  });

  it("keeps to limits", () => {
    expect(
      chooseLengths(
        [
          { acceptance: after(always), limit: 2, room, unread },
          { acceptance: after(always), limit: 0, room, unread },
        ],
        shape,
        costs,
      ),
    ).toEqual([2, 0]);
  });

  it("drafts more or less where what is left of the text pays for the change", () => {
    const stop = { ...costs, lengthening: 4 };
    const acceptance = after(always);
    const choice = (left: number, limit = 3): number[] =>
      chooseLengths([{ acceptance, limit, room: left, unread }], shape, stop);
    expect(choice(1)).toEqual([3]); // nobody has drafted: there is nothing to stop
    expect(choice(room, 2)).toEqual([2]);
    expect(choice(40)).toEqual([2]); // a step of 4 tokens instead of 4/3 steps of 3: 0.3 saved, ten times
    expect(choice(80)).toEqual([3]);
    for (let i = 0; i < 300; i++) acceptance.observe(3, [0]);
    expect(choice(20)).toEqual([3]); // 2 tokens in 1.1 instead of 1.3, ten times
    expect(choice(80)).toEqual([1]);
  });

  it("counts what heads have to read before they can draft", () => {
    const reading = { ...costs, reading: (positions: number) => positions / 10 };
    const behind = (k: number): number => 20 * (k - 1); // 2 ms for every head
    const choice = (left: number): number[] =>
      chooseLengths([{ acceptance: after(always), limit: 3, room: left, unread: behind }], shape, reading);
    expect(choice(4)).toEqual([0]); // a step of 4 tokens in 1.3 instead of four of 1, but 6 to read
    expect(choice(10)).toEqual([1]); // 5 steps of 1.1 and 2 to read beside 2.5 of 1.3 and 6, or 10 of 1
    expect(choice(40)).toEqual([3]); // 10 steps of 1.3 and 6 beside 20 of 1.1 and 2
  });

  /** Steps with drafts that are right as far as `right` says; how often each length was chosen. */
  const chosen = (acceptance: Acceptance, steps: number, right: (length: number) => number): number[] => {
    const counts = [0, 0, 0, 0];
    for (let step = 0; step < steps; step++) {
      const [length = 0] = chooseLengths([{ acceptance, limit: 3, room, unread }], shape, costs);
      counts[length] = (counts[length] ?? 0) + 1;
      acceptance.drafts(length);
      if (length > 0) acceptance.observe(length, upTo(right(length)));
      else acceptance.passed(1);
    }
    return counts;
  };

  it("tries a longer one as long as that costs little, and comes back soon when drafts are right", () => {
    const acceptance = after(never);
    const [off = 0, one = 0, ...longer] = chosen(acceptance, 2000, () => 0);
    // One node more takes 0.1, and the interruption 1: the share of the time that trying may take allows few tries.
    expect(off + one).toBe(2000);
    expect(longer).toEqual([0, 0]);
    expect(one).toBeGreaterThan(15);
    expect(1.1 * one).toBeLessThan(0.015 * 2000 + 2.2);
    expect(chosen(acceptance, 600, (length) => length)[3]).toBeGreaterThan(300);
  });

  it("thinks of what it has not tried for long as others have shown", () => {
    const others = new Experience(shape);
    for (let i = 0; i < 400; i++) others.see(0, i % 2 === 0);
    const acceptance = new Acceptance(shape, others);
    for (let i = 0; i < 60; i++) acceptance.observe(1, []);
    const share = others.share(0);
    const [before = NaN] = acceptance.likely();
    expect(before).toBeLessThan(0.12); // of 29 observations that count none was right, and others count as 8
    acceptance.passed(48);
    const half = acceptance.likely()[0];
    expect(half).toBeGreaterThan(before + 0.03);
    expect(half).toBeLessThan(share);
    acceptance.passed(1000);
    expect(acceptance.likely()[0]).toBeCloseTo(share, 4);
    acceptance.observe(1, [0]); // and what comes then weighs as much as it does in a new text
    expect(acceptance.likely()[0]).toBeGreaterThan(share + 0.04);
  });
});

describe("a tree's nodes", () => {
  const shape = new DraftShape([[0], [1], [0, 0], [1, 0]]);

  it("are thought as likely as they have been right behind their parents", () => {
    const acceptance = new Acceptance(shape);
    // [1] is right in three quarters of the steps and [1, 0] behind it in two thirds of these; [0] never.
    for (let i = 0; i < 400; i++) acceptance.observe(4, [[1, 3], [1, 3], [1], []][i % 4] ?? []);
    const likely = acceptance.likely();
    expect(likely[0]).toBeLessThan(0.01);
    expect(likely[2]).toBeLessThan(0.01);
    expect(Math.abs((likely[1] ?? 0) - 0.75)).toBeLessThan(0.03);
    expect(Math.abs((likely[3] ?? 0) - 0.5)).toBeLessThan(0.04);
  });

  it("are taken in order, as many as pay", () => {
    const acceptance = new Acceptance(shape);
    for (let i = 0; i < 200; i++) acceptance.observe(4, [1, 3]);
    const costs = {
      plain: () => 1,
      drafted: (rows: number, k: number) => 1 + rows / 10 + 0.1 * (k - 1),
      reading: (positions: number) => positions / 100,
      interruption: 0,
      lengthening: 0,
      tried: () => undefined,
    };
    expect(chooseLengths([{ acceptance, limit: 4, room, unread }], shape, costs)).toEqual([4]);
    const other = new Acceptance(shape);
    for (let i = 0; i < 200; i++) other.observe(4, [0]);
    expect(chooseLengths([{ acceptance: other, limit: 4, room, unread }], shape, costs)).toEqual([1]);
  });
});

it("statistics count what was proposed after right places alone", () => {
  const statistics = new DecodeStatistics();
  const token = { token: 1, head: 1, logProbability: 0 };
  statistics.add({ position: 3, proposed: 3, tried: 2, accepted: 1, tokens: [token, token] });
  statistics.add({ position: 5, proposed: 3, tried: 3, accepted: 3, tokens: [token, token, token, token] });
  statistics.add({ position: 9, proposed: 0, tried: 0, accepted: 0, tokens: [token] });
  expect(statistics.tokensPerForward).toBeCloseTo(7 / 3);
  expect(statistics.places).toEqual([
    { proposed: 2, accepted: 2 },
    { proposed: 2, accepted: 1 },
    { proposed: 1, accepted: 1 },
  ]);
  expect(statistics.acceptances).toEqual([1, 0.5, 1]);
});

it("what was never tried is thought as right as what comes before it", () => {
  const others = new Experience(new DraftShape([[0], [1], [0, 0], [0, 0, 0]]));
  expect(others.share(0)).toBeCloseTo(0.7);
  expect(others.share(1)).toBeCloseTo(0.7 / 4);
  for (let i = 0; i < 100; i++) others.see(0, i % 10 > 0);
  for (const node of [0, 2, 3]) expect(Math.abs(others.share(node) - 0.9)).toBeLessThan(0.02);
  for (let i = 0; i < 100; i++) others.see(2, false);
  expect(others.share(3)).toBeLessThan(0.05);
  expect(others.share(0)).toBeGreaterThan(0.88);
});

it("a text starts from what the model's other texts have shown", () => {
  const shape = DraftShape.chain(2);
  const others = new Experience(shape);
  const first = new Acceptance(shape, others);
  for (let i = 0; i < 100; i++) first.observe(2, i % 4 === 0 ? [0] : []);
  const next = new Acceptance(shape, others);
  const [one = NaN, two = NaN] = next.likely();
  expect(Math.abs(one - 0.25)).toBeLessThan(0.03);
  expect(two).toBeLessThan(0.05);
  expect(new Acceptance(shape).likely()[0]).toBeCloseTo(0.7);
});
