// Can a short run tell how many heads a model should have, and what if their number grows while it learns?
import { byteModel, planBytes } from "./bytes.js";
import type { ByteTraining } from "./bytes-cell.js";
import { runHowMany, type HowManyResult, type HowManySettings } from "./how-many-heads-cell.js";
import { summariseHowMany } from "./how-many-heads-summary.js";
import type { Study, StudySize } from "./study.js";

interface Size extends Pick<ByteTraining, "steps" | "batchSize" | "contextLength" | "evalBatches" | "decoding"> {
  readonly hiddenSize: number;
  readonly shares: readonly number[];
}

const large = {
  ...{ hiddenSize: 48, batchSize: 8, contextLength: 256, evalBatches: null, shares: [0.05, 0.1, 0.2] },
  decoding: { prompts: 6, promptLength: 64, newTokens: 190, rounds: 5 },
};
const sizes: Readonly<Record<StudySize, Size>> = {
  quick: {
    ...{ hiddenSize: 32, steps: 16, batchSize: 4, contextLength: 64, evalBatches: 4, shares: [0.25, 0.5] },
    decoding: { prompts: 2, promptLength: 16, newTokens: 24, rounds: 2 },
  },
  minute: { ...large, steps: 60, evalBatches: 20, shares: [0.1, 0.2] },
  full: { ...large, steps: 2400 },
  long: { ...large, hiddenSize: 64, steps: 5000 },
};

/** By when all heads take part of those that come one after the other. */
const grownBy = 0.5;

export const howManyHeadsStudy: Study<HowManySettings, HowManyResult> = {
  name: "how-many-heads",
  title: "How many heads",
  question: "Does a short run of each number of heads tell which to train, and is a number that grows as good?",
  source: "arXiv 2404.19737, 3.3 (the best n differs by task and size); growing numbers: arXiv 2505.22757",
  revision: 1,
  seeds: { quick: 2, minute: 2, full: 4, long: 5 },
  configurations: (size) => [
    ...[1, 2, 4, 8].map((n) => ({ training: trainingOf(size, n, 0), shares: sizes[size].shares })),
    ...[4, 8].map((n) => ({ training: trainingOf(size, n, grownBy), shares: [] })),
  ],
  describe: ({ training }) => `n = ${training.model.futureTokens}${training.grownBy > 0 ? ", growing" : ""}`,
  plan: ({ training }, device) => planBytes(training, device),
  runCell: runHowMany,
  summarise: summariseHowMany,
};

function trainingOf(size: StudySize, n: number, grownBy: number): ByteTraining {
  const { steps, batchSize, contextLength, evalBatches, decoding } = sizes[size];
  return {
    ...{ corpus: "code", model: byteModel(sizes[size], n, "shared"), grownBy, steps, batchSize, contextLength },
    ...{ learningRate: 3e-3, dtype: "bf16", evalBatches, decoding },
  };
}
