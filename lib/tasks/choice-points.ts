// Choices with consequences among choices without: what the heads' losses weigh, where everything can be computed.
import { checkOptions, ForetokenError } from "../errors.js";
import { entropy, type TwoTokenEntropies, twoTokenEntropies } from "./entropy.js";
import type { Random } from "./random.js";
import { type Bayes, checkSize, drawSequences, type Task, type TaskSequence } from "./task.js";

export interface ChoicePointsOptions {
  /** b: ways on at each choice. Default 4. */
  readonly branches?: number | undefined;
  /** L: tokens behind a choice that follow from it. Default 5. */
  readonly tailLength?: number | undefined;
  /** How many different tails each segment has, 1 to b: 1 forgets the choice, b remembers all of it. Default [1, b]. */
  readonly tails?: readonly number[] | undefined;
  /** Tokens of a sequence. Default 64. */
  readonly length?: number | undefined;
}

/** A choice and its tails. */
export interface Segment {
  /** (b) tokens. */
  readonly choices: readonly number[];
  /** (m,L) tokens: choice j leads to tail j mod m. */
  readonly tails: readonly (readonly number[])[];
  /** More than one tail. */
  readonly consequential: boolean;
}

/** How often the n heads' losses ask for one choice. */
export interface ChoiceTerms {
  /** Terms, one per head and position before the choice, whose target tells something of the choice. */
  readonly terms: number;
  /** Nats of the choice that they ask for together: Σ I(choice; target | what came before). */
  readonly nats: number;
}

export interface ChoicePointsTask extends Task {
  bayes(futureTokens: number): Bayes;
  readonly segments: readonly Segment[];
  /** The tokens that may follow a token, each as likely. */
  successors(token: number): readonly number[];
  /** Of the two tokens behind a given one, or as the mean over all positions. */
  twoTokens(token?: number): TwoTokenEntropies;
  /** For each segment: n(n+1)/2 terms where the choice matters (and L ≥ n−1), n where it does not. */
  choiceTerms(futureTokens: number): ChoiceTerms[];
}

/**
 * Choice points (arXiv 2404.19737, sections 5.1 and 5.2): segments in a fixed round, each a choice among b tokens and a tail
 * of L tokens. In a consequential segment the tail tells which choice was made, in an inconsequential one it is the same
 * for all. Each token stands at one place of the round, so that the process is a Markov chain over the vocabulary, begun
 * anywhere in its round: whatever is asked of it is computed from the chain, and is the same at every position.
 *
 * Head i pays Σ_s π(s)·H(x_{t+i} | x_t = s); with the default segments that is (1+i)·ln b / (2(L+1)) while i ≤ L+1. Judged
 * are the consequential choices.
 *
 * @example
 * const task = choicePoints({ branches: 4, tailLength: 5 });
 * task.choiceTerms(5); // [{ terms: 5, … }, { terms: 15, … }]
 */
export function choicePoints(options: ChoicePointsOptions = {}): ChoicePointsTask {
  const name = "choice-points";
  checkOptions(name, options, ["branches", "tailLength", "tails", "length"]);
  const { branches = 4, tailLength = 5, length = 64 } = options;
  const { tails = [1, branches] } = options;
  checkSize(name, "branches", branches, 2);
  checkSize(name, "tailLength", tailLength, 1);
  checkSize(name, "length", length, 2);
  checkSize(name, "tails.length", tails.length, 1);
  for (const [i, count] of tails.entries()) checkSize(name, `tails[${i}]`, count, 1, branches);

  const { segments, tokenNames } = layOut(branches, tailLength, tails);
  const chain = new Chain(segments, tokenNames.length);
  const choices = new Set(segments.flatMap((segment) => (segment.consequential ? segment.choices : [])));

  return {
    name,
    source: "arXiv 2404.19737, sections 5.1 and 5.2",
    vocabSize: tokenNames.length,
    tokenNames,
    maxLength: length,
    segments,
    *sequences(split, draws = {}) {
      const draw = (random: Random): Int32Array => chain.draw(random, length);
      for (const tokens of drawSequences(name, split, draws, draw, (tokens) => tokens)) yield mark(tokens);
    },
    bayes: (futureTokens) => chain.bayes(futureTokens),
    successors: (token) => chain.successors(token),
    twoTokens: (token) => (token === undefined ? chain.meanTwoTokens() : chain.twoTokens(token)),
    choiceTerms: (futureTokens) => segments.map((segment) => chain.choiceTerms(segment, futureTokens)),
  };

  function mark(tokens: Int32Array): TaskSequence {
    return { tokens, judged: Uint8Array.from(tokens, (token) => (choices.has(token) ? 1 : 0)) };
  }
}

/** Tokens in the order of the round: of each segment its choices (C0:1), then its tails (t0:1.1 …). */
function layOut(
  branches: number,
  tailLength: number,
  tails: readonly number[],
): { segments: Segment[]; tokenNames: string[] } {
  const tokenNames: string[] = [];
  const token = (name: string): number => tokenNames.push(name) - 1;
  const segments = tails.map((count, i) => {
    const choices = Array.from({ length: branches }, (_, j) => token(`C${i}:${j}`));
    const own = Array.from({ length: count }, (_, tail) =>
      Array.from({ length: tailLength }, (_, place) => token(`t${i}:${tail}.${place + 1}`)),
    );
    return { choices, tails: own, consequential: count > 1 };
  });
  return { segments, tokenNames };
}

/** (V): what may follow each token. */
function successorsOf(segments: readonly Segment[], vocabSize: number): (readonly number[])[] {
  const next = Array.from({ length: vocabSize }, (): readonly number[] => []);
  for (const [i, { choices, tails }] of segments.entries()) {
    const after = segments[(i + 1) % segments.length]?.choices ?? [];
    for (const [j, choice] of choices.entries()) next[choice] = (tails[j % tails.length] ?? []).slice(0, 1);
    for (const tail of tails) {
      for (const [place, token] of tail.entries()) {
        const same = tail.slice(place + 1, place + 2);
        next[token] = same.length > 0 ? same : after;
      }
    }
  }
  return next;
}

/** For each place of the round, which is where a sequence begins: what stands there, once for each choice before it. */
function startsOf(segments: readonly Segment[]): number[][] {
  return segments.flatMap(({ choices, tails }) => [
    [...choices],
    ...(tails[0] ?? []).map((_, place) => choices.map((_, j) => tails[j % tails.length]?.[place] ?? 0)),
  ]);
}

/** The Markov chain of the segments, in its stationary distribution. */
class Chain {
  private readonly next: readonly (readonly number[])[];
  /** (V): how often a token stands at a position. */
  private readonly stationary: Float64Array;
  private readonly starts: readonly (readonly number[])[];

  constructor(segments: readonly Segment[], vocabSize: number) {
    this.next = successorsOf(segments, vocabSize);
    this.starts = startsOf(segments);
    this.stationary = new Float64Array(vocabSize);
    for (const start of this.starts) {
      for (const token of start) {
        this.stationary[token] = (this.stationary[token] ?? 0) + 1 / (this.starts.length * start.length);
      }
    }
  }

  successors(token: number): readonly number[] {
    const next = this.next[token];
    if (next !== undefined) return next;
    const wanted = `a token from 0 to ${this.next.length - 1}`;
    throw new ForetokenError("BAD_ARGUMENT", { op: "choice-points", argument: "token", wanted, got: String(token) });
  }

  draw(random: Random, length: number): Int32Array {
    const tokens = new Int32Array(length);
    let token = random.pick(random.pick(this.starts));
    for (let t = 0; t < length; t++) {
      tokens[t] = token;
      token = random.pick(this.successors(token));
    }
    return tokens;
  }

  /** (V): what stands `steps` behind a token. */
  private ahead(token: number, steps: number): Float64Array {
    let now = new Float64Array(this.next.length);
    now[token] = 1;
    for (let step = 0; step < steps; step++) {
      const then = new Float64Array(now.length);
      for (const [from, p] of now.entries()) {
        const next = p > 0 ? this.successors(from) : [];
        for (const to of next) then[to] = (then[to] ?? 0) + p / next.length;
      }
      now = then;
    }
    return now;
  }

  bayes(futureTokens: number): Bayes {
    const heads = Array.from({ length: futureTokens }, (_, i) => i + 1);
    const mean = (value: (distribution: Float64Array) => number): number[] =>
      heads.map((head) => this.mean((token) => value(this.ahead(token, head))));
    return { losses: mean(entropy), accuracies: mean((distribution) => Math.max(...distribution)) };
  }

  twoTokens(token: number): TwoTokenEntropies {
    const first = this.ahead(token, 1);
    return twoTokenEntropies(Array.from(first, (p, x) => this.ahead(x, 1).map((q) => p * q)));
  }

  meanTwoTokens(): TwoTokenEntropies {
    const each = Array.from(this.stationary, (_, token) => this.twoTokens(token));
    const mean = (key: keyof TwoTokenEntropies): number => this.mean((token) => each[token]?.[key] ?? 0);
    return { x: mean("x"), y: mean("y"), xGivenY: mean("xGivenY"), yGivenX: mean("yGivenX"), mutual: mean("mutual") };
  }

  choiceTerms({ choices }: Segment, futureTokens: number): ChoiceTerms {
    let [terms, nats] = [0, 0];
    for (let distance = 0; distance < futureTokens; distance++) {
      const told = mutualInformation(choices.map((choice) => this.ahead(choice, distance)));
      if (told < 1e-12) continue;
      // Asked for from each of the 1 … n−distance positions before the choice, by one head each.
      terms += futureTokens - distance;
      nats += (futureTokens - distance) * told;
    }
    return { terms, nats };
  }

  private mean(value: (token: number) => number): number {
    return this.stationary.reduce((sum, p, token) => sum + p * value(token), 0);
  }
}

/** Between a uniform choice and what follows each: H(mean) − mean of H. */
function mutualInformation(outcomes: readonly Float64Array[]): number {
  const mean = outcomes.reduce(
    (sum, each) => sum.map((p, i) => p + (each[i] ?? 0) / outcomes.length),
    new Float64Array(outcomes[0]?.length ?? 0),
  );
  return entropy(mean) - outcomes.reduce((sum, each) => sum + entropy(each), 0) / outcomes.length;
}
