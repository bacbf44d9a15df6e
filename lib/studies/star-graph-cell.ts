// One cell of the star-graph study: a model learns to write the path, one node or all of them at once.
import type { ModelOptions } from "../mtp/config.js";
import { LanguageModel } from "../mtp/model.js";
import { starGraph, type StarGraphTask } from "../tasks/star-graph.js";
import { type PromptedSequence, taskDataset } from "../tasks/task.js";
import { evaluatePositions, type PositionMetrics } from "../train/positions.js";
import { Trainer } from "../train/trainer.js";
import { gradeAnswers } from "./answers.js";
import { meanOf } from "./statistics.js";
import type { Cell, CellContext } from "./study.js";

/**
 * One head; as many heads as the path has nodes, side by side or each reading the one that looks further ahead; one head
 * and the path written from goal to start.
 */
export type StarArm = "single" | "parallel" | "anticausal" | "reverse";

export interface StarShape {
  readonly arm: StarArm;
  /** d: paths that leave the start. */
  readonly degree: number;
  /** l: nodes of a path. */
  readonly pathLength: number;
  /** Labels that nodes are drawn from. */
  readonly labels: number;
  /** n. */
  readonly futureTokens: number;
}

export interface StarSettings extends StarShape {
  readonly model: ModelOptions;
  readonly steps: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly evalEvery: number;
  /** Held-out graphs. */
  readonly graphs: number;
}

/** Of held-out graphs after a step. */
export interface StarPoint {
  readonly step: number;
  /** Nats a node of the path, head 1. */
  readonly loss: number;
  /** Share of first judged steps that head 1 gets right. */
  readonly firstStep: number;
}

export interface StarResult {
  readonly parameters: number;
  readonly curve: readonly StarPoint[];
  /** Shares of held-out graphs whose first step, and whose whole path, head 1 writes right. */
  readonly firstStep: number;
  readonly wholePath: number;
  /** (n) share of held-out graphs where head i, reading `=`, names the path's node i−1. */
  readonly fromEquals: readonly number[];
  /** Where all n heads, reading `=`, do. */
  readonly atOnce: number;
}

export const taskOf = ({ arm, degree, pathLength, labels }: StarShape): StarGraphTask =>
  starGraph({ degree, pathLength, labels, reverse: arm === "reverse" });

/** Different graphs that are drawn at the most: beyond, they come again. */
const mostGraphs = 200_000;

export async function runStar(
  { settings, seed }: Cell<StarSettings>,
  { device, signal }: CellContext,
): Promise<StarResult> {
  const { pathLength, steps, batchSize, learningRate, evalEvery, graphs } = settings;
  const task = taskOf(settings);
  const contextLength = task.maxLength - 1;
  using model = LanguageModel.create(settings.model, { device, dtype: "bf16", seed });
  const data = taskDataset(task, "train", { seed, count: Math.min(steps * batchSize, mostGraphs) });
  const heldOut = taskDataset(task, "eval", { seed, count: graphs });
  const equals = task.maxLength - pathLength - 1;
  const trainer = new Trainer(model, { data, steps, batchSize, contextLength, learningRate, seed, signal });
  const curve: StarPoint[] = [];
  for await (const { step } of trainer) {
    if (step % evalEvery !== 0 && step !== steps) continue;
    const [head] = await evaluatePositions(model, heldOut, { batchSize: 64, contextLength });
    curve.push({ step, ...pointOf(head, equals) });
  }
  const questions = [...task.sequences("eval", { seed, count: graphs })];
  const { first, whole } = await gradeAnswers(model, questions, signal);
  return {
    ...{ parameters: model.parameters.count, curve, firstStep: first, wholePath: whole },
    ...(await readAtOnce(model, questions)),
  };
}

/** What the heads name all together, each from the last token of the question. */
export async function readAtOnce(
  model: LanguageModel,
  questions: readonly PromptedSequence[],
): Promise<Pick<StarResult, "fromEquals" | "atOnce">> {
  const logits = model.forward(questions.map(({ tokens, promptLength }) => [...tokens.subarray(0, promptLength)]));
  try {
    const right = await Promise.all(
      logits.map(async (tensor, head) => {
        const said = likeliestAtEnd(await tensor.toFloats(), questions.length, model.config.vocabSize);
        return questions.map(({ tokens, promptLength }, row) => tokens[promptLength + head] === said[row]);
      }),
    );
    return {
      fromEquals: right.map((rows) => meanOf(rows.map(Number))),
      atOnce: meanOf(questions.map((_, row) => Number(right.every((rows) => rows[row])))),
    };
  } finally {
    for (const tensor of logits) tensor.dispose();
  }
}

/** logits (B,T,V) → (B) likeliest tokens behind each row. */
function likeliestAtEnd(logits: ArrayLike<number>, rows: number, vocabSize: number): number[] {
  const each = logits.length / rows;
  return Array.from({ length: rows }, (_, row) => {
    const own = Array.from({ length: vocabSize }, (_, token) => logits[(row + 1) * each - vocabSize + token] ?? NaN);
    return own.indexOf(Math.max(...own));
  });
}

/** The path's first node stands behind `=`, the first judged one behind that. */
function pointOf(head: PositionMetrics | undefined, equals: number): Omit<StarPoint, "step"> {
  const path = (head?.losses ?? []).slice(equals).map((nats) => nats ?? NaN);
  return { loss: meanOf(path), firstStep: head?.accuracies[equals + 1] ?? NaN };
}
