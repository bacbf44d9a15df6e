// One cell of the polynomial study: a model learns to answer questions of one to five operations, and is asked up to ten.
import type { ModelOptions } from "../mtp/config.js";
import { LanguageModel } from "../mtp/model.js";
import { polynomialArithmetic, type PolynomialTask } from "../tasks/polynomial.js";
import { type PromptedSequence, taskDataset } from "../tasks/task.js";
import { evaluate } from "../train/evaluate.js";
import { Trainer } from "../train/trainer.js";
import { gradeAnswers, sharesOf } from "./answers.js";
import type { Cell, CellContext } from "./study.js";

export interface PolynomialSettings {
  readonly model: ModelOptions;
  /** n. */
  readonly futureTokens: number;
  /** Between question and answer. */
  readonly pauseTokens: number;
  readonly steps: number;
  /** Rows, each of as many questions as fit into `contextLength`. */
  readonly batchSize: number;
  readonly contextLength: number;
  readonly learningRate: number;
  readonly evalEvery: number;
  /** Held-out questions of each number of operations. */
  readonly questions: number;
}

/** Shares of right answers among questions of so many operations. */
export interface PolynomialScore {
  readonly operations: number;
  /** All five coefficients right. */
  readonly answers: number;
  /** Of coefficients. */
  readonly coefficients: number;
  /** What the likeliest coefficient of each place, among training questions of as many operations, would get. */
  readonly guessedCoefficients: number;
}

/** Of held-out questions of one to five operations after a step. */
export interface PolynomialPoint {
  readonly step: number;
  /** Nats a coefficient, head 1, which reads the right ones before. */
  readonly loss: number;
  readonly accuracy: number;
}

export interface PolynomialResult {
  readonly parameters: number;
  /** Different questions that were drawn to learn from. */
  readonly learnt: number;
  readonly curve: readonly PolynomialPoint[];
  /** From one operation to `mostOperations`. */
  readonly scores: readonly PolynomialScore[];
  /** Of single operations, by their sign: share of answers right. */
  readonly singles: readonly { readonly sign: string; readonly answers: number }[];
}

/** In training: 1 to 5. Asked: 1 to 10. */
export const trained = [1, 5] as const;
export const mostOperations = 10;

/** Training questions that are drawn at the most: beyond, they come again. */
const mostLearnt = 300_000;
/** No more questions fit into a row, as a rule. */
const perRow = 5;
/** Training questions behind a guess. */
const guessedFrom = 2000;

export async function runPolynomial(
  { settings, seed }: Cell<PolynomialSettings>,
  { device, signal }: CellContext,
): Promise<PolynomialResult> {
  const { pauseTokens, steps, batchSize, contextLength, learningRate, evalEvery, questions } = settings;
  const task = polynomialArithmetic({ operations: trained, pauseTokens });
  using model = LanguageModel.create(settings.model, { device, dtype: "bf16", seed });
  const count = Math.min(perRow * steps * batchSize, mostLearnt);
  const data = taskDataset(task, "train", { seed, count, packed: true });
  const heldOut = taskDataset(task, "eval", { seed, count: questions, packed: true });
  const trainer = new Trainer(model, { data, steps, batchSize, contextLength, learningRate, seed, signal });
  const curve: PolynomialPoint[] = [];
  for await (const { step } of trainer) {
    if (step % evalEvery !== 0 && step !== steps) continue;
    const { losses, accuracies } = await evaluate(model, heldOut, { batchSize, contextLength, signal });
    curve.push({ step, loss: losses[0] ?? NaN, accuracy: accuracies[0] ?? NaN });
  }
  const scores: PolynomialScore[] = [];
  for (let operations = 1; operations <= mostOperations; operations++) {
    scores.push(await scoreOf(model, operations, settings, seed, signal));
  }
  const singles = await singlesOf(model, settings, seed, signal);
  return { parameters: model.parameters.count, learnt: count, curve, scores, singles };
}

/** Single operations by what stands before their operands. */
async function singlesOf(
  model: LanguageModel,
  { pauseTokens, questions: count }: PolynomialSettings,
  seed: number,
  signal: AbortSignal | undefined,
): Promise<PolynomialResult["singles"]> {
  const task = polynomialArithmetic({ operations: 1, pauseTokens });
  const asked = [...task.sequences("eval", { seed, count })];
  const singles: { sign: string; answers: number }[] = [];
  for (const [token, sign] of task.tokenNames.entries()) {
    const own = asked.filter(({ tokens }) => tokens[0] === token);
    if (own.length > 0) singles.push({ sign, answers: (await gradeAnswers(model, own, signal)).whole });
  }
  return singles;
}

async function scoreOf(
  model: LanguageModel,
  operations: number,
  { pauseTokens, questions: count }: PolynomialSettings,
  seed: number,
  signal: AbortSignal | undefined,
): Promise<PolynomialScore> {
  const task = polynomialArithmetic({ operations, pauseTokens });
  const asked = [...task.sequences("eval", { seed, count })];
  const { whole, tokens } = await gradeAnswers(model, asked, signal);
  const guess = likeliestAnswer(task, seed);
  const guessed = sharesOf(
    asked,
    asked.map(() => guess),
  );
  return { operations, answers: whole, coefficients: tokens, guessedCoefficients: guessed.tokens };
}

/** At each place of the answer the coefficient that most training questions have. */
function likeliestAnswer(task: PolynomialTask, seed: number): number[] {
  return likeliest([...task.sequences("train", { seed, count: guessedFrom })].map(answerOf));
}

const answerOf = ({ tokens, promptLength }: PromptedSequence): number[] => [...tokens.subarray(promptLength)];

/** The most frequent number of each column; of equally frequent ones the least. */
export function likeliest(rows: readonly (readonly number[])[]): number[] {
  return (rows[0] ?? []).map((_, column) => {
    const counts = new Map<number, number>();
    for (const row of rows) counts.set(row[column] ?? NaN, (counts.get(row[column] ?? NaN) ?? 0) + 1);
    const [best] = [...counts].sort(([a, m], [b, n]) => n - m || a - b);
    return best?.[0] ?? NaN;
  });
}
