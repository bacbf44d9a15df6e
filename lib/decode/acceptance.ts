// Which tokens of a draft are kept, and what comes after them.
//
// "exact": head 1's token is drawn at each place and a draft is kept while it equals it: the text of plain sampling, for the
// same seed, whatever is proposed. "rejection" (arXiv 2211.17192): the same distribution, more drafts kept, but another text
// for a seed. "typical" (Medusa, arXiv 2401.10774): a draft is kept where head 1 finds it likely enough: more drafts kept
// still, and another distribution.
import type { Draw } from "./inputs.js";
import { uniform } from "./philox.js";
import type { DraftShape } from "./tree.js";
import type { Verdict } from "./verdict.js";

export interface JudgedToken {
  readonly token: number;
  /** Natural log, under head 1's untempered distribution. */
  readonly logProbability: number;
}

export interface Judged {
  /** The nodes of the draft that are kept, each the child of the one before. */
  readonly path: readonly number[];
  /** Places, one after the other, for which the draft had something to judge. */
  readonly tried: number;
  /** The kept tokens and one more. A token is −1 where head 1's logits were not numbers. */
  readonly tokens: readonly JudgedToken[];
}

/** A draft in a verdict, of the shape's first nodes. */
export interface DraftRead {
  readonly length: number;
  /** Where the last known token is among those read; the draft comes behind it. */
  readonly row: number;
  /** Where what was drawn behind the last known token is; what was drawn behind each of the draft comes next. */
  readonly draw: number;
}

/** A draft's tokens are compared with what head 1 drew after the last known token and after each of the draft. */
export function judgeExactly(
  shape: DraftShape,
  { read, drawn, logProbabilities }: Verdict,
  { length, row, draw }: DraftRead,
): Judged {
  const path: number[] = [];
  const tokens: JudgedToken[] = [];
  for (let last = -1; ;) {
    const token = drawn[draw + 1 + last] ?? -1;
    tokens.push({ token, logProbability: logProbabilities[draw + 1 + last] ?? NaN });
    let right = -1;
    let tried = 0;
    for (const node of shape.following(last)) {
      if (node >= length) break;
      tried = 1;
      if (right < 0 && read[row + 1 + node] === token) right = node;
    }
    if (right < 0) return { path, tried: path.length + tried, tokens };
    path.push(right);
    last = right;
  }
}

/** What the two rules below look at: logits of one place, and how its token would be drawn. */
export interface Place {
  readonly logits: Float32Array;
  readonly draw: Draw;
}

/**
 * Keeps a draft's token x with probability min(1, p(x)/q(x)); where it is not kept, draws from max(p − q, 0) instead.
 * places: head 1's, one more than the draft has. proposers: who proposed; undefined: q is 1 at the draft.
 */
export function judgeByRejection(
  draft: ArrayLike<number>,
  places: readonly Place[],
  proposers: readonly Place[] | undefined,
): Judged {
  return judge(draft, places, (place, i, token) => {
    const p = distribution(place);
    const proposer = proposers?.[i];
    const q = proposer ? distribution(proposer) : oneHot(p.length, token);
    const kept = uniform(place.draw, "keep") * (q[token] ?? 0) < (p[token] ?? 0);
    return kept
      ? undefined
      : pick(
          p.map((share, j) => Math.max(0, share - (q[j] ?? 0))),
          place.draw,
        );
  });
}

/** Medusa's constants: a probability of `threshold`, or of `alpha`·exp(−entropy) where head 1 is less certain, will do. */
export const typicalThreshold = 0.09;
export const typicalAlpha = 0.3;

/** Keeps a draft's token while p(x) > min(threshold, alpha·exp(−H(p))). */
export function judgeByTypicality(draft: ArrayLike<number>, places: readonly Place[]): Judged {
  return judge(draft, places, (place, _i, token) => {
    const p = distribution(place);
    const entropy = -p.reduce((sum, share) => sum + (share > 0 ? share * Math.log(share) : 0), 0);
    const kept = (p[token] ?? 0) > Math.min(typicalThreshold, typicalAlpha * Math.exp(-entropy));
    return kept ? undefined : pick(p, place.draw);
  });
}

/** decide: undefined where the draft's token is kept, else the token in its place. */
function judge(
  draft: ArrayLike<number>,
  places: readonly Place[],
  decide: (place: Place, i: number, token: number) => number | undefined,
): Judged {
  const tokens: JudgedToken[] = [];
  for (const [i, place] of places.entries()) {
    const proposed = i < draft.length ? (draft[i] ?? -1) : undefined;
    const instead = proposed === undefined ? pick(distribution(place), place.draw) : decide(place, i, proposed);
    const token = instead ?? proposed ?? -1;
    tokens.push({ token, logProbability: logProbability(place.logits, token) });
    if (instead !== undefined) break;
  }
  const path = Array.from({ length: tokens.length - 1 }, (_, i) => i);
  return { path, tried: Math.min(tokens.length, draft.length), tokens };
}

// ---- distributions --------------------------------------------------------------------------------------------------

/** What the kernel `sample` draws from: tempered, the top_k largest, of those the smallest set with probability top_p. */
export function distribution({ logits, draw: { temperature, topK, topP } }: Place): Float64Array {
  const largest = logits.reduce((most, value) => Math.max(most, value), -Infinity);
  const weights = Float64Array.from(logits, (value) => Math.exp((value - largest) / temperature));
  if (topK > 0 || topP < 1) keepLikeliest(weights, topK, topP);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

function keepLikeliest(weights: Float64Array, topK: number, topP: number): void {
  const order = Array.from(weights.keys()).sort((a, b) => (weights[b] ?? 0) - (weights[a] ?? 0) || a - b);
  const allowed = topK > 0 ? order.slice(0, topK) : order;
  const wanted = topP * allowed.reduce((sum, j) => sum + (weights[j] ?? 0), 0);
  let kept = 0;
  let sum = 0;
  while (kept < allowed.length && (kept === 0 || sum < wanted)) sum += weights[allowed[kept++] ?? 0] ?? 0;
  for (const j of order.slice(kept)) weights[j] = 0;
}

/** Draws from unnormalised weights; −1 where they are not numbers. */
function pick(weights: Float64Array, draw: Draw): number {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (!(total > 0)) return -1;
  let left = uniform(draw, "draw") * total;
  let last = -1;
  for (const [token, weight] of weights.entries()) {
    if (weight <= 0) continue;
    last = token;
    left -= weight;
    if (left < 0) break;
  }
  return last;
}

function oneHot(size: number, token: number): Float64Array {
  const shares = new Float64Array(size);
  shares[token] = 1;
  return shares;
}

function logProbability(logits: Float32Array, token: number): number {
  const largest = logits.reduce((most, value) => Math.max(most, value), -Infinity);
  const sum = logits.reduce((total, value) => total + Math.exp(value - largest), 0);
  return (logits[token] ?? NaN) - largest - Math.log(sum);
}
