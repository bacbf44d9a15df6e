// Do further heads, or time to think, teach small models to calculate?
import type { Device } from "../device.js";
import { type ModelOptions, sameSize } from "../mtp/config.js";
import { polynomialArithmetic } from "../tasks/polynomial.js";
import { estimateMemory } from "../train/memory.js";
import { runPolynomial, type PolynomialResult, type PolynomialSettings } from "./polynomials-cell.js";
import { summarisePolynomials } from "./polynomials-summary.js";
import type { CellPlan, Study, StudySize } from "./study.js";

interface Size {
  readonly hiddenSize: number;
  readonly layers: number;
  readonly steps: number;
  readonly batchSize: number;
  readonly contextLength: number;
  readonly evalEvery: number;
  readonly questions: number;
}

const small = { hiddenSize: 32, layers: 5, batchSize: 4, contextLength: 64 };
const large = { hiddenSize: 64, layers: 6, batchSize: 16, contextLength: 128 };
const sizes: Readonly<Record<StudySize, Size>> = {
  quick: { ...small, steps: 20, evalEvery: 10, questions: 8 },
  minute: { ...large, steps: 120, evalEvery: 20, questions: 40 },
  full: { ...large, steps: 4500, evalEvery: 250, questions: 300 },
  long: { ...large, steps: 20_000, evalEvery: 500, questions: 500 },
};

const heads = [1, 2, 4] as const;
const pauses = [0, 4] as const;

export const polynomialsStudy: Study<PolynomialSettings, PolynomialResult> = {
  name: "polynomials",
  title: "Arithmetic with polynomials",
  question: "Do further heads, or pause tokens before the answer, teach small models to calculate in F₇[X]/(X⁵)?",
  source: "arXiv 2404.19737, section 4.2",
  revision: 2,
  seeds: { quick: 2, minute: 2, full: 3, long: 3 },
  configurations: (size) => {
    const { hiddenSize, layers, ...each } = sizes[size];
    return pauses.flatMap((pauseTokens) =>
      heads.map((futureTokens) => ({
        ...{ model: modelOf(hiddenSize, layers, futureTokens), futureTokens, pauseTokens },
        ...{ ...each, learningRate: 3e-3 },
      })),
    );
  },
  describe: ({ futureTokens, pauseTokens }) =>
    `n = ${futureTokens}, ${pauseTokens === 0 ? "no" : pauseTokens} pause tokens`,
  plan,
  runCell: runPolynomial,
  summarise: summarisePolynomials,
};

function modelOf(hiddenSize: number, layers: number, futureTokens: number): ModelOptions {
  const single: ModelOptions = {
    ...{ vocabSize: polynomialArithmetic().vocabSize, hiddenSize, trunkLayers: layers - 1, futureTokens: 1 },
    ...{ numAttentionHeads: 4, intermediateSize: 3 * hiddenSize, maxPositions: 128, initializerRange: 0.06 },
  };
  return sameSize(single, futureTokens);
}

function plan({ model, batchSize, contextLength, steps }: PolynomialSettings, device: Device): CellPlan {
  const { peakBytes, parameters } = estimateMemory(model, { batchSize, contextLength, dtype: "bf16", device });
  return { peakBytes, parameters, tokens: steps * batchSize * contextLength };
}
