// The count model's probabilities by hand, and that they are a distribution.
import { describe, expect, test } from "vitest";
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
});
