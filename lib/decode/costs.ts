// What steps cost on this device: measured once, as they follow each other when decoding.
//
// (Tried: costs put right by what steps take later on. The machine's own ups and downs are larger than what was wrong, and a
// kind of step that was last seen in a bad time is then never tried again.)
import { performance } from "node:perf_hooks";
import type { LanguageModel } from "../mtp/model.js";
import { type Draw, greedy, type Row } from "./inputs.js";
import { sizeAbove } from "./adaptive.js";
import type { DecodeSession } from "./session.js";
import { inTurn, SteadyLayout } from "./steady.js";
import type { DraftShape } from "./tree.js";

/** Milliseconds of steps. */
export interface StepCosts {
  /** Adding one token to each of so many sequences, one forward close after the other. */
  plain(rows: number): number;
  /** Reading so many rows for head 1's verdict after proposals by heads 2 to k. */
  drafted(rows: number, k: number): number;
  /** What it costs beside to draft once where nobody has drafted, */
  readonly interruption: number;
  /** and to draft more once where somebody has. */
  readonly lengthening: number;
  /** A longer draft was tried: what it cost beside. */
  tried(ms: number): void;
}

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

const known = new WeakMap<LanguageModel, Map<string, StepCosts>>();

/** What has been measured for such sessions already. */
export function knownCosts(session: DecodeSession, what: Omit<Measured, "at">): StepCosts | undefined {
  return known.get(session.model)?.get(keyOf(what));
}

const keyOf = ({ slots, shape, heads, waits }: Omit<Measured, "at">): string =>
  JSON.stringify([slots, heads, waits, shape.paths]);

/**
 * Measured once per model, draft's shape and number of slots, on steps of a sequence: what they read behind its end is read
 * again, and the heads read what they would have to.
 */
export async function stepCosts(session: DecodeSession, what: Measured): Promise<StepCosts> {
  const costs = knownCosts(session, what) ?? (await measure(session, what));
  const ofModel = known.get(session.model) ?? new Map<string, StepCosts>();
  known.set(session.model, ofModel);
  ofModel.set(keyOf(what), costs);
  return costs;
}

/** Rounds: at least, at most, and the milliseconds after which they are enough. */
const [leastRounds, mostRounds, enough] = [3, 11, 250];
/** Steps of about so many milliseconds follow each other where they need not be waited for. */
const burstMs = 2;

async function measure(session: DecodeSession, what: Measured): Promise<StepCosts> {
  const { slots, shape, heads, waits } = what;
  const widths = doubling(shape.size + 1);
  const plain = new Samples(doubling(slots));
  const verify = new Samples([...new Set([...widths, ...widths.map((width) => width * slots)])]);
  const both = new Samples(heads ? draftSizes(shape.depth + 1) : []);
  let burst = 1;
  const round = async (): Promise<void> => {
    const unit = await time(burst, (count) => goOn(session, what, 1, count));
    plain.add(1, unit, unit);
    for (const rows of plain.sizes.slice(1))
      plain.add(rows, await time(burst, (n) => read(session, what, rows, n)), unit);
    for (const rows of verify.sizes) {
      verify.add(rows, await time(waits ? 1 : burst, (count) => read(session, what, rows, count)), unit);
    }
    for (const k of both.sizes) {
      const drafted = waits ? timeDraft(session, what, k) : time(burst, (count) => goOn(session, what, k, count));
      both.add(k, await drafted, unit);
    }
  };
  await round(); // the steps are recorded
  burst = Math.max(1, Math.min(inTurn, Math.floor(burstMs / plain.ms(1))));
  for (const samples of [plain, verify, both]) samples.clear();
  const began = performance.now();
  for (let i = 0; i < mostRounds && (i < leastRounds || performance.now() - began < enough); i++) await round();
  session.interrupt();
  const forward = plain.ms(1);
  const [ofPlain, ofVerify, ofBoth] = [plain, verify, both].map((samples) => samples.byEverySize(forward)) as [
    Line,
    Line,
    Line,
  ];
  // The device stands still until the steps under way have landed, since what the heads have to read beforehand depends on
  // them. A guess, until it was seen.
  let stop = 2 * forward;
  return {
    plain: ofPlain,
    drafted: (rows, k) => ofVerify(rows) + (heads && k > 1 ? Math.max(0, ofBoth(k) - ofVerify(k)) : 0),
    get interruption() {
      return waits ? forward : stop;
    },
    get lengthening() {
      return waits ? 0 : stop;
    },
    tried: (ms) => {
      stop += (Math.min(Math.max(0, ms), 8 * forward) - stop) / 4; // whatever else the machine did
    },
  };
}

/** Of each of `count` steps. */
async function time(count: number, take: (count: number) => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await take(count);
  return (performance.now() - began) / count;
}

const repeat = (count: number, run: () => Promise<unknown>): Promise<unknown> =>
  Promise.all(Array.from({ length: count }, run));

function read(session: DecodeSession, { shape, at }: Measured, count: number, times: number): Promise<unknown> {
  const rows = Array.from({ length: count }, (_, i) => rowOf(shape, i, at));
  const draws = Array<Draw>(count).fill(greedy);
  return repeat(times, () => session.verify(rows, draws));
}

/** Steps that nobody waits for, of one text: with its last token it reads so many rows. */
function goOn(session: DecodeSession, { at }: Measured, rows: number, count: number): Promise<unknown> {
  const { sequence, position, token } = at;
  const layout = new SteadyLayout([{ slot: sequence, rows, draw: greedy }]);
  session.settle(layout, [{ position, token }]);
  return session.goOn(layout, count);
}

/** As if the last draft had been right: the heads have as many positions to read as it was long. */
async function timeDraft(session: DecodeSession, what: Measured, k: number): Promise<number> {
  const { sequence, position } = what.at;
  const propose = (to: number): unknown =>
    session.propose([{ sequence, to, draws: Array<Draw>(k - 1).fill(greedy) }], k);
  propose(Math.max(0, position - 1 - k));
  await read(session, what, 1, 1);
  return time(1, () => {
    propose(position - 1);
    return read(session, what, k, 1);
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

/** By size. */
type Line = (size: number) => number;

/** ms of steps by size, and by how much longer than the round's plain forward: a round ends before the machine changes. */
class Samples {
  private readonly samples = new Map<number, { readonly ms: number; readonly times: number }[]>();

  /** sizes: rising. */
  constructor(readonly sizes: readonly number[]) {}

  add(size: number, ms: number, unit: number): void {
    const samples = this.samples.get(size) ?? [];
    samples.push({ ms, times: ms / unit });
    this.samples.set(size, samples);
  }

  clear(): void {
    this.samples.clear();
  }

  ms(size: number): number {
    return median((this.samples.get(size) ?? []).map(({ ms }) => ms));
  }

  /**
   * From what a plain forward takes. Between the sizes as on a line, beyond the last as at it; looked up, since every step
   * asks for many.
   */
  byEverySize(unit: number): Line {
    const table: number[] = [];
    let [sizeBefore, msBefore] = [0, NaN];
    for (const size of this.sizes) {
      const ms = unit * median((this.samples.get(size) ?? []).map(({ times }) => times));
      for (let at = table.length; at <= size; at++) {
        table.push(sizeBefore === 0 ? ms : msBefore + ((ms - msBefore) * (at - sizeBefore)) / (size - sizeBefore));
      }
      [sizeBefore, msBefore] = [size, ms];
    }
    return (size) => table[Math.min(size, table.length - 1)] ?? NaN;
  }
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN;

/** 1, 2, 4, … and n. */
function doubling(n: number): number[] {
  const sizes: number[] = [];
  for (let size = 1; size < n; size *= 2) sizes.push(size);
  return [...sizes, n];
}

/** The sizes of drafts that are chosen, each with the token before it, up to n. */
function draftSizes(n: number): number[] {
  const sizes: number[] = [];
  for (let size = 0; size < n - 1;) sizes.push(1 + (size = sizeAbove(size, n - 1)));
  return sizes;
}
