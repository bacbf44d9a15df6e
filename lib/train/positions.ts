// Evaluation of every position of a row by itself: where in a sequence each head is right.
import type { Batch, BatchShape } from "../io/batch.js";
import type { Dataset } from "../io/dataset.js";
import { DeviceBatch } from "../mtp/batch.js";
import { checkVocabulary, type LanguageModel } from "../mtp/model.js";
import { tokenLosses } from "../ops/cross-entropy.js";
import { scope } from "../scope.js";

/** Figures of one head at positions 0..T−1, means over its valid targets there; null where it has none. */
export interface PositionMetrics {
  /** (T) nats. */
  readonly losses: readonly (number | null)[];
  /** (T) */
  readonly accuracies: readonly (number | null)[];
  /** (T) valid targets. */
  readonly targets: readonly number[];
}

/** (T) sums of one head. */
interface Sums {
  readonly loss: Float64Array;
  readonly right: Float64Array;
  readonly targets: Float64Array;
}

/**
 * What each head, head 1 first, loses and gets right at each position of the dataset's rows. For data whose rows are
 * sequences of one kind, such as a task's.
 */
export async function evaluatePositions(
  model: LanguageModel,
  data: Dataset,
  options: { readonly batchSize?: number | undefined; readonly contextLength?: number | undefined } = {},
): Promise<PositionMetrics[]> {
  checkVocabulary(model, data);
  const { batchSize = 8, contextLength = model.config.maxPositions } = options;
  const shape: BatchShape = { batchSize, contextLength, lookahead: model.config.futureTokens };
  const zeros = (): Float64Array => new Float64Array(contextLength);
  const sums = model.heads.map((): Sums => ({ loss: zeros(), right: zeros(), targets: zeros() }));
  const batch = new DeviceBatch(model.device, shape);
  try {
    for (const host of data.evalBatches(shape)) {
      batch.write(host);
      await addBatch(model, host, batch, sums);
    }
  } finally {
    batch.dispose();
  }
  return sums.map(means);
}

async function addBatch(model: LanguageModel, host: Batch, batch: DeviceBatch, sums: readonly Sums[]): Promise<void> {
  const context = { firstKey: batch.firstKey };
  const rows = scope(() =>
    model.mapHeads(
      model.trunk.forward(batch.tokens, batch.length, context),
      context,
      ({ ahead, unembedding: { weight, bias } }, hidden) => {
        const targets = { tokens: batch.targets, limit: batch.limit, shift: ahead };
        const { loss, argmax } = tokenLosses(hidden, weight, targets, { bias });
        return [loss, argmax] as const;
      },
    ),
  );
  try {
    for (const [i, [loss, argmax]] of rows.entries()) {
      const [nats, guesses] = await Promise.all([loss.toFloats(), argmax.data()]);
      const own = sums[i];
      if (own) addHead(own, host, i + 1, nats, guesses);
    }
  } finally {
    for (const tensor of rows.flat()) tensor.dispose();
  }
}

/** nats, guesses (B·T) */
function addHead(
  sums: Sums,
  { targets, limit, contextLength: T, lookahead }: Batch,
  ahead: number,
  nats: ArrayLike<number>,
  guesses: ArrayLike<number>,
): void {
  const { loss, right, targets: count } = sums;
  for (let row = 0; row < limit.length; row++) {
    const t = row % T;
    const target = targets[Math.floor(row / T) * (T + lookahead) + t + ahead] ?? -1;
    if (t + ahead > (limit[row] ?? -1) || target < 0) continue;
    loss[t] = (loss[t] ?? 0) + (nats[row] ?? NaN);
    right[t] = (right[t] ?? 0) + (guesses[row] === target ? 1 : 0);
    count[t] = (count[t] ?? 0) + 1;
  }
}

function means({ loss, right, targets }: Sums): PositionMetrics {
  const each = (sum: Float64Array): (number | null)[] =>
    Array.from(sum, (value, t) => ((targets[t] ?? 0) > 0 ? value / (targets[t] ?? 1) : null));
  return { losses: each(loss), accuracies: each(right), targets: [...targets] };
}
