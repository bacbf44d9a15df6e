// One cell of the study of how many heads: short runs and the full one, which learn from the same data.
import { runBytes, type ByteResult, type ByteTraining } from "./bytes-cell.js";
import type { Cell, CellContext } from "./study.js";

export interface HowManySettings {
  /** The full run. */
  readonly training: ByteTraining;
  /** Lengths of the short runs, as shares of the full one's steps. */
  readonly shares: readonly number[];
}

export interface HowManyResult {
  readonly full: ByteResult;
  /** In the order of `shares`: runs of their own, whose learning rate falls to the end. */
  readonly short: readonly ByteResult[];
}

export const shortSteps = (steps: number, share: number): number => Math.max(1, Math.round(share * steps));

export async function runHowMany(
  { settings: { training, shares }, seed }: Cell<HowManySettings>,
  context: CellContext,
): Promise<HowManyResult> {
  const short: ByteResult[] = [];
  for (const share of shares) {
    const steps = shortSteps(training.steps, share);
    short.push(await runBytes({ settings: { ...training, steps }, seed }, context));
  }
  return { full: await runBytes({ settings: training, seed }, context), short };
}
