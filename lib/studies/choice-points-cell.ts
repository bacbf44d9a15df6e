// One cell of the choice points study: a model of n heads learns the process, then its losses and gradients are asked what
// a choice weighs and what two tokens tell of each other.
import type { ModelOptions } from "../mtp/config.js";
import { LanguageModel } from "../mtp/model.js";
import { choicePoints, type ChoicePointsOptions } from "../tasks/choice-points.js";
import { taskDataset } from "../tasks/task.js";
import { evaluate } from "../train/evaluate.js";
import { Trainer } from "../train/trainer.js";
import {
  contextsOf,
  countTwoTokens,
  headsTwoTokens,
  readLast,
  saidOf,
  sides,
  type Read,
  type TwoTokens,
} from "./choice-points-heads.js";
import { trunkGradients, type TrunkGradient } from "./choice-points-trunk.js";
import { exactWeights, trainedWeights, type TrainedWeight } from "./choice-points-weights.js";
import type { Cell, CellContext } from "./study.js";

export interface ChoicePointsSettings {
  readonly task: ChoicePointsOptions;
  /** n. */
  readonly futureTokens: number;
  readonly model: ModelOptions;
  readonly steps: number;
  readonly batchSize: number;
  readonly learningRate: number;
  /** Held-out sequences that losses, gradients and counts are of. */
  readonly evalSequences: number;
  /** Contexts that end in each token, for what heads say behind it. */
  readonly contexts: number;
}

export interface ChoicePointsResult {
  readonly parameters: number;
  /** (n) held-out loss, nats, and the least possible. */
  readonly losses: readonly number[];
  readonly floors: readonly number[];
  /** (segments) by the count of terms, from the gradient of the exact predictor, and from the trained heads. */
  readonly terms: readonly number[];
  readonly exact: readonly number[];
  readonly trained: readonly TrainedWeight[];
  /** (segments) */
  readonly trunkGradient: readonly TrunkGradient[];
  /** Exact, counted in held-out sequences, and from heads 1 and 2 where there are two. */
  readonly twoTokens: { readonly exact: TwoTokens; readonly counted: TwoTokens; readonly heads: TwoTokens | null };
}

export const contextLength = ({ task }: Pick<ChoicePointsSettings, "task">): number => choicePoints(task).maxLength - 1;

export async function runChoicePoints(
  { settings, seed }: Cell<ChoicePointsSettings>,
  { device, signal }: CellContext,
): Promise<ChoicePointsResult> {
  const { futureTokens, steps, batchSize, learningRate, evalSequences } = settings;
  const task = choicePoints(settings.task);
  using model = LanguageModel.create(settings.model, { device, seed });
  const shape = { batchSize, contextLength: contextLength(settings), signal };
  const data = taskDataset(task, "train", { seed, count: steps * batchSize });
  await new Trainer(model, { data, steps, learningRate, seed, ...shape }).run();
  const heldOut = taskDataset(task, "eval", { seed, count: evalSequences });
  const sequences = [...task.sequences("eval", { seed, count: evalSequences })].map(({ tokens }) => tokens);
  const contexts = contextsOf(task, seed, settings.contexts);
  const read: Read = (rows) => readLast(model, rows);
  return {
    parameters: model.parameters.count,
    losses: (await evaluate(model, heldOut, shape)).losses,
    floors: task.bayes(futureTokens).losses,
    terms: task.choiceTerms(futureTokens).map(({ terms }) => terms),
    exact: await exactWeights(task, futureTokens, { device, seed }),
    trained: trainedWeights(task, futureTokens, saidOf(contexts, await read(contexts))),
    trunkGradient: await trunkGradients(model, task, sequences, { ...shape, lookahead: futureTokens }),
    twoTokens: {
      exact: sides(task.twoTokens()),
      counted: countTwoTokens(sequences),
      heads: futureTokens > 1 ? await headsTwoTokens(task, contexts, read) : null,
    },
  };
}
