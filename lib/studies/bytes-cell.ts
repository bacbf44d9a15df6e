// One cell of the byte study: a byte model learns real text with n heads, and writes with them.
import type { ModelOptions } from "../mtp/config.js";
import type { HeadWeights } from "../mtp/head-weights.js";
import { LanguageModel } from "../mtp/model.js";
import type { TextDataset } from "../io/text-dataset.js";
import { realCode, realProse } from "../tasks/bytes.js";
import { TrigramModel } from "../tasks/ngram.js";
import type { Split } from "../tasks/task.js";
import { evaluate } from "../train/evaluate.js";
import { Trainer } from "../train/trainer.js";
import { measureDecoding, promptsFrom, type DecodingPlan, type DecodingSpeed } from "./decoding.js";
import { headWeights } from "./heads-cell.js";
import { median } from "./statistics.js";
import type { Cell, CellContext } from "./study.js";

export type Corpus = "code" | "prose";

/** What a cell trains and measures. */
export interface ByteTraining {
  readonly corpus: Corpus;
  readonly model: ModelOptions;
  /** The share of the steps by whose end all heads take part, one more in each equal stage of it; 0: all from the start. */
  readonly grownBy: number;
  readonly steps: number;
  readonly batchSize: number;
  readonly contextLength: number;
  readonly learningRate: number;
  readonly dtype: "f32" | "bf16";
  /** Of held-out text; null: all of it. */
  readonly evalBatches: number | null;
  readonly decoding: DecodingPlan;
}

/** On held-out text; lists are per head, head 1 first. */
export interface ByteResult {
  readonly parameters: number;
  readonly bitsPerByte: readonly number[];
  readonly accuracies: readonly number[];
  /** Share of positions where heads 2..i all propose what head 1 says; 1 for head 1. */
  readonly acceptances: readonly (number | null)[];
  /** Of a count model of three bytes that has read what head 1 has. */
  readonly trigramBits: number;
  /** Plain decoding first. */
  readonly decoding: readonly DecodingSpeed[];
  /** Median of the steps. */
  readonly stepMs: number;
  readonly peakBytes: number;
}

export async function runBytes(
  { settings, seed }: Cell<ByteTraining>,
  { device, signal }: CellContext,
): Promise<ByteResult> {
  const { steps, batchSize, contextLength, learningRate, dtype, evalBatches, decoding } = settings;
  const data = corpora[settings.corpus]();
  using model = LanguageModel.create(settings.model, { device, dtype, seed });
  const stepMs: number[] = [];
  const trainer = new Trainer(model, {
    ...{ data: data.train, steps, batchSize, contextLength, learningRate, seed, signal },
    headWeights: growingWeights(settings.grownBy, model.heads.length, steps),
    onStep: (metrics) => stepMs.push(metrics.stepMs),
  });
  const { peakBytes } = await trainer.run();
  const shape = { batchSize, contextLength, maxBatches: evalBatches ?? undefined, signal };
  const { bitsPerToken, accuracies, acceptances } = await evaluate(model, data.eval, shape);
  return {
    ...{ parameters: model.parameters.count, bitsPerByte: bitsPerToken, accuracies, acceptances },
    trigramBits: countedBits(data, settings, seed),
    decoding: await measureDecoding(model, promptsFrom(data.eval, decoding), decoding, signal),
    ...{ stepMs: median(stepMs), peakBytes },
  };
}

export function growingWeights(grownBy: number, n: number, steps: number): HeadWeights {
  return grownBy === 0 ? "equal" : headWeights("forward", n, Math.max(n, Math.round(grownBy * steps)));
}

/** Bits per byte, on what is evaluated, of a trigram model that has counted the bytes that head 1 learns from. */
function countedBits(
  { train, eval: heldOut }: Record<Split, TextDataset>,
  { steps, batchSize, contextLength, evalBatches }: ByteTraining,
  seed: number,
): number {
  const trigrams = new TrigramModel();
  const batches = train.batches({ batchSize, contextLength, lookahead: 1, seed });
  for (let step = 0; step < steps; step++) {
    const { done, value } = batches.next();
    if (done) break;
    trigrams.addBatch(value);
  }
  const bytes = evalBatches === null ? Infinity : evalBatches * batchSize * contextLength;
  return trigrams.score(firstTokens(heldOut, bytes)).bitsPerByte;
}

/** Documents up to so many tokens in all; the last one cut. */
export function* firstTokens(data: TextDataset, count: number): Generator<ArrayLike<number>, void, undefined> {
  let left = count;
  for (const document of data.documents()) {
    if (left <= 0) return;
    yield document.subarray(0, Math.min(left, document.length));
    left -= document.length;
  }
}

/** Each read once: it takes longer than a quick cell. */
const corpora: Readonly<Record<Corpus, () => Record<Split, TextDataset>>> = {
  code: once(realCode),
  prose: once(realProse),
};

function once<Value>(read: () => Value): () => Value {
  let value: Value | undefined;
  return () => (value ??= read());
}
