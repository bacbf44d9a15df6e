// How much more do several heads' losses ask for a choice that has consequences than for one that has none?
import type { Device } from "../device.js";
import { sameSize } from "../mtp/config.js";
import { choicePoints } from "../tasks/choice-points.js";
import { estimateMemory } from "../train/memory.js";
import {
  contextLength,
  runChoicePoints,
  type ChoicePointsResult,
  type ChoicePointsSettings,
} from "./choice-points-cell.js";
import { summariseChoicePoints } from "./choice-points-summary.js";
import type { CellPlan, Study, StudySize } from "./study.js";

interface Size extends Pick<ChoicePointsSettings, "steps" | "evalSequences" | "contexts"> {
  readonly hiddenSize: number;
  /** b. */
  readonly branches: readonly number[];
  /** n. */
  readonly heads: readonly number[];
}

/** Steps that give over 20 tokens per parameter, but for `quick`. */
const sizes: Readonly<Record<StudySize, Size>> = {
  quick: { branches: [4], heads: [1, 3], hiddenSize: 32, steps: 110, evalSequences: 32, contexts: 1 },
  minute: { branches: [4], heads: [1, 2, 5], hiddenSize: 32, steps: 660, evalSequences: 128, contexts: 2 },
  full: { branches: [2, 4, 8], heads: [1, 2, 3, 4, 5], hiddenSize: 32, steps: 700, evalSequences: 256, contexts: 4 },
  long: { branches: [2, 4, 8], heads: [1, 2, 3, 4, 5], hiddenSize: 32, steps: 2000, evalSequences: 512, contexts: 8 },
};

/** Trunk and heads together: five heads leave the trunk one layer. */
const layers = 6;
const batchSize = 32;

export const choicePointsStudy: Study<ChoicePointsSettings, ChoicePointsResult> = {
  name: "choice-points",
  title: "Choice points",
  question: "How much more do several heads' losses ask for a choice with consequences than for one without?",
  source: "arXiv 2404.19737, sections 5.1 and 5.2 and appendix L.3",
  revision: 1,
  seeds: { quick: 2, minute: 2, full: 8, long: 10 },
  configurations: (size) =>
    sizes[size].branches.flatMap((branches) =>
      sizes[size].heads.map((futureTokens) => settingsOf(sizes[size], branches, futureTokens)),
    ),
  describe: ({ task, futureTokens }) => `b = ${task.branches ?? 4}, n = ${futureTokens}`,
  plan,
  runCell: runChoicePoints,
  summarise: summariseChoicePoints,
};

function settingsOf(
  { hiddenSize, steps, evalSequences, contexts }: Size,
  branches: number,
  futureTokens: number,
): ChoicePointsSettings {
  const { vocabSize, maxLength } = choicePoints({ branches });
  const single = {
    ...{ vocabSize, hiddenSize, trunkLayers: layers - 1, futureTokens: 1, intermediateSize: 2 * hiddenSize },
    ...{ numAttentionHeads: 2, maxPositions: maxLength - 1 },
  };
  return {
    ...{ task: { branches }, futureTokens, model: sameSize(single, futureTokens) },
    ...{ steps, batchSize, learningRate: 3e-3, evalSequences, contexts },
  };
}

function plan(settings: ChoicePointsSettings, device: Device): CellPlan {
  const shape = { batchSize, contextLength: contextLength(settings), device };
  const { peakBytes, parameters } = estimateMemory(settings.model, shape);
  return { peakBytes, parameters, tokens: settings.steps * batchSize * shape.contextLength };
}
