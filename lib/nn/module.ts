// What trunks and heads are made of.
import { cacheAppend, type CacheRows } from "../ops/attention.js";
import { gatherRows } from "../ops/elementwise.js";
import { scope } from "../scope.js";
import type { Tensor } from "../tensor.js";

/** What a sequence-wise forward needs beside its input. */
export interface SequenceContext {
  /** (B, T) i32: the first position of each position's document. */
  readonly firstKey?: Tensor | undefined;
}

/** The rows of one decoding step: which cache slot and which position each belongs to, on the device and on the host. */
export interface StepRows extends CacheRows {
  /** (R) i32: slot·capacity + position − 1, the place of the position before in a cache; −1 at position 0. */
  readonly previous: Tensor;
  /** Lengths of runs of consecutive rows that belong to one sequence each. */
  readonly runs: readonly number[];
}

/** Some of the rows of a step: which, (L) i32 in rising order, and what is to be known of them. */
export interface SomeRows {
  readonly index: Tensor;
  readonly rows: CacheRows;
}

/** undefined: all of them, in order. */
export function someRows(rows: StepRows, index: Tensor): SomeRows | undefined {
  const { sequence, position, branch } = rows;
  if (index.size === sequence.size) return undefined;
  const some = (column: Tensor): Tensor => gatherRows(column.view([column.size, 1]), index).view([index.size]);
  const chosen = { sequence: some(sequence), position: some(position) };
  return {
    index,
    rows: branch ? { ...chosen, branch: { own: some(branch.own), last: gatherRows(branch.last, index) } } : chosen,
  };
}

/** Rows that move within their slots: `position` is the place where each shall be. */
export interface CacheMoves extends CacheRows {
  /** Of a cache with G key/value heads: where each row's are, (slot·G + g)·capacity + place, (M·G) i32. */
  from(groups: number): Tensor;
}

/**
 * Made under `owning`. A module's memory of the tokens it has seen, and its forward one chunk of rows at a time. What was read at
 * a position stays until the position is read again, so that going back needs no copy.
 */
export interface ModuleCache {
  /**
   * x (R, d) → (R, d), or (L, d) of some rows: all are read. The rows of a sequence come in the order of their positions; a
   * position may be read again.
   */
  forward(x: Tensor, rows: StepRows, some?: SomeRows): Tensor;
  /** As forward, without the output. Absent where nothing is remembered. */
  remember?(x: Tensor, rows: StepRows): void;
  /** Absent where nothing is remembered. */
  move?(moves: CacheMoves): void;
  dispose(): void;
}

export interface Module {
  /** x (B, T, d) → (B, T, d). */
  forward(x: Tensor, context: SequenceContext): Tensor;
  newCache(slots: number, capacity: number): ModuleCache;
}

/** From tokens to the hidden states that all heads read. */
export interface Trunk {
  /** The first `length` columns of tokens (B, S) i32 → (B, T, d). status: see `embedding`. */
  forward(tokens: Tensor, length: number, context: SequenceContext & { status?: Tensor | undefined }): Tensor;
  newCache(slots: number, capacity: number): TrunkCache;
}

export interface TrunkCache {
  /** tokens (R) i32 → (R, d). */
  forward(tokens: Tensor, rows: StepRows): Tensor;
  /** Absent where a row can only go on from the position before its own. */
  move?(moves: CacheMoves): void;
  dispose(): void;
}

/** Moves rows of two caches (slots, G, capacity, D); all are read before any is written. */
export function moveRows(moves: CacheMoves, keyCache: Tensor, valueCache: Tensor): void {
  const [slots = 0, groups = 0, capacity = 0, width = 0] = keyCache.shape;
  const [count = 0] = moves.sequence.shape;
  const moved = (cache: Tensor): Tensor =>
    gatherRows(cache.view([slots * groups * capacity, width]), moves.from(groups)).view([count, groups, width]);
  scope(() => {
    const k = moved(keyCache);
    cacheAppend(k, valueCache === keyCache ? k : moved(valueCache), moves, keyCache, valueCache);
  });
}
