// Sequences that stand for themselves: one per row, or as many as fit, from its first token on, the rest of the row padding.
// Where a task's positions mean something a window that begins anywhere would cut them in two.
import { ForetokenError } from "../errors.js";
import { type Batch, type BatchShape, emptyBatch, fillRow } from "./batch.js";
import {
  type BatchOptions,
  checkCount,
  checkedItem,
  checkShape,
  checkVocabSize,
  type DatasetItem,
  fingerprintOf,
  joinDocuments,
  StreamDataset,
} from "./dataset.js";
import { permute } from "./shuffle.js";
import type { Tokenizer } from "./tokenizer.js";

export interface SequenceDatasetOptions {
  readonly vocabSize: number;
  readonly tokenizer?: Tokenizer | null | undefined;
  /**
   * Takes rows of T+n tokens too: the last positions of a sequence, where not every head has a target, are then not read.
   * Default: false.
   */
  readonly cropped?: boolean | undefined;
  /** As many sequences to a row as fit, in their own order, none attending to another. Default: false, one to a row. */
  readonly packed?: boolean | undefined;
}

/**
 * A dataset whose rows are whole sequences of at most T+1 tokens: every epoch has each of them once, rows in an order that
 * is a function of (seed, position). Errors: BAD_DATA as `tokenDataset`, and for a sequence longer than a row.
 *
 * @example
 * const data = new SequenceDataset([{ tokens: [3, 1, 2] }, { tokens: [0, 1] }], { vocabSize: 4 });
 */
export class SequenceDataset extends StreamDataset {
  private readonly longest: number;
  private readonly cropped: boolean;
  private readonly packed: boolean;
  /** Of the last shape that was asked for. */
  private filled: { readonly tokens: number; readonly rows: Float64Array } | undefined;

  constructor(items: Iterable<DatasetItem>, options: SequenceDatasetOptions) {
    const { vocabSize, tokenizer = null, cropped = false, packed = false } = options;
    checkVocabSize("SequenceDataset", vocabSize);
    const sequences = Array.from(items, (item, index) => checkedItem("SequenceDataset", item, index, vocabSize));
    if (sequences.length === 0) {
      const details = { op: "SequenceDataset", argument: "items", wanted: "sequences", got: "none" };
      throw new ForetokenError("BAD_DATA", details);
    }
    const stream = joinDocuments(sequences, vocabSize, false);
    super(stream, vocabSize, tokenizer, fingerprintOf(stream) + (packed ? " packed" : ""));
    this.cropped = cropped;
    this.packed = packed;
    this.longest = sequences.reduce((longest, { tokens }) => Math.max(longest, tokens.length), 0);
  }

  /** Rows in one epoch: the number of sequences, or what these fill when they are packed. */
  override windowsPerEpoch(shape: BatchShape): number {
    return this.rowEnds(shape).length;
  }

  /** How many sequences have been read at the end of each row. */
  private rowEnds(shape: BatchShape): Float64Array {
    checkShape(shape);
    const behind = this.cropped ? shape.lookahead : 1;
    const tokens = shape.contextLength + behind;
    if (this.longest > tokens) {
      throw new ForetokenError("BAD_DATA", {
        op: "SequenceDataset",
        argument: "contextLength",
        wanted: `at least ${this.longest - behind}, ${behind} less than the longest sequence`,
        got: `${shape.contextLength}`,
      });
    }
    if (this.filled?.tokens === tokens) return this.filled.rows;
    const rows = this.packed ? fillRows(this.stream.ends, tokens) : this.stream.ends.map((_, i) => i + 1);
    this.filled = { tokens, rows };
    return rows;
  }

  override *batches(options: BatchOptions): Generator<Batch, void, undefined> {
    const { seed = 0, position = 0, epochs = Infinity, batchSize } = options;
    checkCount("position", position, 0);
    if (epochs !== Infinity) checkCount("epochs", epochs, 0);
    const count = this.windowsPerEpoch(options);
    for (let first = position; first < count * epochs; first += batchSize) {
      const last = Math.min(first + batchSize, count * epochs);
      const place = (row: number): number => permute(row % count, count, seed, Math.floor(row / count));
      yield this.rows(options, first, last, place);
    }
  }

  override *evalBatches(shape: BatchShape): Generator<Batch, void, undefined> {
    const count = this.windowsPerEpoch(shape);
    for (let first = 0; first < count; first += shape.batchSize) {
      yield this.rows(shape, first, Math.min(first + shape.batchSize, count), (row) => row);
    }
  }

  private rows(shape: BatchShape, first: number, last: number, place: (row: number) => number): Batch {
    const batch = emptyBatch(shape, last);
    const { ends } = this.stream;
    const rows = this.rowEnds(shape);
    for (let row = first; row < last; row++) {
      const at = place(row);
      const from = at === 0 ? 0 : (rows[at - 1] ?? 0);
      const own = { ...this.stream, ends: ends.subarray(from, rows[at]) };
      fillRow(batch, row - first, own, from === 0 ? 0 : (ends[from - 1] ?? 0), false);
    }
    return batch;
  }
}

/** Rows of at most so many tokens, each closed by the first sequence that no longer fits. */
function fillRows(ends: Float64Array, tokens: number): Float64Array {
  const rows: number[] = [];
  let start = 0;
  for (const [i, end] of ends.entries()) {
    const before = i === 0 ? 0 : (ends[i - 1] ?? 0);
    if (end - start <= tokens) continue;
    rows.push(i);
    start = before;
  }
  return Float64Array.of(...rows, ends.length);
}
