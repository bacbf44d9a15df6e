// The ops of a decoding step: rows of a tree attend to their branches, and one draw gives several tokens.
import { describe, expect, it } from "vitest";
import { attentionCached, cacheAppend, type CacheRows } from "../../lib/ops/attention.js";
import { sample } from "../../lib/ops/sample.js";
import { tensor, zeros, type Tensor } from "../../lib/tensor.js";
import { normalArray } from "../helpers/gradcheck.js";
import { levels, openLevel } from "../helpers/levels.js";

describe.each(levels())("on %s", (level) => {
  const device = openLevel(level);
  const integers = (values: number[], shape: number[] = [values.length]): Tensor =>
    tensor(Int32Array.from(values), { dtype: "i32", device, shape });
  const floats = (values: ArrayLike<number>, shape: number[]): Tensor =>
    tensor(Float32Array.from(values), { dtype: "f32", device, shape });

  it("a chain of a tree gives the bits of the same tokens in a row", async () => {
    const [H, G, D, capacity] = [4, 2, 8, 9];
    /** Tokens 0, 1, … of these kinds: their q, k and v, as if from a model. */
    const of = (tokens: number[], heads: number, seed: number): Tensor =>
      floats(
        tokens.flatMap((token) => Array.from(normalArray(heads * D, 10 * seed + token))),
        [tokens.length, heads, D],
      );
    const caches = () => [0, 1].map(() => zeros([2, G, capacity, D], { dtype: "f32", device }));
    /** Appends these tokens, then attends from each; one output row per token. */
    const step = async (tokens: number[], [keys, values]: Tensor[], rows: CacheRows): Promise<number[][]> => {
      if (!keys || !values) throw new RangeError("two caches");
      cacheAppend(of(tokens, G, 1), of(tokens, G, 2), rows, keys, values);
      const out = Array.from(await attentionCached(of(tokens, H, 3), keys, values, rows).toFloats());
      return tokens.map((_, r) => out.slice(r * H * D, (r + 1) * H * D));
    };
    const inOrder = (tokens: number[]): Promise<number[][]> =>
      step(tokens, caches(), { sequence: integers(tokens.map(() => 1)), position: integers(tokens.map((_, i) => i)) });

    // Tokens 0 and 1, then a tree: 2 and 3 both after 1, 4 after 2, 5 after 3. Places 2 … 5 in that order.
    const tree = caches();
    await step([0, 1], tree, { sequence: integers([1, 1]), position: integers([0, 1]) });
    const rows = {
      sequence: integers([1, 1, 1, 1]),
      position: integers([2, 2, 3, 3]),
      branch: { own: integers([2, 3, 4, 5]), last: integers([1, 2, 1, 3, 2, 4, 3, 5], [4, 2]) },
    };
    const [after2, after3, after24, after35] = await step([2, 3, 4, 5], tree, rows);
    const [left, right] = [await inOrder([0, 1, 2, 4]), await inOrder([0, 1, 3, 5])];
    expect([after2, after24]).toEqual([left[2], left[3]]);
    expect([after3, after35]).toEqual([right[2], right[3]]);
    expect(after2).not.toEqual(after3);
  });

  it("the best so many tokens of a draw, the one token first", async () => {
    const [rows, V] = [3, 11];
    const logits = normalArray(rows * V, 5);
    const settings = floats([0, 0, 1, 0.8, 0, 1, 1, 4, 1], [rows, 3]);
    const counters = integers([1, 0, 0, 5, 1, 0, 0, 6, 1, 0, 0, 7], [rows, 4]);
    const one = sample(floats(logits, [rows, V]), settings, counters);
    const six = sample(floats(logits, [rows, V]), settings, counters, 6);
    expect(one.token.shape).toEqual([rows]);
    expect(six.token.shape).toEqual([rows, 6]);
    const tokens = Array.from(await six.token.toFloats());
    const logProbabilities = Array.from(await six.logProbability.toFloats());
    expect(tokens.filter((_, i) => i % 6 === 0)).toEqual(Array.from(await one.token.toFloats()));
    const largest = Array.from(logits.slice(0, V).keys()).sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0));
    expect(tokens.slice(0, 6)).toEqual(largest.slice(0, 6));
    expect(new Set(tokens.slice(6, 12)).size).toBe(6);
    expect(tokens.slice(16)).toEqual([-1, -1]); // top_k left four
    const total = Array.from(logits.slice(0, V)).reduce((sum, logit) => sum + Math.exp(logit), 0);
    logProbabilities
      .slice(0, 6)
      .forEach((found, i) => expect(found).toBeCloseTo((logits[largest[i] ?? 0] ?? 0) - Math.log(total), 5));
    expect(logProbabilities.map(Number.isNaN)).toEqual(tokens.map((token) => token < 0));
  });
});
