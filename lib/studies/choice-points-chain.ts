// What is exact of the choice points' process, laid out as the heads' losses see it: contexts, the terms that ask for a
// choice, and the two tokens behind a context.
import { ForetokenError } from "../errors.js";
import type { ChoicePointsTask } from "../tasks/choice-points.js";
import type { TwoTokenEntropies } from "../tasks/entropy.js";

/** Head `head` at a context whose last token is `token` asks which way a choice goes. */
export interface Term {
  readonly token: number;
  /** i, from 1. */
  readonly head: number;
  /** Index of the choice's segment. */
  readonly segment: number;
  /** (b): the target if the choice is j; the same for all j where the tail tells nothing. */
  readonly targets: readonly number[];
  /** How often such a context comes before one choice: the terms of one head and distance have 1 together. */
  readonly share: number;
}

/** X and Y behind a context whose last token is `token`. */
export interface Pair {
  readonly token: number;
  readonly x: number;
  readonly y: number;
  /** P(token, x, y). */
  readonly probability: number;
}

/** (V): how often a token stands at a position. */
export function stationaryShares({ segments, vocabSize }: ChoicePointsTask): Float64Array {
  const shares = new Float64Array(vocabSize);
  const places = segments.length * (1 + tailLengthOf(segments));
  for (const { choices, tails } of segments) {
    for (const choice of choices) shares[choice] = 1 / places / choices.length;
    for (const token of tails.flat()) shares[token] = 1 / places / tails.length;
  }
  return shares;
}

/**
 * The terms of n heads that ask for a choice or for what follows from it, from before it. Throws BAD_ARGUMENT where the
 * heads reach beyond the next choice, or a tail remembers a part of its choice.
 */
export function termsOf(task: ChoicePointsTask, futureTokens: number): Term[] {
  const { segments } = task;
  const tailLength = tailLengthOf(segments);
  if (futureTokens > tailLength + 1) refuse("futureTokens", `at most ${tailLength + 1}`, String(futureTokens));
  const shares = stationaryShares(task);
  const round = segments.length * (tailLength + 1);
  return segments.flatMap(({ choices, tails }, k) => {
    if (tails.length !== 1 && tails.length !== choices.length) {
      refuse("tails", `1 or ${choices.length}`, String(tails.length));
    }
    const segment = (k + 1) % segments.length;
    const next = segments[segment];
    const places = [
      choices,
      ...Array.from({ length: tailLength }, (_, place) => tails.map((tail) => tail[place] ?? 0)),
    ];
    return places.flatMap((tokens, place) => {
      const first = tailLength + 1 - place; // the head that reads the next choice itself
      const heads = Array.from({ length: Math.max(0, futureTokens - first + 1) }, (_, i) => first + i);
      return heads.flatMap((head) => {
        const targets = (next?.choices ?? []).map((choice, j) =>
          head === first ? choice : (next?.tails[j % next.tails.length]?.[head - first - 1] ?? 0),
        );
        return tokens.map((token) => ({ token, head, segment, targets, share: round * (shares[token] ?? 0) }));
      });
    });
  });
}

/** All pairs of tokens behind every context of one token. */
export function pairsOf(task: ChoicePointsTask): Pair[] {
  const shares = stationaryShares(task);
  return [...shares].flatMap((share, token) => {
    const first = task.successors(token);
    return first.flatMap((x) => {
      const second = task.successors(x);
      return second.map((y) => ({ token, x, y, probability: share / first.length / second.length }));
    });
  });
}

/** Of X and Y given the token before them, each entropy by its own definition. */
export function entropiesOf(pairs: readonly Pair[]): TwoTokenEntropies {
  const shares = new Map<string, number>();
  const add = (key: string, p: number): unknown => shares.set(key, (shares.get(key) ?? 0) + p);
  for (const { token, x, y, probability } of pairs) {
    add(`${token}`, probability);
    add(`${token} x${x}`, probability);
    add(`${token} y${y}`, probability);
    add(`${token} ${x} ${y}`, probability);
  }
  const of = (key: string): number => shares.get(key) ?? NaN;
  const mean = (value: (token: number, x: string, y: string, both: string) => number): number =>
    pairs.reduce((sum, { token, x, y, probability }) => {
      const nats = value(of(`${token}`), `${token} x${x}`, `${token} y${y}`, `${token} ${x} ${y}`);
      return sum + probability * nats;
    }, 0);
  return {
    x: mean((token, x) => -Math.log(of(x) / token)),
    y: mean((token, _, y) => -Math.log(of(y) / token)),
    xGivenY: mean((_, __, y, both) => -Math.log(of(both) / of(y))),
    yGivenX: mean((_, x, __, both) => -Math.log(of(both) / of(x))),
    mutual: mean((token, x, y, both) => Math.log((of(both) * token) / of(x) / of(y))),
  };
}

const tailLengthOf = (segments: ChoicePointsTask["segments"]): number => segments[0]?.tails[0]?.length ?? 0;

function refuse(argument: string, wanted: string, got: string): never {
  throw new ForetokenError("BAD_ARGUMENT", { op: "choice-points", argument, wanted, got });
}
