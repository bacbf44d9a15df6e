// What seeds say together: means with intervals, from Student's t.

/** A mean over seeds with its interval; the bounds are null where one seed leaves them unknown. */
export interface Interval {
  readonly n: number;
  readonly mean: number;
  readonly low: number | null;
  readonly high: number | null;
}

/** The mean and the interval that covers the true one with `confidence`, for values that scatter as a normal law. */
export function interval(values: readonly number[], confidence = 0.95): Interval {
  const n = values.length;
  const mean = meanOf(values);
  if (n < 2) return { n, mean, low: null, high: null };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  const half = studentQuantile(1 - (1 - confidence) / 2, n - 1) * Math.sqrt(variance / n);
  return { n, mean, low: mean - half, high: mean + half };
}

/** The interval of what lies within least..most by its nature: its bounds do too. */
export function intervalWithin(values: readonly number[], least: number, most = Infinity): Interval {
  const { n, mean, low, high } = interval(values);
  return {
    n,
    mean,
    low: low === null ? null : Math.max(least, low),
    high: high === null ? null : Math.min(most, high),
  };
}

/** Of shares, within 0..1. */
export const shareInterval = (shares: readonly number[]): Interval => intervalWithin(shares, 0, 1);

/** Of losses, 0 or more. */
export const lossInterval = (losses: readonly number[]): Interval => intervalWithin(losses, 0);

/** The mean and, where it is known, its interval in brackets. */
export const shown = ({ mean, low, high }: Interval, digits = 3): string =>
  low === null || high === null
    ? mean.toFixed(digits)
    : `${mean.toFixed(digits)} [${low.toFixed(digits)}, ${high.toFixed(digits)}]`;

/** Of ratios, above 0: the geometric mean, and bounds that are as many times below as above it. */
export function ratioInterval(ratios: readonly number[]): Interval {
  const { n, mean, low, high } = interval(ratios.map(Math.log));
  return {
    n,
    mean: Math.exp(mean),
    low: low === null ? null : Math.exp(low),
    high: high === null ? null : Math.exp(high),
  };
}

/** NaN of no values. */
export const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** The middle value; the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return ((sorted[Math.floor(middle)] ?? NaN) + (sorted[Math.ceil(middle)] ?? NaN)) / 2;
}

/** t with P(T ≤ t) = share, for share in [0.5, 1) and whole degrees of freedom, by bisection. */
export function studentQuantile(share: number, freedom: number): number {
  let [low, high] = [0, 1];
  while (studentShare(high, freedom) < share) high *= 2;
  for (let i = 0; i < 100; i++) {
    const middle = (low + high) / 2;
    if (studentShare(middle, freedom) < share) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** P(T ≤ t), t ≥ 0: the finite sums of Abramowitz and Stegun 26.7.3 and 26.7.4. */
function studentShare(t: number, freedom: number): number {
  const angle = Math.atan(t / Math.sqrt(freedom));
  const cosine2 = Math.cos(angle) ** 2;
  const odd = freedom % 2 === 1;
  let term = odd ? Math.cos(angle) : 1;
  let sum = freedom === 1 ? 0 : term;
  for (let k = odd ? 3 : 2; k < freedom; k += 2) sum += term *= (cosine2 * (k - 1)) / k;
  const inside = odd ? (2 / Math.PI) * (angle + Math.sin(angle) * sum) : Math.sin(angle) * sum;
  return (1 + inside) / 2;
}
