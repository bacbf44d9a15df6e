// One cell of the head study: a byte model learns real code with one family of heads and one weighting of their losses.
import type { HeadWeights } from "../mtp/head-weights.js";
import type { ModelOptions } from "../mtp/config.js";
import { LanguageModel } from "../mtp/model.js";
import { realCode } from "../tasks/bytes.js";
import { evaluate } from "../train/evaluate.js";
import { Trainer } from "../train/trainer.js";
import type { Cell, CellContext } from "./study.js";

/** λ_i of head i, from 1. Stages of equal length: forward adds a head in each, reverse takes one away. */
export type Weighting = "equal" | "mean" | "geometric" | "forward" | "reverse";

export interface HeadSettings {
  /** Of pictures and tables. */
  readonly label: string;
  /** What it is compared for: one head, a family at equal weights, weights at the parallel family. */
  readonly group: "single" | "family" | "weights";
  readonly model: ModelOptions;
  readonly weighting: Weighting;
  readonly steps: number;
  readonly batchSize: number;
  readonly contextLength: number;
  readonly learningRate: number;
  readonly dtype: "f32" | "bf16";
  /** Of held-out text; null: all of it. */
  readonly evalBatches: number | null;
}

/** On held-out text, per head, head 1 first. */
export interface HeadResult {
  readonly parameters: number;
  readonly bitsPerByte: readonly number[];
  readonly accuracies: readonly number[];
  /** Of drafts by heads 2 to n, teacher-forced. */
  readonly expectedTokensPerForward: number;
}

/** γ of the geometric weights γ^(i−1). */
export const gamma = 0.5;

export function headWeights(weighting: Weighting, n: number, steps: number): HeadWeights {
  const active = (count: number): number[] => Array.from({ length: n }, (_, i) => (i < count ? 1 : 0));
  const stage = (step: number): number => Math.min(n - 1, Math.floor((n * (step - 1)) / steps));
  switch (weighting) {
    case "equal":
    case "mean":
      return weighting;
    case "geometric":
      return { geometric: gamma };
    case "forward":
      return (step) => active(1 + stage(step));
    case "reverse":
      return (step) => active(n - stage(step));
    default:
      return weighting satisfies never;
  }
}

export async function runHeads(
  { settings, seed }: Cell<HeadSettings>,
  { device, signal }: CellContext,
): Promise<HeadResult> {
  const { steps, batchSize, contextLength, learningRate, dtype, evalBatches } = settings;
  const data = code();
  using model = LanguageModel.create(settings.model, { device, dtype, seed });
  const weights = headWeights(settings.weighting, model.heads.length, steps);
  const trainer = new Trainer(model, {
    ...{ data: data.train, steps, batchSize, contextLength, learningRate, headWeights: weights, seed, signal },
  });
  await trainer.run();
  const shape = { batchSize, contextLength, maxBatches: evalBatches ?? undefined, signal };
  const { bitsPerToken, accuracies, expectedTokensPerForward } = await evaluate(model, data.eval, shape);
  return { parameters: model.parameters.count, bitsPerByte: bitsPerToken, accuracies, expectedTokensPerForward };
}

let read: ReturnType<typeof realCode> | undefined;
/** Read once: it takes longer than a quick cell. */
const code = (): ReturnType<typeof realCode> => (read ??= realCode());
