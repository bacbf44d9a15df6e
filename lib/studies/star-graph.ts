// Where predicting the next token learns a shortcut, does predicting the whole path at once find the way?
import type { Device } from "../device.js";
import { type ModelOptions, sameSize } from "../mtp/config.js";
import { estimateMemory } from "../train/memory.js";
import { countParameters } from "./models.js";
import { tokensPerParameterToJudge } from "./runner.js";
import {
  runStar,
  taskOf,
  type StarArm,
  type StarResult,
  type StarSettings,
  type StarShape,
} from "./star-graph-cell.js";
import { armNames, summariseStars } from "./star-graph-summary.js";
import type { CellPlan, Study, StudySize } from "./study.js";

interface Size {
  readonly degrees: readonly number[];
  readonly pathLengths: readonly number[];
  readonly labels: number;
  /** At the least; more where the models would else see too little. */
  readonly steps: number;
  readonly tokensPerParameter: number;
  readonly batchSize: number;
  readonly evalEvery: number;
  /** Held-out graphs. */
  readonly graphs: number;
}

const first = { degrees: [2], pathLengths: [3], labels: 12, batchSize: 32, tokensPerParameter: 0 };
const judged = { labels: 12, batchSize: 32, tokensPerParameter: tokensPerParameterToJudge };
const sizes: Readonly<Record<StudySize, Size>> = {
  quick: { ...first, labels: 8, steps: 60, evalEvery: 30, graphs: 60 },
  minute: { ...first, steps: 800, evalEvery: 50, graphs: 200 },
  full: { ...judged, degrees: [2, 3], pathLengths: [3, 4], steps: 4500, evalEvery: 150, graphs: 400 },
  long: { ...judged, degrees: [2, 3], pathLengths: [3, 4, 5], labels: 14, steps: 12_000, evalEvery: 300, graphs: 400 },
};

const hiddenSize = 48;
const arms: readonly StarArm[] = ["single", "parallel", "anticausal", "reverse"];

export const starGraphStudy: Study<StarSettings, StarResult> = {
  name: "star-graph",
  title: "Paths in star graphs",
  question: "Where next-token training learns the shortcut, does predicting the whole path at once find the way?",
  source: "arXiv 2403.06963, section 4; several heads in place of teacherless training are ours",
  revision: 1,
  seeds: { quick: 2, minute: 3, full: 3, long: 3 },
  configurations: (size) => {
    const { degrees, pathLengths, steps, tokensPerParameter, ...each } = sizes[size];
    return degrees.flatMap((degree) =>
      pathLengths.flatMap((pathLength) =>
        arms.map((arm) => {
          const futureTokens = arm === "parallel" || arm === "anticausal" ? pathLength : 1;
          const shape = { arm, degree, pathLength, futureTokens, labels: each.labels };
          const model = modelOf(shape);
          const settings = { ...shape, model, ...each, learningRate: 3e-3 };
          return { ...settings, steps: Math.max(steps, stepsToRead(settings, tokensPerParameter)) };
        }),
      ),
    );
  },
  describe: ({ arm, degree, pathLength }) => `degree ${degree}, length ${pathLength}, ${armNames[arm]}`,
  plan,
  runCell: runStar,
  summarise: summariseStars,
};

/** As many layers as the path has nodes, and two: with a head for each node two are left to the trunk. */
function modelOf(shape: StarShape): ModelOptions {
  const task = taskOf(shape);
  const single: ModelOptions = {
    ...{ vocabSize: task.vocabSize, hiddenSize, trunkLayers: shape.pathLength + 1, futureTokens: 1 },
    ...{ numAttentionHeads: 3, intermediateSize: 3 * hiddenSize, maxPositions: task.maxLength, initializerRange: 0.08 },
  };
  const headFamily = shape.arm === "anticausal" ? "anticausal" : "parallel";
  return sameSize({ ...single, headFamily }, shape.futureTokens);
}

/** Tokens that a step reads. */
const tokensOf = (settings: Omit<StarSettings, "steps">): number =>
  settings.batchSize * (taskOf(settings).maxLength - 1);

/** Until so many tokens are read for each parameter, in whole evaluations. */
function stepsToRead(settings: Omit<StarSettings, "steps">, tokensPerParameter: number): number {
  const steps = (tokensPerParameter * countParameters(settings.model)) / tokensOf(settings);
  return Math.ceil(steps / settings.evalEvery) * settings.evalEvery;
}

function plan(settings: StarSettings, device: Device): CellPlan {
  const { model, batchSize, steps } = settings;
  const contextLength = taskOf(settings).maxLength - 1;
  const { peakBytes, parameters } = estimateMemory(model, { batchSize, contextLength, dtype: "bf16", device });
  return { peakBytes, parameters, tokens: steps * tokensOf(settings) };
}
