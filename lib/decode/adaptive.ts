// How long a draft should be: the length at which a step adds the most tokens per second, from what steps of each width
// cost on this device and from how often drafts have been right of late.
import { performance } from "node:perf_hooks";
import type { LanguageModel } from "../mtp/model.js";
import { type Draw, greedy, type Row } from "./inputs.js";
import type { DecodeSession } from "./session.js";
import type { DraftShape } from "./tree.js";

/** Milliseconds of a step's parts. */
export interface StepCosts {
  /** Adding one token to each of so many sequences, one forward close after the other. */
  plain(rows: number): number;
  /** Reading so many rows for head 1's verdict, which is waited for. */
  verify(rows: number): number;
  /** Proposing with heads 2 to k. */
  propose(k: number): number;
}

/** What was seen of a node weighs half as much after so many later observations of it, */
const halfLife = 24;
/** and, down to this weight, after so many steps without one: what has long not been seen may have changed. */
const oldHalfLife = 48;
const oldWeight = 4;
/** What is thought of a node before it was seen: this share right, a quarter of it for every rank, as if seen so often. */
const prior = { share: 0.7, perRank: 0.25, weight: 2 };
/** Share of the time that may be lost by trying longer drafts than pay. */
const tryingShare = 0.01;

/** A change that gains less than this is none: steps of other sizes have to be recorded first. */
const leastGain = 1.02;

/** A choice for one sequence, in milliseconds. */
interface Choice {
  /** What one step takes that pays best, and one token at that rate. */
  readonly step: number;
  readonly token: number;
  /** What one node more would take. */
  readonly more: number;
}

/** How often each node of one sequence's drafts has been right, given that the nodes before it were. */
export class Acceptance {
  private readonly right: number[];
  private readonly seen: number[];
  private readonly unseenFor: number[];
  private settled = 0;
  private choice: Choice = { step: 0, token: 0, more: 0 };
  /** Milliseconds that were decoded, and that trying has cost of them, beyond what it gained. */
  private time = 0;
  private lost = 0;

  constructor(private readonly shape: DraftShape) {
    this.right = shape.nodes.map(({ rank }) => prior.share * prior.perRank ** rank * prior.weight);
    this.seen = shape.nodes.map(() => prior.weight);
    this.unseenFor = shape.nodes.map(() => 0);
  }

  /** Of the first `proposed` nodes those of `path` were right, one after the other. */
  observe(proposed: number, path: readonly number[]): void {
    this.passed(1);
    for (const [i, { parent, depth }] of this.shape.nodes.slice(0, proposed).entries()) {
      if (parent === (path[depth - 2] ?? -1)) this.see(i, path[depth - 1] === i);
    }
    if (proposed <= this.settled) return;
    const gained = path.filter((node) => node >= this.settled).length;
    this.lost = Math.max(0, this.lost + this.choice.more - gained * this.choice.token);
  }

  private see(node: number, right: boolean): void {
    const seen = this.seen[node] ?? 0;
    const aged = 0.5 ** ((this.unseenFor[node] ?? 0) / oldHalfLife);
    const keep = 0.5 ** (1 / halfLife) * Math.max(aged, Math.min(1, oldWeight / seen));
    this.right[node] = (this.right[node] ?? 0) * keep + (right ? 1 : 0);
    this.seen[node] = seen * keep + 1;
    this.unseenFor[node] = 0;
  }

  /** Probability that a node and all before it are right. */
  likely(node: number): number {
    let probability = 1;
    for (let i = node; i >= 0; i = this.shape.nodes[i]?.parent ?? -1) {
      probability *= (this.right[i] ?? 0) / (this.seen[i] ?? 1);
    }
    return probability;
  }

  /** Nodes that paid best at the last choice. */
  get paid(): number {
    return this.settled;
  }

  /** Nodes to propose where `pays` pay best: one more, to see whether it has come to pay, as long as trying costs little. */
  explore(pays: number, choice: Choice): number {
    [this.settled, this.choice] = [pays, choice];
    return this.lost < tryingShare * this.time ? pays + 1 : pays;
  }

  /** So many steps were taken, or are on their way. */
  passed(steps: number): void {
    this.time += steps * this.choice.step;
    for (const node of this.unseenFor.keys()) this.unseenFor[node] = (this.unseenFor[node] ?? 0) + steps;
  }
}

export interface Drafting {
  readonly acceptance: Acceptance;
  /** Nodes that are possible now. */
  readonly limit: number;
}

/**
 * How many nodes each of the sequences that take a step together proposes: rows are given one by one to whoever is
 * likeliest to gain a token by it, as long as that makes the whole step's tokens per second grow.
 */
export function chooseLengths(sequences: readonly Drafting[], shape: DraftShape, costs: StepCosts): number[] {
  const time = (lengths: readonly number[]): number => {
    const rows = lengths.reduce((sum, length) => sum + 1 + length, 0);
    if (rows === lengths.length) return costs.plain(rows);
    return costs.verify(rows) + costs.propose(1 + shape.depthOf(Math.max(...lengths)));
  };
  const lengths = sequences.map(() => 0);
  let best = { lengths: [...lengths], tokens: sequences.length, step: time(lengths) };
  for (let tokens = sequences.length; ;) {
    let next = -1;
    let gain = 0;
    sequences.forEach(({ acceptance, limit }, i) => {
      const length = lengths[i] ?? 0;
      const likely = length < limit ? acceptance.likely(length) : 0;
      if (likely > gain) [next, gain] = [i, likely];
    });
    if (next < 0) break;
    lengths[next] = (lengths[next] ?? 0) + 1;
    tokens += gain;
    const step = time(lengths);
    if (tokens / step > best.tokens / best.step) best = { lengths: [...lengths], tokens, step };
  }
  const before = sequences.map(({ acceptance, limit }) => Math.min(limit, acceptance.paid));
  const asBefore = { lengths: before, tokens: expectedTokens(sequences, before), step: time(before) };
  if (best.tokens / best.step < (leastGain * asBefore.tokens) / asBefore.step) best = asBefore;
  const { step, tokens } = best;
  // Forwards that need not be waited for stop, and start again.
  const interruption = best.lengths.every((length) => length === 0) ? costs.verify(1) - costs.plain(1) : 0;
  return sequences.map(({ acceptance, limit }, i) => {
    const pays = best.lengths[i] ?? 0;
    if (pays >= limit) return pays;
    const longer = best.lengths.map((length, j) => (j === i ? length + 1 : length));
    const more = time(longer) - step + Math.max(0, interruption);
    return acceptance.explore(pays, { step, token: step / tokens, more });
  });
}

/** Tokens that a step adds where each sequence proposes so many nodes. */
function expectedTokens(sequences: readonly Drafting[], lengths: readonly number[]): number {
  let tokens = sequences.length;
  sequences.forEach(({ acceptance }, i) => {
    for (let node = 0; node < (lengths[i] ?? 0); node++) tokens += acceptance.likely(node);
  });
  return tokens;
}

const measured = new WeakMap<LanguageModel, Map<string, Promise<StepCosts>>>();

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
export function stepCosts(session: DecodeSession, what: Measured): Promise<StepCosts> {
  const { slots, shape, heads } = what;
  const ofModel = measured.get(session.model) ?? new Map<string, Promise<StepCosts>>();
  measured.set(session.model, ofModel);
  const key = JSON.stringify([slots, session.capacity, heads, shape.paths]);
  const known = ofModel.get(key) ?? measure(session, what);
  ofModel.set(key, known);
  known.catch(() => ofModel.delete(key));
  return known;
}

const rounds = 5;
/** Forwards in a row, where they need not wait for each other. */
const inARow = 4;

async function measure(session: DecodeSession, { slots, shape, heads, at }: Measured): Promise<StepCosts> {
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
      await time(both, k, 1, () => {
        const { sequence, position } = at;
        void session.propose([{ sequence, to: position - 1, draws: steps(k - 1).draws }], k);
        return verifyRows(k);
      });
    }
  }
  const ofPlain = medians(plain);
  const ofVerify = medians(verify);
  const ofBoth = medians(both);
  return {
    plain: (rows) => interpolate(ofPlain, rows),
    verify: (rows) => interpolate(ofVerify, rows),
    propose: (k) => (heads && k > 1 ? Math.max(0, interpolate(ofBoth, k) - interpolate(ofVerify, k)) : 0),
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

function interpolate(points: readonly (readonly [number, number])[], x: number): number {
  const right = points.findIndex(([size]) => size >= x);
  const [size1 = x, time1 = 0] = points.at(right < 0 ? -1 : right) ?? [];
  const [size0 = size1, time0 = time1] = points[right - 1] ?? [];
  return right <= 0 || size1 === x ? time1 : time0 + ((time1 - time0) * (x - size0)) / (size1 - size0);
}
