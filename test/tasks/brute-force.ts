// Bayes losses the slow way: every sequence of a process with its probability, grouped by what has been read.
export interface WeightedSequence {
  readonly tokens: readonly number[];
  readonly probability: number;
  /** Columns that count as targets; all where absent. */
  readonly targets?: readonly boolean[];
  /** What a reader sees instead of the tokens. */
  readonly seen?: readonly (number | string)[];
}

/**
 * Per head i: Σ over positions t of E[−log P(x_{t+i} | x_0..x_t)] over the targets, divided by their expected number, and
 * likewise how often the likeliest token is right.
 */
export function bruteForce(
  sequences: readonly WeightedSequence[],
  futureTokens: number,
): { losses: number[]; accuracies: number[] } {
  const heads = Array.from({ length: futureTokens }, (_, i) => i + 1);
  const figures = heads.map((head) => headFigures(sequences, head));
  return { losses: figures.map(([loss]) => loss), accuracies: figures.map(([, accuracy]) => accuracy) };
}

function headFigures(sequences: readonly WeightedSequence[], head: number): readonly [number, number] {
  const length = Math.max(...sequences.map(({ tokens }) => tokens.length));
  let [loss, right, count] = [0, 0, 0];
  for (let t = 0; t + head < length; t++) {
    // prefix → token → [probability, probability as a target]
    const groups = new Map<string, Map<number, [number, number]>>();
    for (const { tokens, probability, targets, seen = tokens } of sequences) {
      const [token, isTarget] = [tokens[t + head], targets?.[t + head] ?? true];
      if (token === undefined) continue;
      const prefix = seen.slice(0, t + 1).join(" ");
      const group = groups.get(prefix) ?? new Map<number, [number, number]>();
      const [all, judged] = group.get(token) ?? [0, 0];
      group.set(token, [all + probability, judged + (isTarget ? probability : 0)]);
      groups.set(prefix, group);
    }
    for (const group of groups.values()) {
      const cells = [...group.values()];
      const total = cells.reduce((sum, [all]) => sum + all, 0);
      for (const [all, judged] of cells) {
        loss -= judged * Math.log(all / total);
        count += judged;
      }
      right += cells.reduce((best, cell) => (cell[0] > best[0] ? cell : best))[1];
    }
  }
  return [loss / count, right / count];
}
