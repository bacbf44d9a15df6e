// What a step gives back: the tokens it read, and those that head 1 drew behind them.

export interface Verdict {
  /** The tokens read, (R); those that had been proposed among them. */
  readonly read: Int32Array;
  /** Drawn after each wanted row, (M); −1 where the logits were not numbers. */
  readonly drawn: Int32Array;
  /** Natural logs, of the drawn tokens, under head 1's untempered distribution. */
  readonly logProbabilities: Float32Array;
  /** Where asked for: of each wanted row, (M, V). */
  readonly logits: Float32Array | undefined;
}

/** values, from `at` on (R + 2·M): tokens read, tokens drawn, the bits of the drawn ones' log-probabilities. */
export function verdictOf(
  { buffer, byteOffset }: Int32Array,
  at: number,
  [R, M]: readonly [R: number, M: number],
  logits?: Float32Array,
): Verdict {
  const start = byteOffset + 4 * at;
  const read = new Int32Array(buffer, start, R);
  const drawn = new Int32Array(buffer, start + 4 * R, M);
  return { read, drawn, logProbabilities: new Float32Array(buffer, start + 4 * (R + M), M), logits };
}
