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

/** values (R + 2·M): tokens read, tokens drawn, the bits of the drawn ones' log-probabilities. */
export function verdictOf(values: Int32Array, R: number, logits?: Float32Array): Verdict {
  const M = (values.length - R) / 2;
  const logProbabilities = new Float32Array(values.buffer, values.byteOffset + 4 * (R + M), M);
  return { read: values.subarray(0, R), drawn: values.subarray(R, R + M), logProbabilities, logits };
}
