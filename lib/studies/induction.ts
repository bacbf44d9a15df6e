// Who has read a name once can complete it: do several heads help small models to learn that?
import type { Device } from "../device.js";
import { sameSize } from "../mtp/config.js";
import { induction, type InductionOptions } from "../tasks/induction.js";
import { estimateMemory } from "../train/memory.js";
import { contextLength, runInduction, type InductionResult, type InductionSettings } from "./induction-cell.js";
import { summariseInduction } from "./induction-summary.js";
import type { CellPlan, Study, StudySize } from "./study.js";

/** Stories of one kind, and the models that read them. */
interface Part {
  readonly kind: InductionSettings["kind"];
  /** Of trunk and heads together: one of the trunk and one of a head are what induction takes. */
  readonly layers: number;
  readonly hiddenSizes: readonly number[];
  /** n. */
  readonly heads: readonly number[];
  readonly steps: number;
  readonly evalEvery: number;
  readonly evalStories: number;
}

const stories: Readonly<Record<InductionSettings["kind"], InductionOptions>> = {
  tiny: { length: 32, backgroundTokens: 4, firstTokens: 4, secondTokens: 8, names: 2 },
  short: {},
  long: { length: 64, backgroundTokens: 32, firstTokens: 12, secondTokens: 32, names: 4 },
};

/** Steps that give the largest model of a part over 20 tokens per parameter, but for `quick`. */
const parts: Readonly<Record<StudySize, readonly Part[]>> = {
  quick: [{ kind: "tiny", layers: 3, hiddenSizes: [32], heads: [1, 2], steps: 300, evalEvery: 30, evalStories: 100 }],
  minute: [
    { kind: "short", layers: 5, hiddenSizes: [16, 32], heads: [1, 2], steps: 730, evalEvery: 73, evalStories: 200 },
  ],
  full: [
    {
      ...{ kind: "short", layers: 5, hiddenSizes: [8, 12, 16, 24, 32], heads: [1, 2, 4] },
      ...{ steps: 1650, evalEvery: 75, evalStories: 300 },
    },
    {
      ...{ kind: "long", layers: 3, hiddenSizes: [32, 48, 64], heads: [1, 2] },
      ...{ steps: 1400, evalEvery: 70, evalStories: 250 },
    },
  ],
  long: [
    {
      ...{ kind: "short", layers: 5, hiddenSizes: [8, 12, 16, 24, 32, 64], heads: [1, 2, 4] },
      ...{ steps: 2850, evalEvery: 75, evalStories: 500 },
    },
    {
      ...{ kind: "long", layers: 3, hiddenSizes: [32, 48, 64, 96], heads: [1, 2] },
      ...{ steps: 3000, evalEvery: 100, evalStories: 500 },
    },
  ],
};

const batchSize = 32;

export const inductionStudy: Study<InductionSettings, InductionResult> = {
  name: "induction",
  title: "Induction",
  question:
    "Do models that predict several tokens learn sooner, or at smaller sizes, to complete a name they have read?",
  source: "arXiv 2404.19737, section 4.1; the stories are synthetic",
  revision: 1,
  seeds: { quick: 2, minute: 3, full: 6, long: 10 },
  configurations: (size) =>
    parts[size].flatMap((part) =>
      part.hiddenSizes.flatMap((hiddenSize) =>
        part.heads.map((futureTokens) => settingsOf(part, hiddenSize, futureTokens)),
      ),
    ),
  describe: ({ kind, hiddenSize, futureTokens }) => `${kind} stories, d = ${hiddenSize}, n = ${futureTokens}`,
  plan,
  runCell: runInduction,
  summarise: summariseInduction,
};

function settingsOf(
  { kind, layers, steps, evalEvery, evalStories }: Part,
  hiddenSize: number,
  futureTokens: number,
): InductionSettings {
  const { vocabSize, maxLength } = induction(stories[kind]);
  const single = {
    ...{ vocabSize, hiddenSize, trunkLayers: layers - 1, futureTokens: 1, intermediateSize: 2 * hiddenSize },
    ...{ numAttentionHeads: 2, maxPositions: maxLength - 1 },
    // With four attention heads at d = 64, or with smaller start values, the circuit takes more steps than there are.
    initializerRange: 0.09,
  };
  return {
    ...{ kind, story: stories[kind], hiddenSize, futureTokens, model: sameSize(single, futureTokens) },
    ...{ steps, evalEvery, evalStories, batchSize, learningRate: 3e-3 },
  };
}

function plan(settings: InductionSettings, device: Device): CellPlan {
  const shape = { batchSize, contextLength: contextLength(settings), device };
  const { peakBytes, parameters } = estimateMemory(settings.model, shape);
  return { peakBytes, parameters, tokens: settings.steps * batchSize * shape.contextLength };
}
