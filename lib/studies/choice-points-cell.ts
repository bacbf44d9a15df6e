// One cell of the choice points study: a model of n heads learns the process, then its losses and gradients are asked what
// a choice weighs and what two tokens tell of each other.
import { SequenceDataset } from "../io/sequence-dataset.js";
import { DeviceBatch } from "../mtp/batch.js";
import type { ModelOptions } from "../mtp/config.js";
import { LanguageModel } from "../mtp/model.js";
import { PassState, trainPass } from "../mtp/pass.js";
import { owning } from "../scope.js";
import type { Parameter } from "../tape.js";
import { choicePoints, type ChoicePointsOptions, type ChoicePointsTask } from "../tasks/choice-points.js";
import type { TwoTokenEntropies } from "../tasks/entropy.js";
import { taskDataset } from "../tasks/task.js";
import { evaluate } from "../train/evaluate.js";
import { Trainer } from "../train/trainer.js";
import { entropiesOf, pairsOf, type Pair } from "./choice-points-chain.js";
import { exactWeights, trainedWeights, type Said, type TrainedWeight } from "./choice-points-weights.js";
import { meanOf } from "./statistics.js";
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

/** The five entropies of two tokens, nats, means over contexts, and both sides of the identity. */
export interface TwoTokens {
  readonly entropies: TwoTokenEntropies;
  /** H(X) + H(Y). */
  readonly left: number;
  /** H(X|Y) + 2 I(X;Y) + H(Y|X). */
  readonly right: number;
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
  /** (segments) ‖∂L/∂trunk‖ of one choice that was made, root mean square over its ways. */
  readonly trunkGradient: readonly number[];
  /** Exact, counted in held-out sequences, and from heads 1 and 2 where there are two. */
  readonly twoTokens: { readonly exact: TwoTokens; readonly counted: TwoTokens; readonly heads: TwoTokens | null };
}

/** Tokens of the contexts that heads are read behind: over a round, so that nothing more can be known. */
const contextTokens = 14;

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
  const contexts = contextsOf(task, seed, settings.contexts);
  const heads = await readHeads(model, contexts);
  return {
    parameters: model.parameters.count,
    losses: (await evaluate(model, heldOut, shape)).losses,
    floors: task.bayes(futureTokens).losses,
    terms: task.choiceTerms(futureTokens).map(({ terms }) => terms),
    exact: await exactWeights(task, futureTokens, { device, seed }),
    trained: trainedWeights(task, futureTokens, saidOf(contexts, heads)),
    trunkGradient: await trunkGradients(model, task, settings, seed),
    twoTokens: {
      exact: sides(task.twoTokens()),
      counted: countTwoTokens(task, seed, evalSequences),
      heads: futureTokens > 1 ? await headsTwoTokens(model, task, contexts, heads) : null,
    },
  };
}

/** Contexts by their last token, as many of each, from held-out sequences. */
function contextsOf(task: ChoicePointsTask, seed: number, each: number): Int32Array[] {
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

const lastOf = (context: Int32Array): number => context.at(-1) ?? -1;

/** (contexts, n, V): log P of every head behind every context. */
async function readHeads(model: LanguageModel, contexts: readonly Int32Array[]): Promise<Float64Array[][]> {
  const read: Float64Array[][] = [];
  for (let first = 0; first < contexts.length; first += rowsAtOnce)
    read.push(...(await lastLogProbabilities(model, contexts.slice(first, first + rowsAtOnce))));
  return read;
}
const rowsAtOnce = 64;

/** (rows, n, V): log P of every head behind the last token of each row. */
async function lastLogProbabilities(
  model: LanguageModel,
  rows: readonly ArrayLike<number>[],
): Promise<Float64Array[][]> {
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

function saidOf(contexts: readonly Int32Array[], heads: readonly (readonly Float64Array[])[]): Said {
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

const sides = (entropies: TwoTokenEntropies): TwoTokens => {
  const { x, y, xGivenY, yGivenX, mutual } = entropies;
  return { entropies, left: x + y, right: xGivenY + 2 * mutual + yGivenX };
};

/** From how often each two tokens stand behind each in held-out sequences. */
function countTwoTokens(task: ChoicePointsTask, seed: number, count: number): TwoTokens {
  const counts = new Map<string, number>();
  let total = 0;
  for (const { tokens } of task.sequences("eval", { seed, count })) {
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

/**
 * The left side from the losses of heads 1 and 2; the right one from head 1 alone, which says X, then Y behind X: by it
 * P(y) = Σ P(x) P(y|x) and P(x|y) = P(x) P(y|x) / P(y). Means over the process's own X and Y, as losses are.
 */
async function headsTwoTokens(
  model: LanguageModel,
  task: ChoicePointsTask,
  contexts: readonly Int32Array[],
  heads: readonly (readonly Float64Array[])[],
): Promise<TwoTokens> {
  const pairs = pairsOf(task);
  const sums = { x: 0, y: 0, xGivenY: 0, yGivenX: 0, mutual: 0 };
  for (const [i, context] of contexts.entries()) {
    const [first, second] = heads[i] ?? [];
    const same = contexts.filter((other) => lastOf(other) === lastOf(context)).length;
    const ways = Array.from({ length: task.vocabSize }, (_, x) => Int32Array.of(...context, x));
    const behind = (await lastLogProbabilities(model, ways)).map((own) => own[0] ?? new Float64Array());
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

/** (segments) */
async function trunkGradients(
  model: LanguageModel,
  task: ChoicePointsTask,
  settings: ChoicePointsSettings,
  seed: number,
): Promise<number[]> {
  const shape = {
    ...{ batchSize: settings.batchSize, contextLength: contextLength(settings), lookahead: settings.futureTokens },
  };
  const [batch, state] = owning(() => [new DeviceBatch(model.device, shape), new PassState(model)]);
  const sequences = [...task.sequences("eval", { seed, count: settings.evalSequences })].map(({ tokens }) => tokens);
  const norms: number[] = [];
  try {
    for (const { choices, tails } of task.segments) {
      const squares: number[] = [];
      for (const choice of choices) {
        const { items, count } = behindChoice(sequences, choice, tails[0]?.length ?? 0, settings.futureTokens);
        model.parameters.clearGradients();
        state.scale.write(model.heads.map(() => 1 / count));
        for (const host of new SequenceDataset(items, { vocabSize: task.vocabSize }).evalBatches(shape)) {
          batch.write(host);
          trainPass(model, batch, state, true);
        }
        squares.push(await squaredNorm(trunkParameters(model)));
      }
      norms.push(Math.sqrt(meanOf(squares)));
    }
  } finally {
    await model.device.sync();
    batch.dispose();
    state.dispose();
    for (const parameter of model.parameters.all) parameter.releaseGradient();
  }
  return norms;
}

/** Sequences of which only this choice and its tail are targets, where all of n heads ask for it and the tail is whole. */
function behindChoice(
  sequences: readonly Int32Array[],
  choice: number,
  tailLength: number,
  futureTokens: number,
): { items: { tokens: Int32Array; lossMask: Uint8Array }[]; count: number } {
  let count = 0;
  const items = sequences.flatMap((tokens) => {
    const lossMask = new Uint8Array(tokens.length);
    for (let t = futureTokens; t + tailLength < tokens.length; t++) {
      if (tokens[t] !== choice) continue;
      lossMask.fill(1, t, t + tailLength + 1);
      count++;
    }
    return lossMask.includes(1) ? [{ tokens, lossMask }] : [];
  });
  return { items, count };
}

/** What all heads share below them. */
function trunkParameters({ parameters, config }: LanguageModel): Parameter[] {
  const prefixes = [
    "model.embed_tokens.",
    ...Array.from({ length: config.trunkLayers }, (_, i) => `model.layers.${i}.`),
  ];
  return parameters.all.filter(({ name }) => prefixes.some((prefix) => name.startsWith(prefix)));
}

async function squaredNorm(parameters: readonly Parameter[]): Promise<number> {
  let sum = 0;
  for (const { grad } of parameters) for (const value of (await grad?.toFloats()) ?? []) sum += value ** 2;
  return sum;
}
