// What heads say behind contexts of the choice points' process, and of two tokens in a row.
import type { LanguageModel } from "../mtp/model.js";
import type { ChoicePointsTask } from "../tasks/choice-points.js";
import type { TwoTokenEntropies } from "../tasks/entropy.js";
import { entropiesOf, pairsOf, type Pair } from "./choice-points-chain.js";
import type { Said } from "./choice-points-weights.js";
import { meanOf } from "./statistics.js";

/** Tokens of the contexts that heads are read behind: over a round, so that nothing more can be known. */
const contextTokens = 14;

/** The five entropies of two tokens, nats, means over contexts, and both sides of the identity. */
export interface TwoTokens {
  readonly entropies: TwoTokenEntropies;
  /** H(X) + H(Y). */
  readonly left: number;
  /** H(X|Y) + 2 I(X;Y) + H(Y|X). */
  readonly right: number;
}

/** Contexts by their last token, as many of each, from held-out sequences. */
export function contextsOf(task: ChoicePointsTask, seed: number, each: number): Int32Array[] {
  const found = Array.from({ length: task.vocabSize }, (): Int32Array[] => []);
  let missing = task.vocabSize * each;
  for (const { tokens } of task.sequences("eval", { seed })) {
    const own = found[tokens[contextTokens - 1] ?? -1];
    if (!own || own.length === each) continue;
    own.push(tokens.slice(0, contextTokens));
    if (--missing === 0) break;
  }
  return found.flat();
}

export const lastOf = (context: Int32Array): number => context.at(-1) ?? -1;

/** (rows, n, V): log P of every head behind the last token of each row; the rows are equally long. */
export type Read = (rows: readonly ArrayLike<number>[]) => Promise<Float64Array[][]>;

/** Reads a model, so many rows at once. */
export async function readLast(model: LanguageModel, rows: readonly ArrayLike<number>[]): Promise<Float64Array[][]> {
  const read: Float64Array[][] = [];
  for (let first = 0; first < rows.length; first += rowsAtOnce)
    read.push(...(await readRows(model, rows.slice(first, first + rowsAtOnce))));
  return read;
}
const rowsAtOnce = 64;

async function readRows(model: LanguageModel, rows: readonly ArrayLike<number>[]): Promise<Float64Array[][]> {
  const logits = model.forward(rows.map((row) => Array.from(row)));
  try {
    const values = await Promise.all(logits.map((each) => each.toFloats()));
    const [length, vocabSize] = [rows[0]?.length ?? 0, model.config.vocabSize];
    return rows.map((_, row) => {
      const at = (row * length + length - 1) * vocabSize;
      return values.map((head) => logSoftmax(Array.from({ length: vocabSize }, (_, v) => head[at + v] ?? NaN)));
    });
  } finally {
    for (const tensor of logits) tensor.dispose();
  }
}

function logSoftmax(logits: readonly number[]): Float64Array {
  const most = Math.max(...logits);
  const total = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0)) + most;
  return Float64Array.from(logits, (logit) => logit - total);
}

export function saidOf(contexts: readonly Int32Array[], heads: readonly (readonly Float64Array[])[]): Said {
  const mean = (token: number, head: number, value: (own: Float64Array) => number): number =>
    meanOf(
      heads.flatMap((own, i) =>
        lastOf(contexts[i] ?? new Int32Array()) === token ? [value(own[head - 1] ?? new Float64Array())] : [],
      ),
    );
  return {
    logProbability: (token, head, v) => mean(token, head, (own) => own[v] ?? NaN),
    probability: (token, head, v) => mean(token, head, (own) => Math.exp(own[v] ?? NaN)),
  };
}

/**
 * The left side from the losses of heads 1 and 2; the right one from head 1 alone, which says X, then Y behind X: by it
 * P(y) = Σ P(x) P(y|x) and P(x|y) = P(x) P(y|x) / P(y). Means over the process's own X and Y, as losses are.
 */
export async function headsTwoTokens(
  task: ChoicePointsTask,
  contexts: readonly Int32Array[],
  read: Read,
): Promise<TwoTokens> {
  const heads = await read(contexts);
  const pairs = pairsOf(task);
  const sums = { x: 0, y: 0, xGivenY: 0, yGivenX: 0, mutual: 0 };
  for (const [i, context] of contexts.entries()) {
    const [first, second] = heads[i] ?? [];
    const same = contexts.filter((other) => lastOf(other) === lastOf(context)).length;
    const ways = Array.from({ length: task.vocabSize }, (_, x) => Int32Array.of(...context, x));
    const behind = (await read(ways)).map((own) => own[0] ?? new Float64Array());
    for (const { x, y, probability } of pairs.filter(({ token }) => token === lastOf(context))) {
      const share = probability / same;
      const [ofX, yGivenX] = [first?.[x] ?? NaN, behind[x]?.[y] ?? NaN];
      const ofY = Math.log(
        behind.reduce((sum, own, way) => sum + Math.exp((first?.[way] ?? NaN) + (own[y] ?? NaN)), 0),
      );
      sums.x -= share * ofX;
      sums.y -= share * (second?.[y] ?? NaN);
      sums.yGivenX -= share * yGivenX;
      sums.xGivenY -= share * (ofX + yGivenX - ofY);
      sums.mutual += share * (yGivenX - ofY);
    }
  }
  return sides(sums);
}

export const sides = (entropies: TwoTokenEntropies): TwoTokens => {
  const { x, y, xGivenY, yGivenX, mutual } = entropies;
  return { entropies, left: x + y, right: xGivenY + 2 * mutual + yGivenX };
};

/** From how often each two tokens stand behind each in these sequences. */
export function countTwoTokens(sequences: readonly Int32Array[]): TwoTokens {
  const counts = new Map<string, number>();
  let total = 0;
  for (const tokens of sequences) {
    for (let t = 0; t + 2 < tokens.length; t++, total++) {
      const key = tokens.subarray(t, t + 3).join(" ");
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  }
  const pairs = [...counts].map(([key, often]): Pair => {
    const [token = 0, x = 0, y = 0] = key.split(" ").map(Number);
    return { token, x, y, probability: often / total };
  });
  return sides(entropiesOf(pairs));
}
