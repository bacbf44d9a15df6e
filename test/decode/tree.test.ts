// Drafts that are trees: whatever their shape, the text is that of plain decoding.
import { describe, expect, it } from "vitest";
import { promptLookup } from "../../lib/decode/drafts.js";
import type { GenerateOptions } from "../../lib/decode/options.js";
import type { DecodeStep } from "../../lib/decode/sequence.js";
import { DraftShape, type DraftTree } from "../../lib/decode/tree.js";
import type { ModelOptions } from "../../lib/mtp/config.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { families, randomTokens, uniform } from "../helpers/decoding.js";
import { levels, openLevel } from "../helpers/levels.js";
import { textOf, textsOf } from "../helpers/speculation.js";

const vocabSize = 5;
const heads = 4;

/** A random part of the tree of all candidates: some of it always comes true in so small a vocabulary. */
function randomTree(size: number, random: () => number): DraftTree {
  const paths: number[][] = [];
  const open: number[][] = Array.from({ length: vocabSize }, (_, rank) => [rank]);
  while (paths.length < size) {
    const [path = []] = open.splice(Math.floor(random() * open.length), 1);
    paths.push(path);
    if (path.length < heads - 1) open.push(...Array.from({ length: vocabSize }, (_, rank) => [...path, rank]));
  }
  return paths;
}

describe("DraftShape", () => {
  const shape = new DraftShape([[0], [1], [0, 0], [0, 1], [1, 0], [0, 1, 2]]);

  it("puts the likeliest chain where it stays and the others behind it", () => {
    expect(shape.nodes.map(({ parent, depth, offset, branch }) => [parent, depth, offset, branch])).toEqual([
      [-1, 1, 1, undefined],
      [-1, 1, 4, [4]],
      [0, 2, 2, undefined],
      [0, 2, 5, [1, 5]],
      [1, 2, 6, [4, 6]],
      [3, 3, 7, [1, 5, 7]],
    ]);
    expect([shape.placesBehind, DraftShape.chain(3).placesBehind]).toEqual([7, 0]);
    expect([shape.candidates, DraftShape.chain(3).candidates]).toEqual([3, 1]);
    expect(shape.paths).toEqual([[0], [1], [0, 0], [0, 1], [1, 0], [0, 1, 2]]);
  });

  it("knows how deep its first nodes are, and what is not too deep", () => {
    expect([0, 1, 2, 3, 5, 6].map((count) => shape.depthOf(count))).toEqual([0, 1, 1, 2, 2, 3]);
    expect([0, 1, 2, 3].map((depth) => shape.sizeWithin(depth))).toEqual([0, 2, 5, 6]);
    expect(shape.upTo(1).paths).toEqual([[0], [1]]);
    expect(DraftShape.chain(0)).toMatchObject({ size: 0, depth: 0, candidates: 1, placesBehind: 0 });
  });
});

/** Texts with many trees, alone and in batches; which counts of a draft were accepted. */
async function checkTrees(
  model: LanguageModel,
  prompts: readonly (readonly number[])[],
  settings: GenerateOptions,
  seed: number,
): Promise<Set<number>> {
  const accepted = new Set<number>();
  const random = uniform(seed);
  const onStep = (step: DecodeStep): unknown => accepted.add(step.accepted);
  const plain = await Promise.all(prompts.map((prompt) => textOf(model, prompt, { ...settings, speculate: "off" })));
  for (const [size, speculate] of [
    [3, 4],
    [12, 4],
    [30, 4],
    [30, 3],
    [30, "auto"],
  ] as const) {
    const options = { ...settings, tree: randomTree(size, random), speculate, onStep };
    for (const [i, prompt] of prompts.entries()) expect(await textOf(model, prompt, options)).toEqual(plain[i]);
    const requests = [...prompts, ...prompts].map((prompt) => ({ prompt, request: 0 }));
    expect(await textsOf(model, requests, { ...options, slots: 3 })).toEqual([...plain, ...plain]);
  }
  return accepted;
}

const { rnn, ...trees } = families({ vocabSize, heads, maxPositions: 64 });

describe.each(Object.entries(trees))("%s", (_name, config) => {
  it.each([
    ["f32", 0],
    ["f32", 1.3],
    ["bf16", 0],
    ["bf16", 1.3],
  ] as const)("writes the same text with every tree, %s at temperature %d", async (dtype, temperature) => {
    using model = LanguageModel.create(config, { dtype, seed: 3 });
    const prompts = [7, 1, 19].map((length) => randomTokens(length, vocabSize, length));
    const accepted = await checkTrees(model, prompts, { maxNewTokens: 60, temperature, seed: 5 }, 11);
    expect([...accepted].sort()).toEqual([0, 1, 2, 3]);
  });
});

describe.each(levels())("on level %s", (level) => {
  it.each(["f32", "bf16"] as const)(
    "the same, across the ends of the ranges in which keys are summed, in %s",
    async (dtype) => {
      const config = { ...trees.causal, maxPositions: 560 };
      using model = LanguageModel.create(config, { device: openLevel(level), dtype, seed: 3 });
      const prompts = [250, 505].map((length) => randomTokens(length, vocabSize, length));
      const accepted = await checkTrees(model, prompts, { maxNewTokens: 16 }, 2);
      expect(accepted.size).toBeGreaterThan(2);
    },
  );
});

it("slides on with a tree", async () => {
  using model = LanguageModel.create(trees.parallel, { dtype: "f32", seed: 3 });
  const prompt = randomTokens(30, vocabSize, 1);
  const options = { maxNewTokens: 150, context: "slide" } as const;
  const plain = await textOf(model, prompt, { ...options, speculate: "off" });
  expect(plain).toHaveLength(150);
  expect(await textOf(model, prompt, { ...options, tree: randomTree(20, uniform(1)) })).toEqual(plain);
});

describe("is refused", () => {
  const refused = async (tree: DraftTree, others: GenerateOptions = {}, config: ModelOptions = trees.parallel) => {
    using model = LanguageModel.create(config, { dtype: "f32", seed: 3 });
    return await textOf(model, [1], { tree, ...others });
  };
  it.each([
    ["without nodes", [], "at least one node"],
    ["with an empty path", [[]], "paths of 1 to 3 ranks"],
    ["deeper than the heads", [[0], [0, 0], [0, 0, 0], [0, 0, 0, 0]], "[0, 0, 0, 0]"],
    ["with more candidates than tokens", [[5]], "ranks from 0 to 4"],
    ["with a rank that is no number of a candidate", [[0.5]], "ranks from 0 to 4"],
    ["with a child before its parent", [[0, 0], [0]], "every node after its parent"],
    ["with a node twice", [[0], [0]], "every node once"],
  ])("%s", async (_name, tree, message) => {
    await expect(refused(tree)).rejects.toMatchObject({
      code: "BAD_OPTION",
      message: expect.stringContaining(message) as unknown,
    });
  });

  it("beside another draft, a lossy or a rejecting rule, and with an RNN trunk", async () => {
    const bad = { code: "BAD_OPTION", message: expect.stringContaining("tree") as unknown };
    await expect(refused([[0]], { draft: promptLookup() })).rejects.toMatchObject(bad);
    await expect(refused([[0]], { verify: "typical", temperature: 1 })).rejects.toMatchObject(bad);
    await expect(refused([[0]], {}, rnn)).rejects.toMatchObject(bad);
  });
});
