// The notebook's experiment: does a model that predicts three values of a progression learn from fewer sequences than one
// that predicts the next?
import type { Device } from "../device.js";
import { type ModelOptions, sameSize } from "../mtp/config.js";
import { estimateMemory } from "../train/memory.js";
import {
  adam,
  runProgression,
  sequenceLength,
  trainedPositions,
  type CurvePoint,
  type ProgressionResult,
  type ProgressionSettings,
  type TrunkName,
} from "./progressions-cell.js";
import { summariseProgressions } from "./progressions-summary.js";
import type { CellPlan, Study, StudySize } from "./study.js";

const rnn: ModelOptions = {
  trunk: "rnn",
  vocabSize: 50,
  embeddingSize: 32,
  hiddenSize: 64,
  unembeddingBias: true,
  maxPositions: sequenceLength,
};

const transformer: ModelOptions = {
  vocabSize: 50,
  hiddenSize: 32,
  trunkLayers: 3,
  futureTokens: 1,
  numAttentionHeads: 2,
  intermediateSize: 64,
  maxPositions: sequenceLength,
};

/** The RNN's further heads are unembeddings of their own; the transformer's are layers that its trunk gives up. */
const modelOf = (trunk: TrunkName, futureTokens: number): ModelOptions =>
  trunk === "rnn" ? { ...rnn, futureTokens } : sameSize(transformer, futureTokens);

/** Steps that give both trunks over 20 tokens per parameter, but for `quick`. */
const steps: Readonly<Record<StudySize, Readonly<Record<TrunkName, number>>>> = {
  quick: { rnn: 120, transformer: 60 },
  minute: { rnn: 800, transformer: 1650 },
  full: { rnn: 1000, transformer: 2000 },
  long: { rnn: 4000, transformer: 8000 },
};

const amounts: Readonly<Record<StudySize, readonly number[]>> = {
  quick: [10, 40],
  minute: [10, 40],
  full: [5, 10, 20, 30, 40],
  long: [5, 10, 15, 20, 25, 30, 35, 40],
};

export const progressionsStudy: Study<ProgressionSettings, ProgressionResult> = {
  name: "progressions",
  title: "Arithmetic progressions",
  question: "Does predicting three values at once teach a progression's rule from fewer sequences than predicting one?",
  source: "the notebook of multi-token prediction (RNN, 50 sequences); a transformer is ours",
  revision: 1,
  seeds: { quick: 2, minute: 2, full: 10, long: 20 },
  configurations: (size) =>
    (["rnn", "transformer"] as const).flatMap((trunk) =>
      amounts[size].flatMap((sequences) =>
        [1, 3].map((futureTokens) => ({
          ...{ trunk, model: modelOf(trunk, futureTokens), futureTokens, sequences, steps: steps[size][trunk] },
          ...{ batchSize: 32, learningRate: 3e-3, evalEvery: 10 },
        })),
      ),
    ),
  describe: ({ trunk, futureTokens, sequences }) => `${trunk}, n = ${futureTokens}, ${sequences} sequences`,
  plan,
  runCell: runProgression,
  abridge: (result) => ({ ...result, curve: result.curve.filter(isShown) }),
  summarise: summariseProgressions,
};

/** Steps 10, 20 … 90, 100, 200 … 900, 1000 …, and the last. */
const isShown = ({ step }: CurvePoint, i: number, curve: readonly CurvePoint[]): boolean =>
  Number(step.toPrecision(1)) === step || i === curve.length - 1;

function plan({ model, futureTokens, batchSize, steps }: ProgressionSettings, device: Device): CellPlan {
  const contextLength = trainedPositions(futureTokens);
  const { peakBytes, parameters } = estimateMemory(model, { batchSize, contextLength, device, ...adam });
  return { peakBytes, parameters, tokens: steps * batchSize * contextLength };
}
