import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Batch, validTargets } from "../../lib/io/batch.js";
import { type Dataset, type DatasetItem, tokenDataset } from "../../lib/io/dataset.js";
import { permute } from "../../lib/io/shuffle.js";

/** Documents whose tokens are all different, so that a token tells its place in the stream. */
function numbered(lengths: readonly number[], crossDocuments = false): Dataset {
  let next = 0;
  const items = lengths.map((length) => ({ tokens: Array.from({ length }, () => next++) }));
  return tokenDataset(items, { vocabSize: next, crossDocuments });
}

function take(batches: Iterable<Batch>, count: number): Batch[] {
  const taken: Batch[] = [];
  for (const batch of batches) {
    if (taken.length === count) break;
    taken.push(batch);
  }
  return taken;
}

const rowsOf = (values: Int32Array, columns: number): number[][] =>
  Array.from({ length: values.length / columns }, (_, row) => [...values.subarray(row * columns, (row + 1) * columns)]);

/** What `limit`, `firstKey` and the counts must be, one position and one pair at a time. */
function oracle(
  lengths: readonly number[],
  batch: Batch,
  cross: boolean,
): Pick<Batch, "limit" | "firstKey"> & { counts: number[] } {
  const { batchSize: B, contextLength: T, lookahead: n } = batch;
  const documentOf = lengths.flatMap((length, document) => new Array<number>(length).fill(document));
  const limit = new Int32Array(B * T);
  const firstKey = new Int32Array(B * T);
  const counts = new Array<number>(n).fill(0);
  for (let b = 0; b < B; b++) {
    const targets = batch.targets.subarray(b * (T + n), (b + 1) * (T + n));
    // a document that the ring brings round again within one row is a new one there
    const pieces: number[] = [];
    let piece = 0;
    for (let c = 0; c < T + n; c++) {
      const [token = -1, before = -1] = [targets[c], targets[c - 1]];
      if (c > 0 && (documentOf[token] !== documentOf[before] || token !== before + 1)) piece++;
      pieces.push(piece);
    }
    for (let t = 0; t < T; t++) {
      const isPadding = (targets[t] ?? -1) < 0;
      const mates = pieces.flatMap((other, c) => (cross || other === pieces[t] ? [c] : []));
      limit[b * T + t] = isPadding && !cross ? t : Math.max(...mates);
      firstKey[b * T + t] = isPadding && !cross ? t : Math.min(...mates);
      for (let i = 1; i <= n; i++) {
        const isTarget = (targets[t + i] ?? -1) >= 0;
        if (isTarget && (cross || (!isPadding && pieces[t + i] === pieces[t])))
          counts[i - 1] = (counts[i - 1] ?? 0) + 1;
      }
    }
  }
  return { limit, firstKey, counts };
}

const lengthsArbitrary = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 12 });
const shapeArbitrary = fc.record({
  batchSize: fc.integer({ min: 1, max: 3 }),
  contextLength: fc.integer({ min: 1, max: 9 }),
  lookahead: fc.integer({ min: 1, max: 4 }),
});
const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

describe("a batch", () => {
  test("by hand: a row over two document ends", () => {
    const items = [{ tokens: [1, 2, 3] }, { tokens: [4, 5], lossMask: [1, 0] }, { tokens: [6, 7, 8, 9] }];
    const data = tokenDataset(items, { vocabSize: 10 });
    const [first, second] = take(data.evalBatches({ batchSize: 1, contextLength: 6, lookahead: 2 }), 9);
    expect(first).toEqual({
      tokens: Int32Array.of(1, 2, 3, 4, 5, 6, 7, 8),
      targets: Int32Array.of(1, 2, 3, 4, -100, 6, 7, 8),
      limit: Int32Array.of(2, 2, 2, 4, 4, 7),
      firstKey: Int32Array.of(0, 0, 0, 3, 3, 5),
      ...{ batchSize: 1, contextLength: 6, lookahead: 2, position: 1 },
    });
    expect(second).toMatchObject({
      tokens: Int32Array.of(7, 8, 9, 0, 0, 0, 0, 0),
      targets: Int32Array.of(7, 8, 9, -100, -100, -100, -100, -100),
      limit: Int32Array.of(2, 2, 2, 3, 4, 5),
      firstKey: Int32Array.of(0, 0, 0, 3, 4, 5),
    });
    expect(first && validTargets(first)).toEqual([3, 2]); // 1→2 2→3 6→7 and 1→3 6→8; 4→5 is masked
  });

  test("crossDocuments: bounds are those of the row", () => {
    const data = tokenDataset([{ tokens: [1, 2] }, { tokens: [3, 4, 5] }], { vocabSize: 6, crossDocuments: true });
    const [batch] = take(data.evalBatches({ batchSize: 1, contextLength: 4, lookahead: 3 }), 1);
    expect(batch?.limit).toEqual(Int32Array.of(6, 6, 6, 6));
    expect(batch?.firstKey).toEqual(Int32Array.of(0, 0, 0, 0));
    expect(batch && validTargets(batch)).toEqual([4, 3, 2]);
  });

  test("limit, firstKey and validTargets equal the brute force, for training and evaluation", () => {
    fc.assert(
      fc.property(lengthsArbitrary, shapeArbitrary, fc.boolean(), fc.nat(), (lengths, shape, cross, seed) => {
        const data = numbered(lengths, cross);
        const batches = [...data.evalBatches(shape)];
        if (data.tokenCount >= shape.contextLength + shape.lookahead) {
          batches.push(...take(data.batches({ ...shape, seed }), 5), ...data.batches({ ...shape, seed, epochs: 1 }));
        }
        for (const batch of batches) {
          const isPaddedRow = batch.targets.some((target) => target < 0);
          const expected = oracle(lengths, batch, cross);
          expect(validTargets(batch)).toEqual(expected.counts);
          if (cross && isPaddedRow) continue; // padding rows bound themselves; the counts above are what matters
          expect(batch.limit).toEqual(expected.limit);
          expect(batch.firstKey).toEqual(expected.firstKey);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe("an epoch", () => {
  test("visits every window once, whatever the batch size, and each epoch in another order", () => {
    fc.assert(
      fc.property(lengthsArbitrary, shapeArbitrary, fc.nat(), (lengths, shape, seed) => {
        const data = numbered(lengths);
        fc.pre(data.tokenCount >= shape.contextLength + shape.lookahead);
        const { contextLength: T, lookahead: n } = shape;
        const windows = data.windowsPerEpoch(shape);
        expect(windows).toBe(Math.floor(data.tokenCount / T));
        const rows = [...data.batches({ ...shape, seed, epochs: 2 })].flatMap((batch) => rowsOf(batch.targets, T + n));
        const full = rows.filter((row) => row[0] !== -100);
        expect(full.length).toBe(2 * windows);
        expect(rows.length).toBe(Math.ceil((2 * windows) / shape.batchSize) * shape.batchSize);
        for (const epoch of [full.slice(0, windows), full.slice(windows)]) {
          const seen = epoch.flatMap((row) => row.slice(0, T));
          expect(new Set(seen).size).toBe(windows * T);
          for (const row of epoch) {
            const expected = Array.from({ length: T + n }, (_, c) => ((row[0] ?? 0) + c) % data.tokenCount);
            expect(row).toEqual(expected);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  test("seeds and epochs differ, and starts are spread evenly over the offsets", () => {
    const data = numbered([5000]);
    const shape = { batchSize: 1, contextLength: 10, lookahead: 1 };
    const starts = (seed: number, position: number) =>
      take(data.batches({ ...shape, seed, position }), 500).map((batch) => batch.targets[0] ?? -1);
    expect(starts(1, 0)).not.toEqual(starts(2, 0));
    expect(starts(1, 0)).not.toEqual(starts(1, 500));
    expect(starts(2 ** 40 + 1, 0)).not.toEqual(starts(1, 0));
    const offsets = new Set(Array.from({ length: 100 }, (_, epoch) => (starts(3, epoch * 500)[0] ?? 0) % 10));
    expect(offsets.size).toBe(10);
  });

  test("resumed at any position gives the same batches", () => {
    const data = numbered([7, 1, 20, 3, 30, 2]);
    const shape = { batchSize: 3, contextLength: 5, lookahead: 2, seed: 11, epochs: 4 };
    const all = [...data.batches(shape)];
    let position = 0;
    for (const [index, batch] of all.entries()) {
      expect([...data.batches({ ...shape, position })]).toEqual(all.slice(index));
      position = batch.position;
    }
    expect([...data.batches({ ...shape, position })]).toEqual([]);
  });

  test.each([1, 2, 3, 4, 5, 15, 16, 17, 1000, 65_537])("permute is a permutation of %i places", (count) => {
    for (const epoch of [0, 1]) {
      const images = Array.from({ length: count }, (_, index) => permute(index, count, 5, epoch));
      expect(new Set(images).size).toBe(count);
      expect(Math.min(...images.slice(0, 1000))).toBeGreaterThanOrEqual(0);
      expect(images.every((image) => image < count)).toBe(true);
    }
  });

  test("permute mixes: every place of 8 is reached from every place, about equally often", () => {
    const hits = Array.from({ length: 8 }, () => new Array<number>(8).fill(0));
    for (let seed = 0; seed < 4000; seed++) {
      for (let index = 0; index < 8; index++) {
        const row = hits[index] ?? [];
        const place = permute(index, 8, seed, 0);
        row[place] = (row[place] ?? 0) + 1;
      }
    }
    // 500 expected; the deviation of a fair one is 21
    for (const count of hits.flat()) expect(Math.abs(count - 500)).toBeLessThan(5 * 21);
  });

  test("permute of the largest count stays within it", () => {
    const images = [0, 1, 2 ** 32 - 1].map((index) => permute(index, 2 ** 32, 1, 2));
    expect(new Set(images).size).toBe(3);
    for (const image of images) expect(Number.isInteger(image) && image >= 0 && image < 2 ** 32).toBe(true);
  });
});

test("evaluation reads every token once, in order, and pads the end", () => {
  fc.assert(
    fc.property(lengthsArbitrary, shapeArbitrary, (lengths, shape) => {
      const data = numbered(lengths);
      const T = shape.contextLength;
      const rows = [...data.evalBatches(shape)].flatMap((batch) => rowsOf(batch.targets, T + shape.lookahead));
      const read = rows.flatMap((row) => row.slice(0, T)).filter((token) => token >= 0);
      expect(read).toEqual(Array.from({ length: sum(lengths) }, (_, token) => token));
      // head 1 meets every token of a document but its first exactly once
      const counted = [...data.evalBatches(shape)].map((batch) => validTargets(batch)[0] ?? 0);
      expect(sum(counted)).toBe(sum(lengths) - lengths.length);
    }),
  );
});

describe("tokenDataset", () => {
  test("gives its documents back", () => {
    const data = tokenDataset([{ tokens: [1, 2] }, { tokens: [3] }], { vocabSize: 4 });
    expect([...data.documents()]).toEqual([Uint8Array.of(1, 2), Uint8Array.of(3)]);
  });

  test("keeps tokens in as few bytes as the vocabulary needs, and their values", () => {
    for (const vocabSize of [256, 257, 65_536, 65_537, 2 ** 31 - 1]) {
      const data = tokenDataset([{ tokens: [0, vocabSize - 1, 1] }], { vocabSize });
      const [batch] = take(data.evalBatches({ batchSize: 1, contextLength: 2, lookahead: 1 }), 1);
      expect(batch?.tokens).toEqual(Int32Array.of(0, vocabSize - 1, 1));
    }
  });

  test("a mask of fractions counts as one where it is not 0", () => {
    const data = tokenDataset([{ tokens: [1, 2, 3], lossMask: [0, 0.5, 1] }], { vocabSize: 4 });
    const [batch] = take(data.evalBatches({ batchSize: 1, contextLength: 2, lookahead: 1 }), 1);
    expect(batch?.targets).toEqual(Int32Array.of(-100, 2, 3));
  });

  const refused: [string, DatasetItem[], RegExp][] = [
    ["no documents", [], /expected documents, got none/],
    ["an empty document", [{ tokens: [1] }, { tokens: [] }], /items\[1\]\.tokens: expected at least one token/],
    ["a token at V", [{ tokens: [1, 9, 10] }], /items\[0\]\.tokens\[2\]: expected an integer from 0 to 9, got 10/],
    ["a negative token", [{ tokens: [1] }, { tokens: [-1] }], /items\[1\]\.tokens\[0\].*got -1/],
    ["a fraction", [{ tokens: [1.5] }], /got 1.5/],
    ["a short mask", [{ tokens: [1, 2], lossMask: [1] }], /items\[0\]\.lossMask: expected 2 numbers.*got 1/],
  ];
  test.each(refused)("%s is BAD_DATA with the place", (_, items, message) => {
    expect(() => tokenDataset(items, { vocabSize: 10 })).toThrow(message);
    expect(() => tokenDataset(items, { vocabSize: 10 })).toThrow(expect.objectContaining({ code: "BAD_DATA" }));
  });

  test("no vocabulary, or one that is no size, is BAD_CONFIG; an unknown option has the nearest name", () => {
    expect(() => tokenDataset([{ tokens: [1] }], {})).toThrow(expect.objectContaining({ code: "BAD_CONFIG" }));
    expect(() => tokenDataset([{ tokens: [1] }], { vocabSize: 1.5 })).toThrow(
      expect.objectContaining({ code: "BAD_CONFIG" }),
    );
    const misspelt = { vocabSize: 4, crossDocument: true };
    expect(() => tokenDataset([{ tokens: [1] }], misspelt)).toThrow(/crossDocuments/);
  });

  test("fingerprints tell apart tokens, documents, masks and bounds", () => {
    const fingerprint = (items: DatasetItem[], crossDocuments = false) =>
      tokenDataset(items, { vocabSize: 9, crossDocuments }).fingerprint;
    const all = [
      fingerprint([{ tokens: [1, 2, 3] }]),
      fingerprint([{ tokens: [1, 2, 4] }]),
      fingerprint([{ tokens: [1, 2] }, { tokens: [3] }]),
      fingerprint([{ tokens: [1, 2, 3] }], true),
      fingerprint([{ tokens: [1, 2, 3], lossMask: [1, 1, 1] }]),
      fingerprint([{ tokens: [1, 2, 3], lossMask: [1, 0, 1] }]),
    ];
    expect(new Set(all).size).toBe(all.length);
    expect(fingerprint([{ tokens: Uint8Array.of(1, 2, 3) }])).toBe(all[0]);
  });
});

test("data shorter than a window is BAD_DATA, one of exactly a window trains", () => {
  const shape = { batchSize: 2, contextLength: 6, lookahead: 2 };
  expect(() => take(numbered([4, 3]).batches(shape), 1)).toThrow(/at least 8 tokens .*got 7.*shorter context/);
  expect(() => take(numbered([4, 3]).batches(shape), 1)).toThrow(expect.objectContaining({ code: "BAD_DATA" }));
  const [batch] = take(numbered([4, 4]).batches(shape), 1);
  expect(batch && rowsOf(batch.tokens, 8).map((row) => row.sort((a, b) => a - b))).toEqual([
    [0, 1, 2, 3, 4, 5, 6, 7],
    [0, 1, 2, 3, 4, 5, 6, 7],
  ]);
});

test.each([
  [{ batchSize: 0 }, "batchSize"],
  [{ contextLength: 1.5 }, "contextLength"],
  [{ lookahead: 0 }, "lookahead"],
  [{ position: -1 }, "position"],
  [{ epochs: 0.5 }, "epochs"],
])("%o is BAD_CONFIG", (change, argument) => {
  const options = { batchSize: 1, contextLength: 2, lookahead: 1, ...change };
  expect(() => take(numbered([9]).batches(options), 1)).toThrow(
    expect.objectContaining({ code: "BAD_CONFIG", argument }),
  );
});
