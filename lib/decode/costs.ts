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

/** Rounds: at least, at most, and the milliseconds after which they are enough. */
const [leastRounds, mostRounds, enough] = [3, 30, 300];
/** So many times as long as that took it is not measured again, and then twice as long each time. */
const firstWait = 50;
/** Steps of about so many milliseconds follow each other where they need not be waited for. */
const burstMs = 2;

/**
 * Of one model, draft's shape and number of slots. Measured in its first session and a little more in later ones: for seconds
 * together a machine lets short steps wait for memory longer than at other times.
 */
class Calibration implements StepCosts {
  /** By the number of texts. */
  private readonly forwards: Samples;
  /** By rows. */
  private readonly verdicts: Samples;
  /** By k: where heads have one position to read, and where they have k. With the verdict where steps are waited for. */
  private readonly rejected: Samples;
  private readonly accepted: Samples;
  /** Of one position. */
  private readonly readings = new Samples([1]);
  private wait = 0;
  private nextAt = 0;
  private stop: number | undefined;

  constructor(private readonly what: Omit<Measured, "at">) {
    const { slots, shape, heads } = what;
    const widths = doubling(shape.size + 1);
    const sizes = heads ? draftSizes(shape.depth + 1) : [];
    this.forwards = new Samples(doubling(slots));
    this.verdicts = new Samples(
      this.alone ? sizes : [...new Set([...widths, ...widths.map((width) => width * slots)])],
    );
    [this.rejected, this.accepted] = [new Samples(sizes), new Samples(sizes)];
  }

  /** One text whose steps follow each other reads what it drafts, and no other number of rows. */
  private get alone(): boolean {
    return this.what.slots === 1 && !this.what.waits;
  }

  plain(rows: number): number {
    return this.forwards.at(rows);
  }

  drafted(rows: number, k: number, tokens: number): number {
    if (!this.what.heads || k === 1) return this.verdicts.at(rows);
    const [least, most] = [this.rejected.at(k), this.accepted.at(k)];
    const reading = least + ((Math.min(Math.max(tokens, 1), k) - 1) / (k - 1)) * (most - least);
    return this.verdicts.at(rows) + Math.max(0, this.what.waits ? reading - this.verdicts.at(k) : reading);
  }

  reading(positions: number): number {
    return this.what.heads ? Math.max(0, this.readings.at(1)) * positions : 0;
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
    const [[, , first = NaN] = []] = await times(1); // the steps are recorded
    const forward = isFirst ? first : this.plain(1);
    const burst = Math.max(1, Math.min(inTurn, Math.floor(burstMs / forward)));
    const [least, most] = isFirst ? [leastRounds, mostRounds] : [leastRounds, leastRounds];
    const recorded = performance.now();
    for (let i = 0; i < most && (i < least || performance.now() - recorded < enough); i++) {
      for (const [samples, size, ms] of await times(burst)) samples.add(size, ms);
      if (what.heads) this.readings.add(1, await timeReading(session, what, this.plain(1)));
    }
    session.interrupt();
    const now = performance.now();
    this.wait = isFirst ? firstWait * (now - began) : 2 * this.wait;
    this.nextAt = now + this.wait;
  }

  /** Takes steps of every kind, `burst` of each where they follow each other. */
  private timesOf(session: DecodeSession, what: Measured): (burst: number) => Promise<Timed[]> {
    const { forwards, verdicts, rejected, accepted, alone } = this;
    const reading = (to: Samples, rows: number): Kind => {
      return { to, size: rows, take: (count) => read(session, what, rows, count) };
    };
    const verifying = (to: Samples, rows: number): Kind => {
      return { to, size: rows, take: (count) => rehearse(session, what, "verify", { k: rows, kept: 0 }, count) };
    };
    const proposing = (to: Samples, k: number, kept: number): Kind => {
      return { to, size: k, take: (count) => rehearse(session, what, "propose", { k, kept }, count) };
    };
    const drafting = (to: Samples, k: number, kept: number): Kind => {
      return { to, size: k, before: () => readTo(session, what, k, kept), take: () => draft(session, what, k) };
    };
    const drafts = (each: typeof proposing): Kind[] =>
      rejected.sizes.flatMap((k) => [each(rejected, k, 0), each(accepted, k, k - 1)]);
    const following = [verifying(forwards, 1), ...forwards.sizes.slice(1).map((rows) => reading(forwards, rows))];
    const verdict = verdicts.sizes.map((rows) => (alone ? verifying(verdicts, rows) : reading(verdicts, rows)));
    if (!what.waits) following.push(...verdict, ...drafts(proposing));
    const waited = what.waits ? [...verdict, ...drafts(drafting)] : [];
    return async (burst) => {
      const timed = await timeFollowing(following, burst);
      for (const kind of waited) timed.push(await timeWaited(kind));
      return timed;
    };
  }
}

/** Steps of a kind. */
interface Kind {
  readonly to: Samples;
  readonly size: number;
  /** Takes so many. Only enqueues. */
  readonly take: (count: number) => Promise<unknown>;
  /** What is not timed. */
  readonly before?: () => Promise<unknown>;
}

/** Milliseconds of a step. */
type Timed = readonly [to: Samples, size: number, ms: number];

/**
 * Where nobody waits for steps, the next are under way when `burst` of a kind end, as when decoding: then what the host does,
 * slowly while a program is young, is not seen. Some of the first kind go ahead.
 */
async function timeFollowing(kinds: readonly Kind[], burst: number): Promise<Timed[]> {
  const timed: Timed[] = [];
  const start = (kind: Kind | undefined): Promise<number> | undefined => {
    const ended = kind?.take(burst).then(() => performance.now());
    ended?.catch(() => undefined); // it is thrown where it is awaited
    return ended;
  };
  let [under, next] = [start(kinds[0]), start(kinds[0])];
  let from = await under;
  for (const [i, { to, size }] of kinds.entries()) {
    [under, next] = [next, start(kinds[i + 1])];
    const ended = await under;
    timed.push([to, size, ((ended ?? NaN) - (from ?? NaN)) / burst]);
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
 * One half of steps that nobody waits for, of one text: in the middle of what is to come, since attention takes the longer the
 * more stands before.
 */
function rehearse(
  session: DecodeSession,
  { at }: Measured,
  half: "propose" | "verify",
  { k, kept }: { readonly k: number; readonly kept: number },
  count: number,
): Promise<unknown> {
  const { sequence, room } = at;
  const position = Math.max(1, Math.min(at.position + (room >> 1), session.capacity - count * k));
  const layout = new SteadyLayout([{ slot: sequence, rows: k, draw: greedy }]);
  return session.rehearse(half, layout, { position, kept: Math.min(kept, position - 1) }, count);
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

/** Milliseconds of steps, by size. */
class Samples {
  private readonly samples = new Map<number, number[]>();
  /** What is asked for, since every step asks for much. */
  private table: number[] = [];

  /** sizes: rising. */
  constructor(readonly sizes: readonly number[]) {}

  add(size: number, ms: number): void {
    this.samples.set(size, [...(this.samples.get(size) ?? []), ms]);
    this.table = [];
  }

  /** Between the sizes as on a line, beyond the last as at it. */
  at(size: number): number {
    if (this.table.length === 0) this.table = this.byEverySize();
    return this.table[Math.min(size, this.table.length - 1)] ?? NaN;
  }

  private byEverySize(): number[] {
    const table: number[] = [];
    let [sizeBefore, msBefore] = [0, NaN];
    for (const size of this.sizes) {
      const ms = lowerQuartile(this.samples.get(size) ?? []);
      for (let at = table.length; at <= size; at++) {
        table.push(sizeBefore === 0 ? ms : msBefore + ((ms - msBefore) * (at - sizeBefore)) / (size - sizeBefore));
      }
      [sizeBefore, msBefore] = [size, ms];
    }
    return table;
  }
}

/** Whatever else the machine does makes steps slower, never faster. */
function lowerQuartile(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 2] ?? NaN;
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
