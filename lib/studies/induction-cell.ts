// One cell of the induction study: a model of one width and number of heads reads stories, none twice.
import type { ModelOptions } from "../mtp/config.js";
import { LanguageModel } from "../mtp/model.js";
import { induction, type InductionOptions } from "../tasks/induction.js";
import { taskDataset, type Task, type TaskSequence } from "../tasks/task.js";
import { evaluate } from "../train/evaluate.js";
import { Trainer } from "../train/trainer.js";
import type { Cell, CellContext } from "./study.js";

export interface InductionSettings {
  /** tiny: 32 tokens and 2 names of 4 × 8; short: 48 tokens and 3 names of 8 × 24; long: 64 and 4 of 12 × 32. */
  readonly kind: "tiny" | "short" | "long";
  readonly story: InductionOptions;
  /** d. */
  readonly hiddenSize: number;
  /** n. */
  readonly futureTokens: number;
  readonly model: ModelOptions;
  readonly steps: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly evalEvery: number;
  readonly evalStories: number;
}

/** On held-out stories after a step: the share of judged tokens that head 1 gets right. */
export interface AccuracyPoint {
  readonly step: number;
  readonly accuracy: number;
}

/** On held-out stories after the last step, head 1 first. */
export interface InductionResult {
  readonly parameters: number;
  readonly curve: readonly AccuracyPoint[];
  /** (n) of all tokens, nats, and what a reader who knows how stories are made pays. */
  readonly losses: readonly number[];
  readonly floors: readonly number[];
  /** (n) shares of judged tokens: the second of a name that the story had in full before. */
  readonly judged: readonly number[];
  /** Of who remembers the story's names and not which of them is being said. */
  readonly guessing: number;
}

/** T: the positions of a story that have a next token. */
export const contextLength = ({ story }: Pick<InductionSettings, "story">): number => induction(story).maxLength - 1;

export async function runInduction(
  { settings, seed }: Cell<InductionSettings>,
  { device, signal }: CellContext,
): Promise<InductionResult> {
  const { story, model: options, futureTokens, steps, batchSize, learningRate, evalEvery, evalStories } = settings;
  const task = induction(story);
  using model = LanguageModel.create(options, { device, seed });
  const judged = taskDataset(task, "eval", { seed, count: evalStories, targets: "judged" });
  const curve: AccuracyPoint[] = [];
  const trainer = new Trainer(model, {
    data: taskDataset(task, "train", { seed, count: steps * batchSize }),
    ...{ evalData: judged, steps, batchSize, contextLength: contextLength(settings), learningRate, evalEvery },
    ...{ seed, signal },
    onEval: ({ step, accuracies }) => curve.push({ step, accuracy: accuracies[0] ?? NaN }),
  });
  await trainer.run();
  const shape = { batchSize, contextLength: contextLength(settings), signal };
  const everything = await evaluate(model, taskDataset(task, "eval", { seed, count: evalStories }), shape);
  return {
    parameters: model.parameters.count,
    curve,
    losses: everything.losses,
    floors: task.bayes(futureTokens).losses,
    judged: (await evaluate(model, judged, shape)).accuracies,
    guessing: guessingAccuracy(task.sequences("eval", { seed, count: evalStories }), secondTokensOf(task)),
  };
}

/** The mean over judged tokens of 1/(names said in full before): which of them comes is equally likely. */
export function guessingAccuracy(sequences: Iterable<TaskSequence>, secondTokens: ReadonlySet<number>): number {
  let [sum, count] = [0, 0];
  for (const { tokens, judged } of sequences) {
    const known = new Set<number>();
    for (const [t, token] of tokens.entries()) {
      if (judged[t] === 1) {
        sum += 1 / known.size;
        count++;
      }
      if (secondTokens.has(token)) known.add(token);
    }
  }
  return sum / count;
}

/** The tokens that close a name. */
export const secondTokensOf = ({ tokenNames }: Task): ReadonlySet<number> =>
  new Set([...tokenNames.keys()].filter((token) => tokenNames[token]?.startsWith("B")));
