// What steps cost on this device: measured beforehand, as they follow each other when decoding.
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
  /**
   * Reading so many rows for head 1's verdict after proposals by heads 2 to k. tokens: that such a step adds to a text, and
   * the heads of the next have to read.
   */
  drafted(rows: number, k: number, tokens: number): number;
  /** Letting heads read so many positions that they have not read, all heads together. */
  reading(positions: number): number;
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
  /** From where one sequence is about to go on, with so many tokens still to come at most. */
  readonly at: { readonly sequence: number; readonly position: number; readonly token: number; readonly room: number };
}

const known = new WeakMap<LanguageModel, Map<string, Calibration>>();

/** What has been measured for such sessions already; undefined where it should be now. */
export function knownCosts(session: DecodeSession, what: Omit<Measured, "at">): StepCosts | undefined {
  const calibration = calibrationOf(session.model, what);
  return calibration.isDue ? undefined : calibration;
}

/** Measures what is not known; what steps read behind the sequence's end is read again. */
export async function stepCosts(session: DecodeSession, what: Measured): Promise<StepCosts> {
  const calibration = calibrationOf(session.model, what);
  if (calibration.isDue) await calibration.measure(session, what);
  return calibration;
}

function calibrationOf(model: LanguageModel, what: Omit<Measured, "at">): Calibration {
  const ofModel = known.get(model) ?? new Map<string, Calibration>();
  known.set(model, ofModel);
  const { slots, shape, heads, waits } = what;
  const key = JSON.stringify([slots, heads, waits, shape.paths]);
  const calibration = ofModel.get(key) ?? new Calibration(what);
  ofModel.set(key, calibration);
  return calibration;
}

/** Rounds at most, and the milliseconds after which no more begins. */
const [mostRounds, enough] = [30, 300];
/** A round more is measured after so many times as long as that took, and each time after half as long again. */
const [firstWait, longerWait] = [50, 1.5];
/** Steps of about so many milliseconds follow each other where they need not be waited for, as when decoding. */
const burstMs = 2;

/**
 * Of one model, draft's shape and number of slots. Measured in its first session and a little more in later ones. For seconds
 * together a machine is slower than at other times: of every round it is the shares of its time that count.
 */
class Calibration implements StepCosts {
  /** By the number of texts. */
  private readonly forwards: Samples;
  /** By rows. */
  private readonly verdicts: Samples;
  /** Of drafting and the verdict, by k: where heads have one position to read, and where they have k. */
  private readonly rejected: Samples;
  private readonly accepted: Samples;
  /** Of one position. */
  private readonly readings = new Samples([1]);
  /** Milliseconds of each round, and of a quick one. */
  private readonly rounds: number[] = [];
  private round = NaN;
  private wait = 0;
  private nextAt = 0;
  private stop: number | undefined;

  constructor(private readonly what: Omit<Measured, "at">) {
    const { slots, shape, heads } = what;
    const widths = doubling(shape.size + 1);
    const sizes = heads ? draftSizes(shape.depth + 1) : [];
    this.forwards = new Samples(doubling(slots));
    this.verdicts = new Samples(this.alone ? [] : [...new Set([...widths, ...widths.map((width) => width * slots)])]);
    [this.rejected, this.accepted] = [new Samples(sizes), new Samples(sizes)];
  }

  /** One text whose steps follow each other reads what it drafts, and no other number of rows. */
  private get alone(): boolean {
    return this.what.slots === 1 && !this.what.waits;
  }

  plain(rows: number): number {
    return this.round * this.forwards.at(rows);
  }

  drafted(rows: number, k: number, tokens: number): number {
    const { round, verdicts, rejected, accepted } = this;
    if (!this.what.heads || k === 1) return round * verdicts.at(rows);
    const [least, most] = [rejected.at(k), accepted.at(k)];
    const whole = least + ((Math.min(Math.max(tokens, 1), k) - 1) / (k - 1)) * (most - least);
    return round * (this.alone ? whole : verdicts.at(rows) + Math.max(0, whole - verdicts.at(k)));
  }

  reading(positions: number): number {
    return this.what.heads ? Math.max(0, this.round * this.readings.at(1)) * positions : 0;
  }

  get interruption(): number {
    return this.what.waits ? this.plain(1) : this.stopMs;
  }

  get lengthening(): number {
    return this.what.waits ? 0 : this.stopMs;
  }

  /**
   * The device stands still until the steps under way have landed, since what the heads have to read beforehand depends on
   * them: a guess, until it was seen.
   */
  private get stopMs(): number {
    return this.stop ?? 2 * this.plain(1);
  }

  tried(ms: number): void {
    const forward = this.plain(1);
    const seen = Math.min(Math.max(forward, ms), 16 * forward); // whatever else the machine did
    this.stop = this.stopMs + (seen - this.stopMs) / 4;
  }

  get isDue(): boolean {
    return performance.now() >= this.nextAt;
  }

  async measure(session: DecodeSession, what: Measured): Promise<void> {
    const began = performance.now();
    const isFirst = this.wait === 0;
    const times = this.timesOf(session, what);
    await times(); // the steps are recorded
    const recorded = performance.now();
    for (let i = 0; i < (isFirst ? mostRounds : 1); i++) {
      if (i > 0 && performance.now() - recorded > enough) break;
      const timed = await times();
      const round = timed.reduce((sum, [, , ms]) => sum + ms, 0);
      if (what.heads) timed.push([this.readings, 1, await timeReading(session, what, timed[0]?.[2] ?? NaN)]);
      for (const [samples, size, ms] of timed) samples.add(size, ms / round);
      this.rounds.push(round);
    }
    this.round = quantile(this.rounds, 1 / 4); // whatever else the machine did made it slower
    session.interrupt();
    const now = performance.now();
    this.wait = isFirst ? firstWait * (now - began) : longerWait * this.wait;
    this.nextAt = now + this.wait;
  }

  /** Takes steps of every kind, several of each where they follow each other. */
  private timesOf(session: DecodeSession, what: Measured): () => Promise<Timed[]> {
    const { forwards, verdicts, rejected, accepted } = this;
    const reading = (to: Samples, rows: number): Kind => {
      return { to, size: rows, take: (count) => read(session, what, rows, count) };
    };
    const going = (to: Samples, k: number, kept: number): Kind => {
      return { to, size: k, take: (count) => rehearse(session, what, { k, kept }, count) };
    };
    const drafting = (to: Samples, k: number, kept: number): Kind => {
      return { to, size: k, before: () => readTo(session, what, k, kept), take: () => draft(session, what, k) };
    };
    const drafts = (each: typeof going): Kind[] =>
      rejected.sizes.flatMap((k) => [each(rejected, k, 0), each(accepted, k, k - 1)]);
    const following = [going(forwards, 1, 0), ...forwards.sizes.slice(1).map((rows) => reading(forwards, rows))];
    const verdict = verdicts.sizes.map((rows) => reading(verdicts, rows));
    if (!what.waits) following.push(...verdict, ...drafts(going));
    const waited = what.waits ? [...verdict, ...drafts(drafting)] : [];
    return async () => {
      const timed = await timeFollowing(following);
      for (const kind of waited) timed.push(await timeWaited(kind));
      return timed;
    };
  }
}

/** Steps of a kind. */
interface Kind {
  readonly to: Samples;
  readonly size: number;
  /** Takes so many. */
  readonly take: (count: number) => Promise<unknown>;
  /** What is not timed. */
  readonly before?: () => Promise<unknown>;
  /** Milliseconds of one, at its quickest so far. */
  ms?: number;
}

/** Milliseconds of a step. */
type Timed = readonly [to: Samples, size: number, ms: number];

/**
 * Where nobody waits for steps, the next are under way when some of a kind end, as when decoding: then what the host does,
 * slowly while a program is young, is not seen. Some of the first kind go ahead.
 */
async function timeFollowing(kinds: readonly Kind[]): Promise<Timed[]> {
  const timed: Timed[] = [];
  const counts = kinds.map(({ ms = burstMs }) => Math.max(1, Math.min(inTurn, Math.floor(burstMs / ms))));
  const start = (i: number): Promise<number> | undefined => {
    const ended = kinds[i]?.take(counts[i] ?? 1).then(() => performance.now());
    ended?.catch(() => undefined); // it is thrown where it is awaited
    return ended;
  };
  let [under, next] = [start(0), start(0)];
  let from = await under;
  for (const [i, kind] of kinds.entries()) {
    [under, next] = [next, start(i + 1)];
    const ended = await under;
    const ms = ((ended ?? NaN) - (from ?? NaN)) / (counts[i] ?? 1);
    kind.ms = Math.min(ms, kind.ms ?? Infinity);
    timed.push([kind.to, kind.size, ms]);
    from = ended;
  }
  return timed;
}

async function timeWaited({ to, size, before, take }: Kind): Promise<Timed> {
  await before?.();
  const began = performance.now();
  await take(1);
  return [to, size, performance.now() - began];
}

function read(session: DecodeSession, { shape, at }: Measured, count: number, times: number): Promise<unknown> {
  const rows = Array.from({ length: count }, (_, i) => rowOf(shape, i, at));
  const draws = Array<Draw>(count).fill(greedy);
  return Promise.all(Array.from({ length: times }, () => session.verify(rows, draws)));
}

/**
 * Steps that nobody waits for, of one text: in the middle of what is to come, since attention takes the longer the more stands
 * before.
 */
function rehearse(
  session: DecodeSession,
  { at }: Measured,
  { k, kept }: { readonly k: number; readonly kept: number },
  count: number,
): Promise<unknown> {
  const { sequence, room } = at;
  const position = at.position + (room >> 1); // what reaches beyond the slot's capacity has no effect
  const layout = new SteadyLayout([{ slot: sequence, rows: k, draw: greedy }]);
  return session.rehearse(layout, { position, kept: Math.min(kept, position - 1) }, count);
}

/** Enough positions that the time of reading them is not just that of beginning. */
const manyPositions = 64;

/** Of one position, read with many by all heads. Beforehand the heads have read what there is. */
async function timeReading(session: DecodeSession, what: Measured, forward: number): Promise<number> {
  const { sequence, position } = what.at;
  const k = what.shape.depth + 1;
  const from = Math.max(0, position - manyPositions);
  session.readWithHeads(sequence, position, k);
  await read(session, what, 1, 1);
  const began = performance.now();
  session.readAgain(sequence, from, position, k);
  await read(session, what, 1, 1);
  return (performance.now() - began - forward) / (Math.max(manyPositions, position - from) * (k - 1));
}

/** Heads 2 to k have read all but the last positions: those of the last draft that was right so far. */
function readTo(session: DecodeSession, what: Measured, k: number, kept: number): Promise<unknown> {
  propose(session, what, k, Math.max(0, what.at.position - 2 - kept));
  return read(session, what, 1, 1);
}

function draft(session: DecodeSession, what: Measured, k: number): Promise<unknown> {
  propose(session, what, k, what.at.position - 1);
  return read(session, what, k, 1);
}

function propose(session: DecodeSession, { at: { sequence } }: Measured, k: number, to: number): void {
  void session.propose([{ sequence, to, draws: Array<Draw>(k - 1).fill(greedy) }], k);
}

/** The last known token's row, those of a draft, and on as if texts stood one behind the other. */
function rowOf(shape: DraftShape, i: number, { sequence, position }: Measured["at"]): Row {
  const texts = Math.floor(i / (shape.size + 1));
  const start = position + texts * (1 + Math.max(shape.depth, shape.placesBehind));
  const node = shape.nodes[(i % (shape.size + 1)) - 1];
  const branch = node?.branch?.map((offset) => start + offset);
  return { token: 0, sequence, position: start + (node?.depth ?? 0), branch };
}

/** What steps take as shares of rounds, by size. */
class Samples {
  private readonly samples = new Map<number, number[]>();
  /** What is asked for, since every step asks for much. */
  private table: number[] = [];

  /** sizes: rising. */
  constructor(readonly sizes: readonly number[]) {}

  add(size: number, share: number): void {
    this.samples.set(size, [...(this.samples.get(size) ?? []), share]);
    this.table = [];
  }

  /** Between the sizes as on a line, beyond the last as at it. */
  at(size: number): number {
    if (this.table.length === 0) this.table = this.byEverySize();
    return this.table[Math.min(size, this.table.length - 1)] ?? NaN;
  }

  private byEverySize(): number[] {
    const table: number[] = [];
    let [sizeBefore, before] = [0, NaN];
    for (const size of this.sizes) {
      const share = quantile(this.samples.get(size) ?? [], 1 / 2);
      for (let at = table.length; at <= size; at++) {
        table.push(sizeBefore === 0 ? share : before + ((share - before) * (at - sizeBefore)) / (size - sizeBefore));
      }
      [sizeBefore, before] = [size, share];
    }
    return table;
  }
}

function quantile(values: readonly number[], share: number): number {
  return [...values].sort((a, b) => a - b)[Math.floor(share * values.length)] ?? NaN;
}

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
