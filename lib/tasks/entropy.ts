// Entropies of distributions given as lists of probabilities, in nats.

/** −Σ p ln p, 0 ln 0 = 0. */
export function entropy(probabilities: Iterable<number>): number {
  let sum = 0;
  for (const p of probabilities) if (p > 0) sum -= p * Math.log(p);
  return sum;
}

/** Of two tokens X and Y in a row: H(X)+H(Y) = H(X|Y) + 2·I(X;Y) + H(Y|X). */
export interface TwoTokenEntropies {
  /** H(X), H(Y). */
  readonly x: number;
  readonly y: number;
  /** H(X|Y), H(Y|X). */
  readonly xGivenY: number;
  readonly yGivenX: number;
  /** I(X;Y). */
  readonly mutual: number;
}

/** From the joint distribution, joint[x][y]. */
export function twoTokenEntropies(joint: readonly ArrayLike<number>[]): TwoTokenEntropies {
  const rows = joint.map((row) => Array.from(row));
  const ofX = rows.map((row) => row.reduce((sum, p) => sum + p, 0));
  const ofY = (rows[0] ?? []).map((_, y) => rows.reduce((sum, row) => sum + (row[y] ?? 0), 0));
  const [x, y, both] = [entropy(ofX), entropy(ofY), entropy(rows.flat())];
  return { x, y, xGivenY: both - y, yGivenX: both - x, mutual: x + y - both };
}
