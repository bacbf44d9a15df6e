// Rows that are whole sequences.
import { describe, expect, test } from "vitest";
import { type Batch, validTargets } from "../../lib/io/batch.js";
import { SequenceDataset } from "../../lib/io/sequence-dataset.js";

const items = [
  { tokens: [1, 2, 3] },
  { tokens: [4, 5], lossMask: [0, 1] },
  { tokens: [6, 7, 8, 9] },
  { tokens: [10] },
  { tokens: [11, 12, 13] },
];
const data = new SequenceDataset(items, { vocabSize: 14 });
const shape = { batchSize: 2, contextLength: 3, lookahead: 2 };

const firstTokens = (batch: Batch): number[] =>
  Array.from({ length: batch.batchSize }, (_, row) => batch.tokens[row * 5] ?? -1);

function take(batches: Iterable<Batch>, count: number): Batch[] {
  const taken: Batch[] = [];
  for (const batch of batches) {
    taken.push(batch);
    if (taken.length === count) break;
  }
  return taken;
}

describe("a dataset of sequences", () => {
  test("by hand: one per row, padding behind it, none of the next one's tokens", () => {
    const [first, second, third, ...rest] = data.evalBatches(shape);
    expect(first).toEqual({
      tokens: Int32Array.of(1, 2, 3, 0, 0, 4, 5, 0, 0, 0),
      targets: Int32Array.of(1, 2, 3, -100, -100, -100, 5, -100, -100, -100),
      limit: Int32Array.of(2, 2, 2, 1, 1, 2),
      firstKey: Int32Array.of(0, 0, 0, 0, 0, 2),
      ...{ batchSize: 2, contextLength: 3, lookahead: 2, position: 2 },
    });
    expect(second && validTargets(second)).toEqual([3, 2]); // four tokens show all of their targets in three columns
    expect(third?.tokens).toEqual(Int32Array.of(11, 12, 13, 0, 0, 0, 0, 0, 0, 0));
    expect(third?.position).toBe(5);
    expect(rest).toEqual([]);
  });

  test("an epoch has each sequence once, in an order of its own; the last batch is filled up", () => {
    const batches = [...data.batches({ ...shape, epochs: 2, seed: 3 })];
    const order = batches.flatMap(firstTokens);
    expect(order.filter((token) => token !== 0)).toHaveLength(10);
    const sorted = (part: number[]): number[] => part.toSorted((a, b) => a - b);
    expect(sorted(order.slice(0, 5))).toEqual([1, 4, 6, 10, 11]);
    expect(sorted(order.slice(5))).toEqual([1, 4, 6, 10, 11]);
    const orders = Array.from({ length: 20 }, (_, seed) =>
      take(data.batches({ ...shape, seed }), 5).flatMap(firstTokens),
    );
    expect(new Set(orders.map(String)).size).toBeGreaterThan(10);
  });

  test("goes on from a position as if it had never stopped", () => {
    const all = take(data.batches({ ...shape, seed: 1 }), 6);
    for (const [i, batch] of all.slice(0, 5).entries()) {
      expect(take(data.batches({ ...shape, seed: 1, position: batch.position }), 1)).toEqual([all[i + 1]]);
    }
  });

  test("its fingerprint is that of its sequences", () => {
    const other = new SequenceDataset(items.slice(0, 4), { vocabSize: 14 });
    expect(new SequenceDataset(items, { vocabSize: 14 }).fingerprint).toBe(data.fingerprint);
    expect(other.fingerprint).not.toBe(data.fingerprint);
    expect(data.windowsPerEpoch(shape)).toBe(5);
  });

  test("cropped, it leaves out the last positions, where not every head has a target", () => {
    const cropped = new SequenceDataset(items.slice(2, 3), { vocabSize: 14, cropped: true });
    const [batch, ...rest] = cropped.evalBatches({ batchSize: 1, contextLength: 2, lookahead: 2 });
    expect(batch?.targets).toEqual(Int32Array.of(6, 7, 8, 9));
    expect(batch && validTargets(batch)).toEqual([2, 2]);
    expect(rest).toEqual([]);
    const short = { batchSize: 1, contextLength: 1, lookahead: 2 };
    expect(() => cropped.windowsPerEpoch(short)).toThrow(
      /expected at least 2, 2 less than the longest sequence, got 1/,
    );
  });

  describe("packed", () => {
    const packed = new SequenceDataset(items, { vocabSize: 14, packed: true });
    const row = { batchSize: 1, contextLength: 6, lookahead: 1 };

    test("by hand: as many sequences as fit, each with its own bounds", () => {
      const [first, second, ...rest] = packed.evalBatches(row);
      expect(first).toEqual({
        tokens: Int32Array.of(1, 2, 3, 4, 5, 0, 0),
        targets: Int32Array.of(1, 2, 3, -100, 5, -100, -100),
        limit: Int32Array.of(2, 2, 2, 4, 4, 5),
        firstKey: Int32Array.of(0, 0, 0, 3, 3, 5),
        ...{ batchSize: 1, contextLength: 6, lookahead: 1, position: 1 },
      });
      expect(second?.tokens).toEqual(Int32Array.of(6, 7, 8, 9, 10, 0, 0));
      expect(rest.map(({ tokens }) => tokens)).toEqual([Int32Array.of(11, 12, 13, 0, 0, 0, 0)]);
    });

    test("a row of T+1 tokens is filled to its last, and rows come once an epoch", () => {
      const narrow = { ...row, contextLength: 4 };
      expect(packed.windowsPerEpoch(narrow)).toBe(3); // 3 + 2, 4 + 1, 3
      const batches = [...packed.batches({ ...narrow, epochs: 1, seed: 2 })];
      const tokens = batches.flatMap((batch) => [...batch.tokens]).filter((token) => token !== 0);
      expect(tokens.toSorted((a, b) => a - b)).toEqual(items.flatMap((item) => item.tokens));
      expect(packed.windowsPerEpoch(row)).toBe(3);
      expect(packed.windowsPerEpoch({ ...row, contextLength: 12 })).toBe(1);
    });

    test("one to a row where no two fit", () => {
      const long = items.filter(({ tokens }) => tokens.length > 2);
      const [one, many] = [false, true].map(
        (together) => new SequenceDataset(long, { vocabSize: 14, packed: together }),
      );
      const narrow = { ...row, contextLength: 3 };
      expect([...(many?.evalBatches(narrow) ?? [])]).toEqual([...(one?.evalBatches(narrow) ?? [])]);
      expect(many?.windowsPerEpoch(narrow)).toBe(3);
      expect(many?.fingerprint).not.toBe(one?.fingerprint);
    });

    test("goes on from a position as if it had never stopped", () => {
      const all = take(packed.batches({ ...row, seed: 1 }), 5);
      expect(take(packed.batches({ ...row, seed: 1, position: all[1]?.position }), 3)).toEqual(all.slice(2));
    });
  });

  test("refuses what does not fit a row, tokens outside the vocabulary, nothing at all", () => {
    const short = { ...shape, contextLength: 1 };
    const tooLong = expect.objectContaining({ code: "BAD_DATA", argument: "contextLength" }) as Error;
    expect(() => data.windowsPerEpoch(short)).toThrow(tooLong);
    expect(() => [...data.evalBatches(short)]).toThrow(tooLong);
    expect(() => take(data.batches(short), 1)).toThrow(tooLong);
    expect(() => new SequenceDataset([{ tokens: [14] }], { vocabSize: 14 })).toThrow(/items\[0\]\.tokens\[0\]/);
    expect(() => new SequenceDataset([], { vocabSize: 14 })).toThrow(expect.objectContaining({ code: "BAD_DATA" }));
    expect(() => new SequenceDataset(items, { vocabSize: 0 })).toThrow(expect.objectContaining({ code: "BAD_CONFIG" }));
  });
});
