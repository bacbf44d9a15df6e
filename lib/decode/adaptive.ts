// How long a draft should be: the length at which a step adds the most tokens per second, from what steps of each width
// cost on this device and from how often drafts have been right of late.
import { performance } from "node:perf_hooks";
import type { LanguageModel } from "../mtp/model.js";
import { type Draw, greedy, idle, type Row } from "./inputs.js";
import type { DecodeSession } from "./session.js";

/** Milliseconds of a step's parts. */
export interface StepCosts {
  /** Adding one token to each of so many sequences, one forward close after the other. */
  plain(rows: number): number;
  /** Reading so many rows for head 1's verdict, which is waited for. */
  verify(rows: number): number;
  /** Proposing with heads 2 to k. */
  propose(k: number): number;
}

/** Observations of one place in the draft weigh half as much after so many later ones. */
const halfLife = 24;
/** What is thought of a place before it was seen: this share right, as if seen so often. */
const prior = { share: 0.7, weight: 2 };
/** A longer draft than pays is tried after so many steps, and less and less often while it still does not pay. */
const probeAfter = { first: 16, most: 128 };

/** How often each place of one sequence's drafts has been right, given that the places before it were. */
export class Acceptance {
  private readonly right: number[];
  private readonly seen: number[];
  private patience = probeAfter.first;
  private sinceProbe = 0;
  private settled = 0;

  constructor(longest: number) {
    this.right = Array<number>(longest).fill(prior.share * prior.weight);
    this.seen = Array<number>(longest).fill(prior.weight);
  }

  /** Of a draft of `proposed` tokens the first `accepted` were right. */
  observe(proposed: number, accepted: number): void {
    const keep = 0.5 ** (1 / halfLife);
    for (let i = 0; i < Math.min(proposed, accepted + 1); i++) {
      this.right[i] = (this.right[i] ?? 0) * keep + (i < accepted ? 1 : 0);
      this.seen[i] = (this.seen[i] ?? 0) * keep + 1;
    }
    if (proposed <= this.settled) return;
    // Something was tried: again at once where it came true, else after a longer while.
    if (accepted <= this.settled) this.patience = Math.min(2 * this.patience, probeAfter.most);
    this.sinceProbe = accepted > this.settled ? this.patience : 0;
  }

  /** Probability that the first `length` places are all right. */
  allRight(length: number): number {
    let probability = 1;
    for (let i = 0; i < length; i++) probability *= (this.right[i] ?? 0) / (this.seen[i] ?? 1);
    return probability;
  }

  /** The length to take where `pays` pays best: now and then one more, to see whether that has come to pay. */
  explore(pays: number): number {
    if (pays > this.settled) this.patience = probeAfter.first;
    this.settled = pays;
    return ++this.sinceProbe >= this.patience ? pays + 1 : pays;
  }

  /** So many steps were taken without being chosen one by one. */
  passed(steps: number): void {
    this.sinceProbe += steps;
  }
}

export interface Drafting {
  readonly acceptance: Acceptance;
  /** Longest draft possible now. */
  readonly limit: number;
}

/**
 * Draft lengths for sequences that take a step together: rows are given one by one to whoever is likeliest to gain a token
 * by it, as long as that makes the whole step's tokens per second grow.
 */
export function chooseLengths(sequences: readonly Drafting[], costs: StepCosts): number[] {
  const lengths = sequences.map(() => 0);
  let best = [...lengths];
  let tokens = sequences.length;
  let bestRate = tokens / costs.plain(tokens);
  for (let rows = sequences.length + 1; ; rows++) {
    let next = -1;
    let gain = 0;
    sequences.forEach(({ acceptance, limit }, i) => {
      const length = lengths[i] ?? 0;
      const likely = length < limit ? acceptance.allRight(length + 1) : 0;
      if (likely > gain) [next, gain] = [i, likely];
    });
    if (next < 0) break;
    lengths[next] = (lengths[next] ?? 0) + 1;
    tokens += gain;
    const rate = tokens / (costs.verify(rows) + costs.propose(1 + Math.max(...lengths)));
    if (rate > bestRate) [bestRate, best] = [rate, [...lengths]];
  }
  return sequences.map(({ acceptance, limit }, i) => Math.min(limit, acceptance.explore(best[i] ?? 0)));
}

const measured = new WeakMap<LanguageModel, Map<string, Promise<StepCosts>>>();

/** Measured once per model and shape of the session, on rows that have no effect. `heads`: whether they propose. */
export function stepCosts(session: DecodeSession, slots: number, longest: number, heads: boolean): Promise<StepCosts> {
  const ofModel = measured.get(session.model) ?? new Map<string, Promise<StepCosts>>();
  measured.set(session.model, ofModel);
  const key = [slots, session.capacity, longest, heads].join();
  const known = ofModel.get(key) ?? measure(session, slots, longest, heads);
  ofModel.set(key, known);
  known.catch(() => ofModel.delete(key));
  return known;
}

const rounds = 5;
/** Forwards in a row, where they need not wait for each other. */
const inARow = 4;

async function measure(session: DecodeSession, slots: number, longest: number, heads: boolean): Promise<StepCosts> {
  const widths = upTo(longest + 1);
  const rowCounts = [...new Set([...widths, ...widths.map((width) => width * slots)])];
  const plain = new Map(upTo(slots).map((rows) => [rows, Infinity]));
  const verify = new Map(rowCounts.map((rows) => [rows, Infinity]));
  const both = new Map(heads ? widths.slice(1).map((k) => [k, Infinity]) : []);
  const keepLeast = async (times: Map<number, number>, size: number, steps: number, run: () => Promise<unknown>) => {
    const began = performance.now();
    await run();
    times.set(size, Math.min(times.get(size) ?? Infinity, (performance.now() - began) / steps));
  };
  for (let round = 0; round <= rounds; round++) {
    for (const rows of plain.keys()) {
      await keepLeast(plain, rows, inARow, () =>
        session.verifyInTurn(Array<ReturnType<typeof idleStep>>(inARow).fill(idleStep(rows))),
      );
    }
    for (const rows of rowCounts) await keepLeast(verify, rows, 1, () => session.verify(...idleRows(rows)));
    for (const k of both.keys()) {
      await keepLeast(both, k, 1, () => {
        void session.propose([{ sequence: -1, to: 0, draws: Array<Draw>(k - 1).fill(greedy) }], k);
        return session.verify(...idleRows(k));
      });
    }
  }
  const ofPlain = sorted(plain);
  const ofVerify = sorted(verify);
  return {
    plain: (rows) => interpolate(ofPlain, rows),
    verify: (rows) => interpolate(ofVerify, rows),
    propose: (k) => Math.max(0, (both.get(k) ?? 0) - (both.has(k) ? interpolate(ofVerify, k) : 0)),
  };
}

const sorted = (times: ReadonlyMap<number, number>): (readonly [number, number])[] =>
  [...times].sort(([a], [b]) => a - b);

/** Rows without effect, and draws after them. */
const idleRows = (count: number): [Row[], Draw[]] => [Array<Row>(count).fill(idle), Array<Draw>(count).fill(greedy)];

const idleStep = (count: number): { rows: Row[]; draws: Draw[] } => {
  const [rows, draws] = idleRows(count);
  return { rows, draws };
};

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);

function interpolate(points: readonly (readonly [number, number])[], x: number): number {
  const right = points.findIndex(([size]) => size >= x);
  const [size1 = x, time1 = 0] = points.at(right < 0 ? -1 : right) ?? [];
  const [size0 = size1, time0 = time1] = points[right - 1] ?? [];
  return right <= 0 || size1 === x ? time1 : time0 + ((time1 - time0) * (x - size0)) / (size1 - size0);
}
