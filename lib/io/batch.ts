// Batches: rows of T positions and n tokens of lookahead, cut from a stream of documents, with the two bounds that keep
// documents apart: no target beyond a position's own document, no attention before its start.

export interface Batch {
  /** (B,T+n). The model reads the first T columns; head i's target at t is column t+i. */
  readonly tokens: Int32Array;
  /** (B,T+n): tokens, −100 where the loss mask is 0 or the stream has ended. */
  readonly targets: Int32Array;
  /** (B,T): the last column of the document that position t belongs to, at most T+n−1. */
  readonly limit: Int32Array;
  /** (B,T): the first column of the document that position t belongs to; 0 when it began before the row. */
  readonly firstKey: Int32Array;
  readonly batchSize: number;
  readonly contextLength: number;
  readonly lookahead: number;
  /** Where the batch after this one begins: give it to `batches` to go on from here. */
  readonly position: number;
}

export interface BatchShape {
  /** B. */
  readonly batchSize: number;
  /** T. */
  readonly contextLength: number;
  /** n: tokens behind the last position that some head predicts. */
  readonly lookahead: number;
}

/** Documents one after another. */
export interface TokenStream {
  readonly tokens: Uint8Array | Uint16Array | Int32Array;
  /** 0 where a token is no target; absent: all are. */
  readonly lossMask: Uint8Array | null;
  /** Position behind the last token of each document, rising. */
  readonly ends: Float64Array;
  /** Attention and targets cross from one document to the next. */
  readonly crossDocuments: boolean;
}

export const ignored = -100;

/** A batch of padding: nothing is a target, every position sees itself only. */
export function emptyBatch(shape: BatchShape, position: number): Batch {
  const { batchSize, contextLength, lookahead } = shape;
  const columns = contextLength + lookahead;
  const own = Int32Array.from({ length: batchSize * contextLength }, (_, i) => i % contextLength);
  return {
    tokens: new Int32Array(batchSize * columns),
    targets: new Int32Array(batchSize * columns).fill(ignored),
    limit: own,
    firstKey: own.slice(),
    batchSize,
    contextLength,
    lookahead,
    position,
  };
}

/**
 * Fills row `row` from stream position `start`. At the stream's end it goes on with the first document where `wrap`
 * says so; else the rest stays padding.
 */
export function fillRow(batch: Batch, row: number, stream: TokenStream, start: number, wrap: boolean): void {
  const { contextLength: T, lookahead } = batch;
  const columns = T + lookahead;
  let position = start;
  let document = documentAt(stream.ends, start);
  for (let column = 0; column < columns; document++) {
    if (document === stream.ends.length) {
      if (!wrap) break;
      position = 0;
      document = 0;
    }
    const end = Math.min(columns, column + (stream.ends[document] ?? 0) - position);
    copyTokens(batch, row * columns + column, stream, position, end - column);
    if (column < T) {
      const [from, to] = [row * T + column, row * T + Math.min(end, T)];
      batch.limit.fill(end - 1, from, to);
      batch.firstKey.fill(column, from, to);
    }
    position += end - column;
    column = end;
  }
  if (stream.crossDocuments) {
    batch.limit.fill(columns - 1, row * T, (row + 1) * T);
    batch.firstKey.fill(0, row * T, (row + 1) * T);
  }
}

/** Index of the document that holds a position: the first that ends behind it. */
export function documentAt(ends: Float64Array, position: number): number {
  let low = 0;
  let high = ends.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ends[middle] ?? 0) > position) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * Valid targets of each head i = 1..n over the whole batch: t+i ≤ limit[b,t] and targets[b,t+i] ≥ 0. A head's loss is
 * divided by its sum over an optimizer step's batches.
 */
export function validTargets(batch: Batch): number[] {
  const { targets, limit, batchSize, contextLength: T, lookahead } = batch;
  const columns = T + lookahead;
  const counts = new Array<number>(lookahead).fill(0);
  for (let row = 0; row < batchSize; row++) {
    for (let head = 1; head <= lookahead; head++) {
      let count = 0;
      for (let t = 0; t < T; t++) {
        const last = limit[row * T + t] ?? -1;
        if (t + head <= last && (targets[row * columns + t + head] ?? ignored) >= 0) count++;
      }
      counts[head - 1] = (counts[head - 1] ?? 0) + count;
    }
  }
  return counts;
}

function copyTokens(batch: Batch, at: number, stream: TokenStream, position: number, count: number): void {
  const tokens = stream.tokens.subarray(position, position + count);
  batch.tokens.set(tokens, at);
  batch.targets.set(tokens, at);
  if (stream.lossMask === null) return;
  for (let i = 0; i < count; i++) if (stream.lossMask[position + i] === 0) batch.targets[at + i] = ignored;
}
