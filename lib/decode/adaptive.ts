// How long a draft should be: the length at which a step adds the most tokens per second, from what steps of each width
// cost on this device and from how often drafts have been right of late.
import type { LanguageModel } from "../mtp/model.js";
import type { StepCosts } from "./costs.js";
import type { DraftShape } from "./tree.js";

/** What was seen of a node weighs half as much after so many later observations of it, */
const halfLife = 24;
/** and after so many steps without one: a text changes, and is again thought to be as others are. */
const oldHalfLife = 48;
/** Over all texts, after so many: they differ more from each other than places of one do. */
const longHalfLife = 400;
/** In a text, what others have shown counts as if seen so often in this one: most texts are like others, and changes cost. */
const othersWeight = 8;
/**
 * Over all texts, what is thought of a node before it was seen, as if seen so often: as right as the likeliest one of the
 * depth before it, and a quarter of that for every rank. share: of the first depth.
 */
const prior = { share: 0.7, perRank: 0.25, weight: 4 };
/** Share of the time that may be lost by trying longer drafts than pay. */
const tryingShare = 0.01;

/** A change that gains less than this is none: steps of other sizes have to be recorded first. */
const leastGain = 1.03;
/** Steps within which a change has to pay for what it takes to begin with, there or on the way back: then texts have changed. */
const horizon = 32;

/** The next size of a draft that is worth steps of its own: with the token before it 2, 3, 4, 6, 8, 12, 16, … are read. */
export function sizeAbove(size: number, limit: number): number {
  const rows = size + 2;
  const power = 2 ** Math.floor(Math.log2(rows));
  const above = rows === power ? power : rows <= 1.5 * power ? 1.5 * power : 2 * power;
  return Math.min(Math.ceil(above) - 1, limit);
}

/** What is left of what was seen when more is seen. */
const [keep, longKeep] = [0.5 ** (1 / halfLife), 0.5 ** (1 / longHalfLife)];

/** A choice for one sequence, in milliseconds. */
interface Choice {
  /** What one step takes that pays best, and one token at that rate. */
  readonly step: number;
  readonly token: number;
  /** What a longer draft would cost more, and what goes beside. */
  readonly trying: number;
}

/** How often the nodes have been right in a model's texts: where the next text starts from. */
export class Experience {
  private readonly right: number[];
  private readonly seen: number[];
  /** Of every node, the likeliest one of the depth before its own; −1 at the first. */
  private readonly before: readonly number[];
  private known: readonly number[] | undefined;
  /** Milliseconds that may be lost by trying longer drafts. */
  private budget = 0;

  constructor(private readonly shape: DraftShape) {
    const { nodes } = shape;
    this.right = nodes.map(() => 0);
    this.seen = nodes.map(() => 0);
    this.before = nodes.map(({ depth }) => nodes.findIndex((node) => node.depth === depth - 1));
  }

  see(node: number, right: boolean): void {
    this.known = undefined;
    this.right[node] = longKeep * (this.right[node] ?? 0) + (right ? 1 : 0);
    this.seen[node] = longKeep * (this.seen[node] ?? 0) + 1;
  }

  share(node: number): number {
    return this.shares()[node] ?? NaN;
  }

  /** Of every node. */
  shares(): readonly number[] {
    if (this.known) return this.known;
    const shares: number[] = [];
    for (const [node, { rank }] of this.shape.nodes.entries()) {
      const usual = (shares[this.before[node] ?? -1] ?? prior.share) * prior.perRank ** rank;
      const right = (this.right[node] ?? 0) + prior.weight * usual;
      shares.push(right / ((this.seen[node] ?? 0) + prior.weight));
    }
    return (this.known = shares);
  }

  /** Whether a try that costs so much can be afforded. */
  affords(ms: number): boolean {
    return this.budget >= ms;
  }

  /** What tries have cost or, below 0, gained. */
  spend(ms: number): void {
    this.budget -= ms;
  }

  /** So much was decoded: a share of it is for tries, but never saved for more than two that cost so much. */
  earn(ms: number, cost: number): void {
    this.budget = Math.max(this.budget, Math.min(this.budget + tryingShare * ms, 2 * cost));
  }
}

const experiences = new WeakMap<LanguageModel, Map<string, Experience>>();

/** What the model's texts have shown so far of drafts of that shape. */
export function experienceOf(model: LanguageModel, shape: DraftShape): Experience {
  const ofModel = experiences.get(model) ?? new Map<string, Experience>();
  experiences.set(model, ofModel);
  const key = JSON.stringify(shape.paths);
  const experience = ofModel.get(key) ?? new Experience(shape);
  ofModel.set(key, experience);
  return experience;
}

/** How often each node of one sequence's drafts has been right, given that the nodes before it were. */
export class Acceptance {
  private readonly right: number[];
  private readonly seen: number[];
  private readonly unseenFor: number[];
  private settled: number | undefined;
  private choice: Choice = { step: 0, token: 0, trying: 0 };

  constructor(
    private readonly shape: DraftShape,
    private readonly others = new Experience(shape),
  ) {
    this.right = shape.nodes.map(() => 0);
    this.seen = shape.nodes.map(() => 0);
    this.unseenFor = shape.nodes.map(() => 0);
  }

  /** Of the first `proposed` nodes those of `path` were right, one after the other. */
  observe(proposed: number, path: readonly number[]): void {
    this.passed(1);
    const { nodes } = this.shape;
    for (let i = 0; i < proposed; i++) {
      const { parent = -1, depth = 1 } = nodes[i] ?? {};
      if (parent === (path[depth - 2] ?? -1)) this.see(i, path[depth - 1] === i);
    }
    const { paid = 0 } = this;
    if (proposed <= paid) return;
    const gained = path.filter((node) => node >= paid).length;
    this.others.spend(-gained * this.choice.token);
  }

  private see(node: number, right: boolean): void {
    this.others.see(node, right);
    const left = keep * this.left(node);
    this.right[node] = left * (this.right[node] ?? 0) + (right ? 1 : 0);
    this.seen[node] = left * (this.seen[node] ?? 0) + 1;
    this.unseenFor[node] = 0;
  }

  /** How much of what was seen still counts. */
  private left(node: number): number {
    const steps = this.unseenFor[node] ?? 0;
    return steps === 0 ? 1 : 0.5 ** (steps / oldHalfLife);
  }

  /** Of every node, the probability that it and all before it are right: by what is left of what was seen, and by others. */
  likely(): readonly number[] {
    const others = this.others.shares();
    const likely: number[] = [];
    for (const [node, { parent }] of this.shape.nodes.entries()) {
      const left = this.left(node);
      const right = left * (this.right[node] ?? 0) + othersWeight * (others[node] ?? 0);
      likely.push(((likely[parent] ?? 1) * right) / (left * (this.seen[node] ?? 0) + othersWeight));
    }
    return likely;
  }

  /** Nodes that paid best at the last choice, if there was one. */
  get paid(): number | undefined {
    return this.settled;
  }

  /** Nodes to propose where `pays` pay best: more, to see whether they have come to pay, as long as trying costs little. */
  explore(pays: number, more: number, choice: Choice): number {
    [this.settled, this.choice] = [pays, choice];
    return this.others.affords(choice.trying) ? more : pays;
  }

  /** A step is on its way in which it drafts so many nodes. */
  drafts(nodes: number): void {
    if (nodes > (this.settled ?? 0)) this.others.spend(this.choice.trying);
  }

  /** So many steps were taken, or are on their way. */
  passed(steps: number): void {
    this.others.earn(steps * this.choice.step, this.choice.trying);
    const { unseenFor } = this;
    for (let node = 0; node < unseenFor.length; node++) unseenFor[node] = (unseenFor[node] ?? 0) + steps;
  }
}

export interface Drafting {
  readonly acceptance: Acceptance;
  /** Nodes that are possible now. */
  readonly limit: number;
  /** Tokens that are still to come at most. */
  readonly room: number;
  /** Positions that heads 2 to k have to read before they can propose, all heads together. */
  readonly unread: (k: number) => number;
}

/**
 * How many nodes each of the sequences that take a step together proposes: rows are given one by one to whoever is
 * likeliest to gain a token by it, as long as that makes the whole step's tokens per second grow.
 */
export function chooseLengths(sequences: readonly Drafting[], shape: DraftShape, costs: StepCosts): number[] {
  const lengths = sequences.map(() => 0);
  let rows = sequences.length;
  let tokens = rows;
  let longest = 0;
  let best: Step = { lengths: [...lengths], tokens, ms: costs.plain(rows), once: 0 };
  const likely = sequences.map(({ acceptance }) => acceptance.likely());
  const longer = (i: number, than: number): Longer => gainOf(likely[i] ?? [], than, sequences[i]?.limit ?? 0);
  const next = sequences.map((_, i) => longer(i, 0));
  for (;;) {
    let chosen = 0;
    for (let i = 1; i < next.length; i++) if ((next[i]?.perRow ?? 0) > (next[chosen]?.perRow ?? 0)) chosen = i;
    const { length, gain } = next[chosen] ?? nothing;
    if (gain === 0) break;
    rows += length - (lengths[chosen] ?? 0);
    lengths[chosen] = length;
    next[chosen] = longer(chosen, length);
    longest = Math.max(longest, length);
    tokens += gain;
    const k = 1 + shape.depthOf(longest);
    const once = costs.reading(unreadBy(sequences, lengths, k));
    const step = { lengths: [...lengths], tokens, ms: costs.drafted(rows, k, tokens / sequences.length), once };
    if (msPerToken(step, sequences) < msPerToken(best, sequences)) best = step;
  }
  if (sequences.every(({ acceptance }) => acceptance.paid !== undefined)) {
    const before = expected(sequences, likely, shape, costs);
    if (!pays(best, before, sequences, costs)) best = before;
  }
  return explore(sequences, best, shape, costs);
}

/** The next longer draft: what it is expected to gain. */
interface Longer {
  readonly length: number;
  readonly gain: number;
  readonly perRow: number;
}

const nothing: Longer = { length: 0, gain: 0, perRow: 0 };

/** likely: of the sequence's nodes. */
function gainOf(likely: readonly number[], than: number, limit: number): Longer {
  const length = sizeAbove(than, limit);
  if (length <= than) return nothing;
  let gain = 0;
  for (let node = than; node < length; node++) gain += likely[node] ?? 0;
  return { length, gain, perRow: gain / (length - than) };
}

/** Nodes of each sequence, and what a step with them adds and takes. */
interface Step {
  readonly lengths: readonly number[];
  readonly tokens: number;
  readonly ms: number;
  /** What it takes to begin with such steps, in ms. */
  readonly once: number;
}

function unreadBy(sequences: readonly Drafting[], lengths: readonly number[], k: number): number {
  return sequences.reduce((sum, { unread }, i) => sum + ((lengths[i] ?? 0) > 0 ? unread(k) : 0), 0);
}

/** Such steps until the texts may have changed, or end. */
function stepsToCome({ tokens }: Step, sequences: readonly Drafting[]): number {
  const room = Math.max(...sequences.map((sequence) => sequence.room));
  return Math.min(horizon, (room * sequences.length) / tokens);
}

const msPerToken = (step: Step, sequences: readonly Drafting[]): number =>
  (step.ms + step.once / stepsToCome(step, sequences)) / step.tokens;

/** Whether to go from one kind of step to another, for which everybody stops. */
function pays(step: Step, before: Step, sequences: readonly Drafting[], costs: StepCosts): boolean {
  const saved = (msPerToken(before, sequences) - msPerToken(step, sequences)) * step.tokens;
  return saved >= Math.max((leastGain - 1) * step.ms, stopFor(before, costs) / stepsToCome(step, sequences));
}

const longestOf = ({ lengths }: Step): number => Math.max(...lengths);

/** What it costs to draft more than that. */
const stopFor = (before: Step, costs: StepCosts): number =>
  longestOf(before) > 0 ? costs.lengthening : costs.interruption;

/** The choice that a step brings to every sequence. */
function explore(sequences: readonly Drafting[], step: Step, shape: DraftShape, costs: StepCosts): number[] {
  const { lengths, tokens, ms } = step;
  const longest = longestOf(step);
  const rows = lengths.reduce((sum, length) => sum + 1 + length, 0);
  return sequences.map(({ acceptance, limit }, i) => {
    const pays = lengths[i] ?? 0;
    const length = sizeAbove(pays, limit);
    const k = 1 + shape.depthOf(Math.max(longest, length));
    const longer = costs.drafted(rows + length - pays, k, tokens / sequences.length);
    const more = longer - ms + costs.reading(sequences[i]?.unread(k) ?? 0);
    return Math.min(
      limit,
      acceptance.explore(pays, length, { step: ms, token: ms / tokens, trying: more + stopFor(step, costs) }),
    );
  });
}

/** A step as long as the last choice was. */
function expected(
  sequences: readonly Drafting[],
  likely: readonly (readonly number[])[],
  shape: DraftShape,
  costs: StepCosts,
): Step {
  const lengths = sequences.map(({ acceptance, limit }) => Math.min(limit, acceptance.paid ?? 0));
  let [rows, tokens, longest] = [sequences.length, sequences.length, 0];
  for (const [i, length] of lengths.entries()) {
    for (const probability of likely[i]?.slice(0, length) ?? []) tokens += probability;
    rows += length;
    longest = Math.max(longest, length);
  }
  const k = 1 + shape.depthOf(longest);
  const ms = longest > 0 ? costs.drafted(rows, k, tokens / sequences.length) : costs.plain(rows);
  return { lengths, tokens, ms, once: costs.reading(unreadBy(sequences, lengths, k)) };
}
