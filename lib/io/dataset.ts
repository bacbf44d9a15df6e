// Datasets: what the trainer draws batches from. An epoch visits every window of T tokens once, in an order that is a
// function of (seed, position) alone, from an offset that differs from epoch to epoch.
import { createHash } from "node:crypto";
import { checkOptions, ForetokenError } from "../errors.js";
import { type Batch, type BatchShape, emptyBatch, fillRow, type TokenStream } from "./batch.js";
import { hash32, permute } from "./shuffle.js";
import type { Tokenizer } from "./tokenizer.js";

export interface BatchOptions extends BatchShape {
  readonly seed?: number | undefined;
  /** Windows already seen: `position` of the last batch that was used. */
  readonly position?: number | undefined;
  /** Stop after so many passes over the data; the last batch is filled up with padding. Default: never. */
  readonly epochs?: number | undefined;
}

export interface Dataset {
  readonly vocabSize: number;
  readonly tokenizer: Tokenizer | null;
  readonly tokenCount: number;
  readonly documentCount: number;
  /** SHA-256 over everything that batches are made of: equal fingerprints give equal batches. */
  readonly fingerprint: string;
  /** Each document's tokens: a view, not to be written to. */
  documents(): Generator<TokenStream["tokens"], void, undefined>;
  /** Windows in one epoch: ⌊tokens / T⌋. Errors: BAD_DATA when the data is shorter than one window. */
  windowsPerEpoch(shape: BatchShape): number;
  /** Shuffled windows, for training. */
  batches(options: BatchOptions): Generator<Batch, void, undefined>;
  /** Windows in order, each token of the stream read once; the end is filled up with padding. */
  evalBatches(shape: BatchShape): Generator<Batch, void, undefined>;
}

/** A document of one's own. */
export interface DatasetItem {
  readonly tokens: ArrayLike<number>;
  /** One number per token: 0 where it is no target. */
  readonly lossMask?: ArrayLike<number> | undefined;
}

export interface TokenDatasetOptions {
  /** Default: the tokenizer's. */
  readonly vocabSize?: number | undefined;
  readonly tokenizer?: Tokenizer | undefined;
  /** Whether attention and targets cross from one document to the next. Default: false. */
  readonly crossDocuments?: boolean | undefined;
}

/**
 * A dataset of documents given as tokens. Errors: BAD_DATA for no tokens, a token outside the vocabulary, a loss mask
 * of another length.
 *
 * @example
 * const data = tokenDataset([{ tokens: [3, 1, 2], lossMask: [0, 0, 1] }], { vocabSize: 4 });
 */
export function tokenDataset(items: Iterable<DatasetItem>, options: TokenDatasetOptions): Dataset {
  checkOptions("tokenDataset", options, ["vocabSize", "tokenizer", "crossDocuments"]);
  const { tokenizer = null, crossDocuments = false } = options;
  const vocabSize = options.vocabSize ?? tokenizer?.vocabSize;
  checkVocabSize("tokenDataset", vocabSize);
  const documents = Array.from(items, (item, index) => checkedItem("tokenDataset", item, index, vocabSize));
  if (documents.length === 0) {
    throw new ForetokenError("BAD_DATA", { op: "tokenDataset", argument: "items", wanted: "documents", got: "none" });
  }
  const stream = joinDocuments(documents, vocabSize, crossDocuments);
  return new StreamDataset(stream, vocabSize, tokenizer, fingerprintOf(stream));
}

/** Documents joined into one stream, one, two or four bytes a token as the vocabulary needs. */
export function joinDocuments(items: readonly DatasetItem[], vocabSize: number, crossDocuments: boolean): TokenStream {
  const ends = new Float64Array(items.length);
  let length = 0;
  for (const [index, { tokens }] of items.entries()) ends[index] = length += tokens.length;
  const tokens = newTokens(length, vocabSize);
  const lossMask = items.some((item) => item.lossMask !== undefined) ? new Uint8Array(length).fill(1) : null;
  for (const [index, item] of items.entries()) {
    const start = index === 0 ? 0 : (ends[index - 1] ?? 0);
    tokens.set(item.tokens, start);
    if (lossMask && item.lossMask)
      lossMask.set(
        Uint8Array.from(item.lossMask, (weight) => (weight === 0 ? 0 : 1)),
        start,
      );
  }
  return { tokens, lossMask, ends, crossDocuments };
}

/** A dataset over a stream in memory. */
export class StreamDataset implements Dataset {
  constructor(
    protected readonly stream: TokenStream,
    readonly vocabSize: number,
    readonly tokenizer: Tokenizer | null,
    readonly fingerprint: string,
  ) {}

  get tokenCount(): number {
    return this.stream.tokens.length;
  }

  get documentCount(): number {
    return this.stream.ends.length;
  }

  *documents(): Generator<TokenStream["tokens"], void, undefined> {
    let start = 0;
    for (const end of this.stream.ends) {
      yield this.stream.tokens.subarray(start, end);
      start = end;
    }
  }

  windowsPerEpoch(shape: BatchShape): number {
    checkShape(shape);
    const wanted = shape.contextLength + shape.lookahead;
    if (this.tokenCount < wanted) {
      throw new ForetokenError("BAD_DATA", {
        op: "dataset",
        argument: "data",
        wanted: `at least ${wanted} tokens (context ${shape.contextLength} and ${shape.lookahead} to predict)`,
        got: `${this.tokenCount}`,
        remedy: "Give more data or a shorter context.",
      });
    }
    return Math.floor(this.tokenCount / shape.contextLength);
  }

  *batches(options: BatchOptions): Generator<Batch, void, undefined> {
    const { seed = 0, position = 0, epochs = Infinity, batchSize, contextLength } = options;
    checkCount("position", position, 0);
    if (epochs !== Infinity) checkCount("epochs", epochs, 0);
    const windows = this.windowsPerEpoch(options);
    for (let first = position; first < windows * epochs; first += batchSize) {
      const last = Math.min(first + batchSize, windows * epochs);
      const batch = emptyBatch(options, last);
      for (let window = first; window < last; window++) {
        const epoch = Math.floor(window / windows);
        const offset = hash32(seed, epoch) % contextLength;
        const start = offset + permute(window % windows, windows, seed, epoch) * contextLength;
        // The stream is a ring here: its end is the end of a document, so no row needs padding.
        fillRow(batch, window - first, this.stream, start, true);
      }
      yield batch;
    }
  }

  *evalBatches(shape: BatchShape): Generator<Batch, void, undefined> {
    checkShape(shape);
    const { batchSize, contextLength } = shape;
    const windows = Math.ceil(this.tokenCount / contextLength);
    for (let first = 0; first < windows; first += batchSize) {
      const last = Math.min(first + batchSize, windows);
      const batch = emptyBatch(shape, last);
      for (let window = first; window < last; window++) {
        fillRow(batch, window - first, this.stream, window * contextLength, false);
      }
      yield batch;
    }
  }
}

/** SHA-256 of a stream's tokens, document ends and loss mask. */
export function fingerprintOf({ tokens, lossMask, ends, crossDocuments }: TokenStream): string {
  const hash = createHash("sha256");
  hash.update(`${tokens.BYTES_PER_ELEMENT} ${tokens.length} ${ends.length} ${crossDocuments} ${lossMask !== null}\n`);
  for (const part of [tokens, ends, lossMask]) if (part !== null) hash.update(part);
  return hash.digest("hex");
}

function newTokens(length: number, vocabSize: number): Uint8Array | Uint16Array | Int32Array {
  if (vocabSize <= 1 << 8) return new Uint8Array(length);
  return vocabSize <= 1 << 16 ? new Uint16Array(length) : new Int32Array(length);
}

export function checkVocabSize(op: string, vocabSize: number | undefined): asserts vocabSize is number {
  if (vocabSize !== undefined && Number.isSafeInteger(vocabSize) && vocabSize >= 1) return;
  const wanted = "a positive integer, or a tokenizer";
  throw new ForetokenError("BAD_CONFIG", { op, argument: "vocabSize", wanted, got: `${vocabSize}` });
}

export function checkedItem(op: string, item: DatasetItem, index: number, vocabSize: number): DatasetItem {
  const { tokens, lossMask } = item;
  const refuse = (argument: string, wanted: string, got: string) =>
    new ForetokenError("BAD_DATA", { op, argument: `items[${index}].${argument}`, wanted, got });
  if (tokens.length === 0) throw refuse("tokens", "at least one token", "none");
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i] ?? NaN;
    if (!Number.isInteger(token) || token < 0 || token >= vocabSize) {
      throw refuse(`tokens[${i}]`, `an integer from 0 to ${vocabSize - 1}`, `${token}`);
    }
  }
  if (lossMask !== undefined && lossMask.length !== tokens.length) {
    throw refuse("lossMask", `${tokens.length} numbers, one per token`, `${lossMask.length}`);
  }
  return item;
}

export function checkShape(shape: BatchShape): void {
  checkCount("batchSize", shape.batchSize, 1);
  checkCount("contextLength", shape.contextLength, 1);
  checkCount("lookahead", shape.lookahead, 1);
}

export function checkCount(argument: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new ForetokenError("BAD_CONFIG", { op: "dataset", argument, wanted: `an integer ≥ ${least}`, got: `${value}` });
}
