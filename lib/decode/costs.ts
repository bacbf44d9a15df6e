// What steps cost on this device: measured once, and put right by what decoding really takes.
import { performance } from "node:perf_hooks";
import type { LanguageModel } from "../mtp/model.js";
import { type Draw, greedy, type Row } from "./inputs.js";
import type { DecodeSession } from "./session.js";
import { SteadyLayout } from "./steady.js";
import type { DraftShape } from "./tree.js";

/** Milliseconds of steps. */
export interface StepCosts {
  /** Adding one token to each of so many sequences, one forward close after the other. */
  plain(rows: number): number;
  /** Reading so many rows for head 1's verdict after proposals by heads 2 to k. */
  drafted(rows: number, k: number): number;
  /** What it costs beside to draft once among forwards that follow each other closely. */
  readonly interruption: number;
}

/** What was measured beforehand: `propose` of heads that have to read a whole draft. */
export interface MeasuredCosts {
  plain(rows: number): number;
  verify(rows: number): number;
  propose(k: number): number;
  /** Whether a step with drafts has to be waited for before the next. */
  readonly waits: boolean;
}

/** Steps by whose median the measured costs are put right. */
const recentSteps = 9;

/**
 * Costs as measured, and what the program does beside every forward, as seen where forwards follow each other closely.
 * (Tried: the same of steps with drafts. Those that come among others take longer than those that follow their own kind, and
 * drafting then looks worse than it would be.)
 */
export class ObservedCosts implements StepCosts {
  private readonly beside = new Recent();
  readonly interruption: number;

  constructor(private readonly measured: MeasuredCosts) {
    this.interruption = measured.waits ? measured.verify(1) : 0;
  }

  plain(rows: number): number {
    return this.measured.plain(rows) + this.beside.median;
  }

  drafted(rows: number, k: number): number {
    return this.measured.verify(rows) + this.measured.propose(k) + this.beside.median;
  }

  /** Forwards of so many rows took so many milliseconds each. */
  sawPlain(rows: number, ms: number): void {
    const beside = Math.max(0, ms - this.measured.plain(rows));
    this.beside.see(Math.min(beside, this.measured.plain(1))); // a program slower than that is so whatever is chosen
  }
}

/** The median of the last values, once there are enough of them. */
class Recent {
  private readonly values: number[] = [];
  /** 0 before. */
  median = 0;

  see(value: number): void {
    this.values.push(value);
    if (this.values.length > recentSteps) this.values.shift();
    if (this.values.length === recentSteps) this.median = [...this.values].sort((a, b) => a - b)[recentSteps >> 1] ?? 0;
  }
}

const measured = new WeakMap<LanguageModel, Map<string, Promise<ObservedCosts>>>();

/** What is measured. */
export interface Measured {
  readonly slots: number;
  readonly shape: DraftShape;
  /** Whether they propose. */
  readonly heads: boolean;
  readonly waits: boolean;
  /** From where one sequence is about to go on. */
  readonly at: { readonly sequence: number; readonly position: number; readonly token: number };
}

/**
 * Measured once per model, draft's shape and session's size, on steps of a sequence: what they read behind its end is read again, and
 * the heads read what they would have to.
 */
export function stepCosts(session: DecodeSession, what: Measured): Promise<ObservedCosts> {
  const { slots, shape, heads, waits } = what;
  const ofModel = measured.get(session.model) ?? new Map<string, Promise<ObservedCosts>>();
  measured.set(session.model, ofModel);
  const key = JSON.stringify([slots, session.capacity, heads, waits, shape.paths]);
  const known = ofModel.get(key) ?? measure(session, what).then((costs) => new ObservedCosts(costs));
  ofModel.set(key, known);
  known.catch(() => ofModel.delete(key));
  return known;
}

const rounds = 5;
/** Forwards in a row, where they need not wait for each other. */
const inARow = 4;

async function measure(session: DecodeSession, what: Measured): Promise<MeasuredCosts> {
  const { slots, shape, heads, waits, at } = what;
  const widths = doubling(shape.size + 1);
  const plain = samplesOf(doubling(slots));
  const verify = samplesOf([...new Set([...widths, ...widths.map((width) => width * slots)])]);
  const both = samplesOf(heads ? doubling(shape.depth + 1).slice(1) : []);
  const read = (count: number): Promise<unknown> => {
    const rows = Array.from({ length: count }, (_, i) => rowOf(shape, i, at));
    return session.verify(rows, Array<Draw>(count).fill(greedy));
  };
  const goOn = (rows: number): Promise<unknown> => goOnFrom(session, at, rows);
  const atOnce = waits ? 1 : inARow;
  for (let round = 0; round < rounds; round++) {
    await time(plain, 1, 2 * inARow, () => goOn(1));
    for (const rows of plain.keys())
      if (rows > 1) await time(plain, rows, 2 * inARow, () => repeat(read, rows, 2 * inARow));
    for (const rows of verify.keys()) await time(verify, rows, atOnce, () => repeat(read, rows, atOnce));
    for (const k of both.keys()) {
      if (waits) await timeDraft(session, both, k, at, () => read(k));
      else await time(both, k, 2 * inARow, () => goOn(k));
    }
  }
  session.interrupt();
  const ofVerify = byEverySize(medians(verify));
  const ofBoth = byEverySize(medians(both));
  return {
    plain: byEverySize(medians(plain)),
    verify: ofVerify,
    propose: (k) => (heads && k > 1 ? Math.max(0, ofBoth(k) - ofVerify(k)) : 0),
    waits,
  };
}

async function time(samples: Samples, size: number, forwards: number, run: () => Promise<unknown>): Promise<void> {
  const began = performance.now();
  await run();
  samples.get(size)?.push((performance.now() - began) / forwards);
}

const repeat = (run: (size: number) => Promise<unknown>, size: number, times: number): Promise<unknown> =>
  Promise.all(Array.from({ length: times }, () => run(size)));

/** Two bursts of steps, one behind the other, as they are when nobody waits for them. */
function goOnFrom(
  session: DecodeSession,
  { sequence, position, token }: Measured["at"],
  rows: number,
): Promise<unknown> {
  const layout = new SteadyLayout([{ slot: sequence, rows, draw: greedy }]);
  session.settle(layout, [{ position, token }]);
  return Promise.all([session.goOn(layout, inARow), session.goOn(layout, inARow)]);
}

/** As if the last draft had been right: the heads have as many positions to read as it was long. */
async function timeDraft(
  session: DecodeSession,
  samples: Samples,
  k: number,
  { sequence, position }: Measured["at"],
  read: () => Promise<unknown>,
): Promise<void> {
  const propose = (to: number): unknown =>
    session.propose([{ sequence, to, draws: Array<Draw>(k - 1).fill(greedy) }], k);
  propose(Math.max(0, position - 1 - k));
  await read();
  await time(samples, k, 1, () => {
    propose(position - 1);
    return read();
  });
}

/** The last known token's row, those of a draft, and on as if texts stood one behind the other. */
function rowOf(shape: DraftShape, i: number, { sequence, position }: Measured["at"]): Row {
  const texts = Math.floor(i / (shape.size + 1));
  const start = position + texts * (1 + Math.max(shape.depth, shape.placesBehind));
  const node = shape.nodes[(i % (shape.size + 1)) - 1];
  const branch = node?.branch?.map((offset) => start + offset);
  return { token: 0, sequence, position: start + (node?.depth ?? 0), branch };
}

/** ms, by size. */
type Samples = Map<number, number[]>;
const samplesOf = (sizes: readonly number[]): Samples => new Map(sizes.map((size) => [size, []]));

/** Medians, by rising size. */
function medians(samples: Samples): (readonly [number, number])[] {
  const middle = (ms: readonly number[]): number => [...ms].sort((a, b) => a - b)[ms.length >> 1] ?? 0;
  return [...samples].map(([size, ms]) => [size, middle(ms)] as const).sort(([a], [b]) => a - b);
}

/** 1, 2, 4, … and n. */
function doubling(n: number): number[] {
  const sizes: number[] = [];
  for (let size = 1; size < n; size *= 2) sizes.push(size);
  return [...sizes, n];
}

/** Between the sizes as on a line, beyond the last as at it; looked up, since every step asks for many. */
function byEverySize(points: readonly (readonly [size: number, ms: number])[]): (size: number) => number {
  const table: number[] = [];
  for (const [i, [size, ms]] of points.entries()) {
    const [sizeBefore, msBefore] = points[i - 1] ?? [0, ms];
    for (let at = table.length; at <= size; at++) {
      table.push(msBefore + ((ms - msBefore) * (at - sizeBefore)) / (size - sizeBefore));
    }
  }
  return (size) => table[Math.min(size, table.length - 1)] ?? NaN;
}
