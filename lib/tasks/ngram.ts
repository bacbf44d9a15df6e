// The count model that a neural one has to beat: which byte follows which two, smoothed by how many different bytes did.
import type { Batch } from "../io/batch.js";

const byteCount = 256;

/**
 * An interpolated Witten–Bell trigram model over bytes (Witten and Bell 1991; Chen and Goodman 1998, section 2.5).
 * With c counts, t(h) the number of different bytes seen behind h, and h' = h without its first byte:
 *
 *     P(w | h) = (c(h, w) + t(h)·P(w | h')) / (c(h) + t(h)),   P(w) = (c(w) + t·1/256) / (c + t)
 *
 * A context never seen leaves all to the shorter one. Documents end with eos and are kept apart: what comes before a
 * document's first byte counts as eos, and that byte itself is neither counted nor scored, as in `textDataset`.
 *
 * @example
 * const model = new TrigramModel();
 * for (const document of data.documents()) model.addDocument(document);
 * model.score(heldOut.documents()).bitsPerByte;
 */
export class TrigramModel {
  /** Counts of (a, b, w) at (a·256 + b)·256 + w, and likewise the shorter ones. */
  private readonly trigrams = new Uint32Array(byteCount ** 3);
  private readonly bigrams = new Uint32Array(byteCount ** 2);
  private readonly unigrams = new Uint32Array(byteCount);
  /** c(h) and t(h) of the contexts of two bytes, one and none. */
  private readonly pairTotals = new Uint32Array(byteCount ** 2);
  private readonly pairTypes = new Uint32Array(byteCount ** 2);
  private readonly byteTotals = new Uint32Array(byteCount);
  private readonly byteTypes = new Uint32Array(byteCount);
  private total = 0;
  private types = 0;

  constructor(private readonly eos = 0) {}

  /** How many bytes have been counted. */
  get count(): number {
    return this.total;
  }

  /** Counts one byte behind the two before it. */
  add(first: number, second: number, byte: number): void {
    const pair = first * byteCount + second;
    if (increment(this.trigrams, pair * byteCount + byte) === 1) increment(this.pairTypes, pair);
    if (increment(this.bigrams, second * byteCount + byte) === 1) increment(this.byteTypes, second);
    if (increment(this.unigrams, byte) === 1) this.types++;
    increment(this.pairTotals, pair);
    increment(this.byteTotals, second);
    this.total++;
  }

  /** Counts a document's bytes from the second on. */
  addDocument(bytes: ArrayLike<number>): void {
    for (let t = 1; t < bytes.length; t++) this.add(at(bytes, t - 2, this.eos), at(bytes, t - 1), at(bytes, t));
  }

  /**
   * Counts what head 1 of a model learns from a batch: the byte behind each position, where it is in the same document.
   * What the row does not show counts as eos.
   */
  addBatch({ tokens, targets, limit, firstKey, contextLength, lookahead }: Batch): void {
    for (let row = 0; row < limit.length; row++) {
      const t = row % contextLength;
      const here = Math.floor(row / contextLength) * (contextLength + lookahead) + t;
      if (t + 1 > at(limit, row) || at(targets, here + 1) < 0) continue;
      this.add(t > at(firstKey, row) ? at(tokens, here - 1) : this.eos, at(tokens, here), at(tokens, here + 1));
    }
  }

  /** P(byte | the two before it). */
  probability(first: number, second: number, byte: number): number {
    const pair = first * byteCount + second;
    const alone = interpolate(at(this.unigrams, byte), this.total, this.types, 1 / byteCount);
    const afterOne = interpolate(
      at(this.bigrams, second * byteCount + byte),
      at(this.byteTotals, second),
      at(this.byteTypes, second),
      alone,
    );
    const count = at(this.trigrams, pair * byteCount + byte);
    return interpolate(count, at(this.pairTotals, pair), at(this.pairTypes, pair), afterOne);
  }

  /** −Σ log₂ P / count over the documents' bytes from the second on. */
  score(documents: Iterable<ArrayLike<number>>): { readonly bitsPerByte: number; readonly bytes: number } {
    let bits = 0;
    let bytes = 0;
    for (const document of documents) {
      for (let t = 1; t < document.length; t++, bytes++) {
        bits -= Math.log2(this.probability(at(document, t - 2, this.eos), at(document, t - 1), at(document, t)));
      }
    }
    return { bitsPerByte: bits / bytes, bytes };
  }
}

function interpolate(count: number, total: number, types: number, shorter: number): number {
  return total === 0 ? shorter : (count + types * shorter) / (total + types);
}

function increment(counts: Uint32Array, index: number): number {
  return (counts[index] = at(counts, index) + 1);
}

function at(values: ArrayLike<number>, index: number, missing = 0): number {
  return values[index] ?? missing;
}
