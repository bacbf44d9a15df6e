// The ops of a decoding step: rows of a tree attend to their branches, and one draw gives several tokens.
import { describe, expect, it } from "vitest";
import { attentionCached, cacheAppend, type CacheRows } from "../../lib/ops/attention.js";
import { sample } from "../../lib/ops/sample.js";
import { scope } from "../../lib/scope.js";
import { tensor, zeros, type Tensor } from "../../lib/tensor.js";
import { normalArray } from "../helpers/gradcheck.js";
import { levels, openLevel } from "../helpers/levels.js";

/** Keys and values. */
type Caches = readonly [Tensor, Tensor];

describe.each(levels())("on %s", (level) => {
  const device = openLevel(level);
  const integers = (values: number[], shape: number[] = [values.length]): Tensor =>
    tensor(Int32Array.from(values), { dtype: "i32", device, shape });
  const floats = (values: ArrayLike<number>, shape: number[]): Tensor =>
    tensor(Float32Array.from(values), { dtype: "f32", device, shape });

  it("a chain of a tree gives the bits of the same tokens in a row", async () => {
    const [H, G, D, capacity] = [4, 2, 8, 9];
    /** Tokens of these kinds: their q, k or v, as if from a model. */
    const of = (tokens: readonly number[], heads: number, seed: number): Tensor =>
      floats(
        tokens.flatMap((token) => Array.from(normalArray(heads * D, 10 * seed + token))),
        [tokens.length, heads, D],
      );
    /** Appends tokens to the caches, then attends from each of them; one output row per token. */
    const step = async (caches: Caches, tokens: readonly number[], rows: () => CacheRows): Promise<number[][]> => {
      using out = scope(() => {
        const given = rows();
        cacheAppend(of(tokens, G, 1), of(tokens, G, 2), given, ...caches);
        return attentionCached(of(tokens, H, 3), ...caches, given);
      });
      const values = Array.from(await out.toFloats());
      return tokens.map((_, r) => values.slice(r * H * D, (r + 1) * H * D));
    };
    const emptyCache = (): Tensor => zeros([2, G, capacity, D], { dtype: "f32", device });
    const withCaches = async <T>(fn: (caches: Caches) => Promise<T>): Promise<T> => {
      using keys = emptyCache();
      using values = emptyCache();
      return await fn([keys, values]);
    };
    const inOrder = (tokens: readonly number[]) => (): CacheRows => ({
      sequence: integers(tokens.map(() => 1)),
      position: integers(tokens.map((_, i) => i)),
    });
    const chain = (tokens: readonly number[]): Promise<number[][]> =>
      withCaches((caches) => step(caches, tokens, inOrder(tokens)));

    // Tokens 0 and 1, then a tree at places 2 … 5: 2 and 3 both after 1, 4 after 2, 5 after 3.
    const [after2, after3, after24, after35] = await withCaches(async (caches) => {
      await step(caches, [0, 1], inOrder([0, 1]));
      return step(caches, [2, 3, 4, 5], () => ({
        sequence: integers([1, 1, 1, 1]),
        position: integers([2, 2, 3, 3]),
        branch: { own: integers([2, 3, 4, 5]), last: integers([1, 2, 1, 3, 2, 4, 3, 5], [4, 2]) },
      }));
    });
    const [left, right] = [await chain([0, 1, 2, 4]), await chain([0, 1, 3, 5])];
    expect([after2, after24]).toEqual([left[2], left[3]]);
    expect([after3, after35]).toEqual([right[2], right[3]]);
    expect(after2).not.toEqual(after3);
  });

  it("the best so many tokens of a draw, the one token first", async () => {
    const [rows, V] = [3, 11];
    const logits = normalArray(rows * V, 5);
    const draw = async (count?: number) => {
      const drawn = scope(() =>
        sample(
          floats(logits, [rows, V]),
          floats([0, 0, 1, 0.8, 0, 1, 1, 4, 1], [rows, 3]),
          integers([1, 0, 0, 5, 1, 0, 0, 6, 1, 0, 0, 7], [rows, 4]),
          count,
        ),
      );
      const { shape } = drawn.token;
      const [tokens, logProbabilities] = [await drawn.token.toFloats(), await drawn.logProbability.toFloats()];
      for (const each of Object.values(drawn)) each.dispose();
      return { shape, tokens: Array.from(tokens), logProbabilities: Array.from(logProbabilities) };
    };
    const [one, six] = [await draw(), await draw(6)];
    expect(one.shape).toEqual([rows]);
    expect(six.shape).toEqual([rows, 6]);
    expect(six.tokens.filter((_, i) => i % 6 === 0)).toEqual(one.tokens);
    const largest = Array.from(logits.slice(0, V).keys()).sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0));
    expect(six.tokens.slice(0, 6)).toEqual(largest.slice(0, 6));
    expect(new Set(six.tokens.slice(6, 12)).size).toBe(6);
    expect(six.tokens.slice(16)).toEqual([-1, -1]); // top_k left four
    const total = Array.from(logits.slice(0, V)).reduce((sum, logit) => sum + Math.exp(logit), 0);
    six.logProbabilities
      .slice(0, 6)
      .forEach((found, i) => expect(found).toBeCloseTo((logits[largest[i] ?? 0] ?? 0) - Math.log(total), 5));
    expect(six.logProbabilities.map(Number.isNaN)).toEqual(six.tokens.map((token) => token < 0));
  });
});
