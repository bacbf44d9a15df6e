// A tree fitted to what the heads get right, against a count over whole forwards and every tree there is.
import { describe, expect, it } from "vitest";
import { fitTree } from "../../lib/decode/fit.js";
import { checkTree } from "../../lib/decode/tree.js";
import { tokenDataset } from "../../lib/io/dataset.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { families, randomTokens } from "../helpers/decoding.js";

const vocabSize = 6;
const heads = 3;
const { rnn, ...kinds } = families({ vocabSize, heads, maxPositions: 64 });
const documents = [40, 3, 15].map((length, i) => randomTokens(length, vocabSize, i));

/** Which candidates of heads 2 and 3 are head 1's choices, at every position of a document that has room for them. */
async function rankPairs(model: LanguageModel, tokens: readonly number[]): Promise<number[][]> {
  const perHead: number[][][] = [];
  for (const logits of model.forward([tokens])) {
    const values = Array.from(await logits.toFloats());
    logits.dispose();
    perHead.push(tokens.map((_, t) => values.slice(t * vocabSize, (t + 1) * vocabSize)));
  }
  const chosen = (perHead[0] ?? []).map((row) => row.indexOf(Math.max(...row)));
  const rank = (row: readonly number[], token: number): number => row.filter((z) => z > (row[token] ?? NaN)).length;
  return tokens.slice(heads).map((_, t) => [1, 2].map((i) => rank(perHead[i]?.[t] ?? [], chosen[t + i] ?? -1)));
}

describe.each(Object.entries(kinds))("%s", (_name, config) => {
  it("counts each path as often as it is right, the most often right first", async () => {
    using model = LanguageModel.create(config, { dtype: "f32", seed: 3 });
    const data = tokenDataset(
      documents.map((tokens) => ({ tokens })),
      { vocabSize },
    );
    const pairs = (await Promise.all(documents.map((tokens) => rankPairs(model, tokens)))).flat();
    const share = (path: readonly number[]): number =>
      pairs.filter((pair) => path.every((rank, i) => pair[i] === rank)).length / pairs.length;

    const nodes = 7;
    const { tree, expectedTokensPerForward, positions } = await fitTree(model, data, { nodes });
    expect(positions).toBe(pairs.length);
    expect(tree).toHaveLength(nodes);
    checkTree(tree, { heads, vocabSize });
    for (let count = 0; count <= nodes; count++) {
      const expected = tree.slice(0, count).reduce((sum, path) => sum + share(path), 1);
      expect(expectedTokensPerForward[count]).toBeCloseTo(expected, 9);
    }
    // No other node is right more often than the last one that was taken.
    const all = Array.from({ length: vocabSize }, (_, a) => [
      [a],
      ...Array.from({ length: vocabSize }, (_, b) => [a, b]),
    ]);
    const best = all
      .flat()
      .map(share)
      .sort((a, b) => b - a);
    expect(tree.map(share)).toEqual(best.slice(0, nodes));
  });
});

describe("is refused", () => {
  const data = tokenDataset([{ tokens: [1, 2, 3, 4, 5, 0, 1] }], { vocabSize });
  it("for a model with one head, an RNN trunk, no nodes, other tokens, data that is too short", async () => {
    using one = LanguageModel.create({ ...kinds.parallel, futureTokens: 1 }, { dtype: "f32" });
    await expect(fitTree(one, data)).rejects.toMatchObject({ code: "BAD_OPTION" });
    using recurrent = LanguageModel.create(rnn, { dtype: "f32" });
    await expect(fitTree(recurrent, data)).rejects.toMatchObject({ code: "BAD_OPTION" });
    using model = LanguageModel.create(kinds.parallel, { dtype: "f32" });
    await expect(fitTree(model, data, { nodes: 0 })).rejects.toMatchObject({ code: "BAD_OPTION" });
    const other = tokenDataset([{ tokens: [1, 2] }], { vocabSize: 9 });
    await expect(fitTree(model, other)).rejects.toMatchObject({ code: "BAD_DATA" });
    const short = tokenDataset([{ tokens: [1, 2] }, { tokens: [3, 1] }], { vocabSize });
    await expect(fitTree(model, short)).rejects.toMatchObject({ code: "BAD_DATA" });
    await expect(fitTree(model, data, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "ABORTED" });
  });
});
