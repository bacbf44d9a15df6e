// One cell of the progressions study: a model of one trunk and number of heads learns from so many sequences.
import type { ModelOptions } from "../mtp/config.js";
import { LanguageModel } from "../mtp/model.js";
import { bestPredictor, progressions } from "../tasks/progressions.js";
import { taskDataset, type Bayes, type Task } from "../tasks/task.js";
import type { EvalMetrics, HeadMetrics } from "../train/metrics.js";
import { evaluatePositions } from "../train/positions.js";
import { Trainer } from "../train/trainer.js";
import { meanOf } from "./statistics.js";
import type { Cell, CellContext } from "./study.js";

export type TrunkName = "rnn" | "transformer";

export interface ProgressionSettings {
  readonly trunk: TrunkName;
  readonly model: ModelOptions;
  /** n. */
  readonly futureTokens: number;
  /** Different sequences to learn from. */
  readonly sequences: number;
  readonly steps: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly evalEvery: number;
}

/** Means over heads; of training over the steps since the point before, of held-out sequences after the step. */
export interface CurvePoint {
  readonly step: number;
  readonly trainLoss: number;
  readonly trainAccuracy: number;
  readonly heldOutLoss: number;
  readonly heldOutAccuracy: number;
}

export interface ProgressionResult {
  readonly parameters: number;
  readonly curve: readonly CurvePoint[];
  /** The least loss on the sequences learnt from, and the greatest accuracy, for one that knows which they are. */
  readonly trainFloor: number;
  readonly trainCeiling: number;
  /** (n, 19) of held-out sequences, head 1 first; null where a head has no target. */
  readonly losses: readonly (readonly (number | null)[])[];
  readonly accuracies: readonly (readonly (number | null)[])[];
  /** (17) share of right values at 1, 2 … places behind three given ones, head 1 reading what it said. */
  readonly rolledOut: readonly number[];
}

export const sequenceLength = 20;
/** Values given before a model goes on by itself: two determine the rest. */
export const given = 3;
/** As the notebook has it: every head has a target at every position that is trained on. */
export const trainedPositions = (futureTokens: number): number => sequenceLength - futureTokens;

/** Plain Adam, as the notebook. */
export const adam = { betas: [0.9, 0.999] as const, weightDecay: 0, clipNorm: 0 };

export async function runProgression(
  { settings, seed }: Cell<ProgressionSettings>,
  { device, signal }: CellContext,
): Promise<ProgressionResult> {
  const { model: options, futureTokens, sequences, steps, batchSize, learningRate, evalEvery } = settings;
  const task = progressions({ splitSeed: seed });
  using model = LanguageModel.create(options, { device, seed });
  const data = taskDataset(task, "train", { seed, count: sequences, cropped: true });
  const heldOut = taskDataset(task, "eval", { cropped: true });
  const contextLength = trainedPositions(futureTokens);
  const curve = new Curve();
  const trainer = new Trainer(model, {
    ...{ data, evalData: heldOut, steps, batchSize, contextLength, learningRate, evalEvery, seed, signal },
    ...{ ...adam, schedule: "constant", warmupSteps: 0 },
    onStep: (metrics) => curve.step(metrics),
    onEval: (metrics) => curve.evaluated(metrics),
  });
  await trainer.run();
  const best = bestOf(task, seed, sequences, futureTokens);
  const positions = await evaluatePositions(model, heldOut, { batchSize, contextLength: sequenceLength - 1 });
  return {
    parameters: model.parameters.count,
    curve: curve.points,
    trainFloor: meanOf(best.losses),
    trainCeiling: meanOf(best.accuracies),
    losses: positions.map(({ losses }) => losses),
    accuracies: positions.map(({ accuracies }) => accuracies),
    rolledOut: await rollOut(
      model,
      [...task.sequences("eval")].map(({ tokens }) => tokens),
    ),
  };
}

function bestOf(task: Task, seed: number, count: number, futureTokens: number): Bayes {
  const learnt = [...task.sequences("train", { seed, count })].map(({ tokens }) => tokens);
  return bestPredictor(learnt, { futureTokens, positions: trainedPositions(futureTokens) });
}

/** Gathers a curve's points. */
class Curve {
  readonly points: CurvePoint[] = [];
  private since: { readonly loss: number; readonly accuracy: number }[] = [];

  step(metrics: HeadMetrics): void {
    this.since.push({ loss: meanOf(metrics.losses), accuracy: meanOf(metrics.accuracies) });
  }

  evaluated(metrics: EvalMetrics): void {
    this.points.push({
      step: metrics.step,
      trainLoss: meanOf(this.since.map(({ loss }) => loss)),
      trainAccuracy: meanOf(this.since.map(({ accuracy }) => accuracy)),
      heldOutLoss: meanOf(metrics.losses),
      heldOutAccuracy: meanOf(metrics.accuracies),
    });
    this.since = [];
  }
}

/** Head 1 goes on from the first values of each sequence, reading what it said; shares of right values by distance. */
async function rollOut(model: LanguageModel, sequences: readonly Int32Array[]): Promise<number[]> {
  const written = sequences.map((tokens) => Array.from(tokens.subarray(0, given)));
  const shares: number[] = [];
  for (let t = given; t < sequenceLength; t++) {
    const said = await likeliestNext(model, written);
    for (const [row, tokens] of written.entries()) tokens.push(said[row] ?? -1);
    shares.push(meanOf(sequences.map((tokens, row) => (tokens[t] === said[row] ? 1 : 0))));
  }
  return shares;
}

/** Head 1's likeliest token behind each row. */
async function likeliestNext(model: LanguageModel, rows: readonly (readonly number[])[]): Promise<number[]> {
  const logits = model.forward(rows);
  try {
    const values = await logits[0]?.toFloats();
    const [length, vocabSize] = [rows[0]?.length ?? 0, model.config.vocabSize];
    return rows.map((_, row) => {
      const at = (row * length + length - 1) * vocabSize;
      const own = Array.from({ length: vocabSize }, (_, token) => values?.[at + token] ?? -Infinity);
      return own.indexOf(Math.max(...own));
    });
  } finally {
    for (const tensor of logits) tensor.dispose();
  }
}
