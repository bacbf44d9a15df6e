// What steps cost on this device: measured once, and put right by what decoding really takes.
import { performance } from "node:perf_hooks";
import type { LanguageModel } from "../mtp/model.js";
import { type Draw, greedy, type Row } from "./inputs.js";
import type { DecodeSession } from "./session.js";
import type { DraftShape } from "./tree.js";

/** Milliseconds of steps. */
export interface StepCosts {
  /** Adding one token to each of so many sequences, one forward close after the other. */
  plain(rows: number): number;
  /** Reading so many rows for head 1's verdict, which is waited for, after proposals by heads 2 to k. */
  drafted(rows: number, k: number): number;
  /** What it costs beside to draft once among forwards that follow each other closely. */
  readonly interruption: number;
}

/** What was measured beforehand: `propose` of heads that have to read a whole draft. */
export interface MeasuredCosts {
  plain(rows: number): number;
  verify(rows: number): number;
  propose(k: number): number;
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
    this.interruption = measured.verify(1);
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

/** What is measured: `heads` says whether they propose, `at` from where one sequence is about to go on. */
export interface Measured {
  readonly slots: number;
  readonly shape: DraftShape;
  readonly heads: boolean;
  readonly at: { readonly sequence: number; readonly position: number };
}

/**
 * Measured once per model, draft's shape and session's size, on steps of a sequence: what they read behind its end is read again, and
 * the heads read what they would have to.
 */
export function stepCosts(session: DecodeSession, what: Measured): Promise<ObservedCosts> {
  const { slots, shape, heads } = what;
  const ofModel = measured.get(session.model) ?? new Map<string, Promise<ObservedCosts>>();
  measured.set(session.model, ofModel);
  const key = JSON.stringify([slots, session.capacity, heads, shape.paths]);
  const known = ofModel.get(key) ?? measure(session, what).then((costs) => new ObservedCosts(costs));
  ofModel.set(key, known);
  known.catch(() => ofModel.delete(key));
  return known;
}

const rounds = 5;
/** Forwards in a row, where they need not wait for each other. */
const inARow = 4;

async function measure(session: DecodeSession, { slots, shape, heads, at }: Measured): Promise<MeasuredCosts> {
  const steps = (count: number): { rows: Row[]; draws: Draw[] } => ({
    rows: Array.from({ length: count }, (_, i) => rowOf(shape, i, at)),
    draws: Array<Draw>(count).fill(greedy),
  });
  const widths = doubling(shape.size + 1);
  const rowCounts = [...new Set([...widths, ...widths.map((width) => width * slots)])];
  const plain = samplesOf(doubling(slots));
  const verify = samplesOf(rowCounts);
  const both = samplesOf(heads ? doubling(shape.depth + 1).slice(1) : []);
  const time = async (samples: Samples, size: number, forwards: number, run: () => Promise<unknown>): Promise<void> => {
    const began = performance.now();
    await run();
    samples.get(size)?.push((performance.now() - began) / forwards);
  };
  for (let round = 0; round < rounds; round++) {
    for (const rows of plain.keys()) {
      // Two bursts, one behind the other, as they are when decoding plainly.
      const burst = Array<ReturnType<typeof steps>>(inARow).fill(steps(rows));
      await time(plain, rows, 2 * inARow, () =>
        Promise.all([session.verifyInTurn(burst), session.verifyInTurn(burst)]),
      );
    }
    const verifyRows = (count: number): Promise<unknown> => {
      const { rows, draws } = steps(count);
      return session.verify(rows, draws);
    };
    for (const rows of rowCounts) await time(verify, rows, 1, () => verifyRows(rows));
    for (const k of both.keys()) {
      const { sequence, position } = at;
      const propose = (to: number): unknown =>
        session.propose([{ sequence, to, draws: Array<Draw>(k - 1).fill(greedy) }], k);
      // As if the last draft had been right: the heads have as many positions to read as it was long.
      propose(Math.max(0, position - 1 - k));
      await verifyRows(1);
      await time(both, k, 1, () => {
        propose(position - 1);
        return verifyRows(k);
      });
    }
  }
  const ofVerify = byEverySize(medians(verify));
  const ofBoth = byEverySize(medians(both));
  const ofPlain = byEverySize(medians(plain));
  return {
    plain: ofPlain,
    verify: ofVerify,
    propose: (k) => (heads && k > 1 ? Math.max(0, ofBoth(k) - ofVerify(k)) : 0),
  };
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
