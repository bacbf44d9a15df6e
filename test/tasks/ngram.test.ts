// The count model's probabilities by hand, and that they are a distribution.
import { describe, expect, test } from "vitest";
import { validTargets } from "../../lib/io/batch.js";
import { tokenDataset } from "../../lib/io/dataset.js";
import { byteTokenizer } from "../../lib/io/tokenizer.js";
import { TrigramModel } from "../../lib/tasks/ngram.js";

/** Counts 0,1→2; 1,2→1; 2,1→2; 1,2→0. */
function small(): TrigramModel {
  const model = new TrigramModel();
  model.addDocument([1, 2, 1, 2, 0]);
  return model;
}

// By hand, from the formula: 4 bytes counted, of 3 kinds (2 twice, 1 and 0 once).
const alone = { 0: (1 + 3 / 256) / 7, 1: (1 + 3 / 256) / 7, 2: (2 + 3 / 256) / 7, 5: 3 / 256 / 7 };
// Behind 1 came 2 twice: 2 bytes of 1 kind. Behind 2 came 1 and 0: 2 bytes of 2 kinds.
const after1 = { 2: (2 + alone[2]) / 3, 5: alone[5] / 3 };
const after2 = { 0: (1 + 2 * alone[0]) / 4, 1: (1 + 2 * alone[1]) / 4 };

describe("interpolated Witten–Bell trigrams", () => {
  test.each([
    ["a context seen with two different bytes", 1, 2, 1, (1 + 2 * after2[1]) / 4],
    ["a context seen once", 0, 1, 2, (1 + after1[2]) / 2],
    ["a byte never seen in a context that was", 2, 1, 5, after1[5] / 2],
    ["two bytes never seen in this order, of which the second was: falls to it alone", 9, 1, 2, after1[2]],
    ["a context never seen at all: falls to the bytes alone", 9, 9, 2, alone[2]],
  ])("%s", (_, first, second, byte, wanted) => {
    expect(small().probability(first, second, byte)).toBeCloseTo(wanted, 14);
  });

  test("without a count every byte is as likely", () => {
    expect(new TrigramModel().probability(1, 2, 3)).toBe(1 / 256);
  });

  test("is a distribution in every kind of context", () => {
    const model = new TrigramModel();
    let state = 1;
    const random = (below: number): number => (state = (state * 48271) % 2147483647) % below;
    for (let i = 0; i < 20; i++) model.addDocument([...Array.from({ length: 300 }, () => 32 + random(7) ** 2), 0]);
    for (const [first, second] of [
      [32, 33],
      [0, 36],
      [200, 41],
      [200, 201],
      [68, 32],
    ] as const) {
      let sum = 0;
      for (let byte = 0; byte < 256; byte++) sum += model.probability(first, second, byte);
      expect(sum).toBeCloseTo(1, 12);
    }
  });

  test("scores a document from its second byte on, in bits", () => {
    const { bitsPerByte, bytes } = small().score([[1, 2, 0]]);
    const bits = -Math.log2((1 + after1[2]) / 2) - Math.log2((1 + 2 * after2[0]) / 4);
    expect(bytes).toBe(2);
    expect(bitsPerByte).toBeCloseTo(bits / 2, 14);
  });

  test("keeps documents apart: nothing is counted from the end of one to the start of the next", () => {
    const apart = small();
    apart.addDocument([7, 8, 0]);
    const pieces = small();
    pieces.add(0, 7, 8); // nothing before the 7 but eos
    pieces.add(7, 8, 0);
    expect(apart.count).toBe(6);
    for (const [first, second] of [
      [2, 0],
      [0, 7],
      [7, 8],
      [0, 1],
    ] as const) {
      for (const byte of [0, 7, 8, 2]) {
        expect(apart.probability(first, second, byte)).toBe(pieces.probability(first, second, byte));
      }
    }
  });

  describe("beside a model trained on the same data", () => {
    const documents = [40, 3, 1, 25].map((length, i) => [
      ...Array.from({ length }, (_, t) => 1 + ((t * 7 + i) % 11)),
      0,
    ]);
    const data = tokenDataset(
      documents.map((tokens) => ({ tokens })),
      { tokenizer: byteTokenizer() },
    );
    const shape = { batchSize: 3, contextLength: 8, lookahead: 2 };

    test("counts as many bytes of a batch as head 1 has targets", () => {
      const model = new TrigramModel();
      let wanted = 0;
      const batches = data.batches(shape);
      for (let i = 0; i < 5; i++) {
        const { value: batch } = batches.next();
        if (!batch) throw new Error("training batches never end");
        model.addBatch(batch);
        wanted += validTargets(batch)[0] ?? 0;
      }
      expect(wanted).toBeGreaterThan(80);
      expect(model.count).toBe(wanted);
    });

    test("in one row that shows all documents, counts just what the documents hold", () => {
      const [fromBatch, fromDocuments] = [new TrigramModel(), new TrigramModel()];
      for (const batch of data.evalBatches({ batchSize: 1, contextLength: 80, lookahead: 2 }))
        fromBatch.addBatch(batch);
      for (const document of documents) fromDocuments.addDocument(document);
      expect(fromBatch.count).toBe(fromDocuments.count);
      for (let code = 0; code < 12 ** 3; code++) {
        const context = [code % 12, Math.floor(code / 12) % 12, Math.floor(code / 144)] as const;
        expect(fromBatch.probability(...context)).toBe(fromDocuments.probability(...context));
      }
    });

    test("scores as many bytes as an evaluation has targets for head 1", () => {
      let wanted = 0;
      for (const batch of data.evalBatches(shape)) wanted += validTargets(batch)[0] ?? 0;
      expect(new TrigramModel().score(data.documents())).toEqual({ bitsPerByte: 8, bytes: wanted });
    });
  });
});
