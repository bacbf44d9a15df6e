// How many heads: a rule that needs a short run of each number.
import { ForetokenError } from "../errors.js";
import { expectedTokens } from "./decoding.js";

/** What a run with n heads showed on held-out text. */
export interface HeadCandidate {
  readonly n: number;
  /** Of head 1, in any unit. */
  readonly loss: number;
  /** As an evaluation counts them, head 1's first. */
  readonly acceptances: readonly (number | null)[];
  /** Milliseconds of a decoding step that may add k tokens; k = 1 is plain decoding. */
  readonly stepMs: readonly { readonly k: number; readonly ms: number }[];
}

export interface HeadChoice {
  readonly n: number;
  /** The length of drafts, with head 1's token, that is fastest; 1: none. */
  readonly k: number;
  readonly tokensPerSecond: number;
}

/** What head 1 may lose for speed unless one says otherwise, as a share of the least loss. */
export const defaultTolerance = 0.05;

/** The fastest way of decoding: tokens per step, as the acceptances promise, over the time of one. */
export function fastestDecoding({ n, acceptances, stepMs }: Omit<HeadCandidate, "loss">): HeadChoice {
  const ways = stepMs.map(({ k, ms }) => ({ n, k, tokensPerSecond: (1000 * expectedTokens(acceptances, k)) / ms }));
  return ways.reduce((best, way) => (way.tokensPerSecond > best.tokensPerSecond ? way : best), {
    ...{ n, k: 1, tokensPerSecond: 0 },
  });
}

/** Those whose loss is within (1 + tolerance) times the least. */
export function allowedHeads(candidates: readonly HeadCandidate[], tolerance: number): HeadCandidate[] {
  const most = (1 + tolerance) * Math.min(...candidates.map(({ loss }) => loss));
  return candidates.filter(({ loss }) => loss <= most);
}

/**
 * The rule: of the numbers of heads whose loss of head 1 is within (1 + tolerance) times the least, the one that decodes
 * fastest; of several as fast, the one with the fewest heads. Errors: BAD_ARGUMENT without candidates or for a tolerance
 * below 0.
 *
 * @example
 * chooseHeads(
 *   [
 *     { n: 1, loss: 2.4, acceptances: [1], stepMs: [{ k: 1, ms: 0.2 }] },
 *     { n: 2, loss: 2.5, acceptances: [1, 0.5], stepMs: [{ k: 1, ms: 0.2 }, { k: 2, ms: 0.25 }] },
 *   ],
 * ); // { n: 2, k: 2, tokensPerSecond: 6000 }
 */
export function chooseHeads(candidates: readonly HeadCandidate[], tolerance = defaultTolerance): HeadChoice {
  const refuse = (argument: string, wanted: string, got: string): never => {
    throw new ForetokenError("BAD_ARGUMENT", { op: "chooseHeads", argument, wanted, got });
  };
  if (!(tolerance >= 0)) refuse("tolerance", "0 or more", String(tolerance));
  const rates = allowedHeads(candidates, tolerance)
    .sort((a, b) => a.n - b.n)
    .map(fastestDecoding);
  const [first, ...others] = rates;
  if (!first) return refuse("candidates", "at least one with a finite loss", String(candidates.length));
  return others.reduce((best, each) => (each.tokensPerSecond > best.tokensPerSecond ? each : best), first);
}
