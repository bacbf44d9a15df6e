// Where predicting the next token learns a shortcut, does predicting the whole path at once find the way?
import type { Device } from "../device.js";
import { type ModelOptions, sameSize } from "../mtp/config.js";
import { estimateMemory } from "../train/memory.js";
import { runStar, taskOf, type StarArm, type StarResult, type StarSettings } from "./star-graph-cell.js";
import { armNames, summariseStars } from "./star-graph-summary.js";
import type { CellPlan, Study, StudySize } from "./study.js";

interface Size {
  readonly degrees: readonly number[];
  readonly pathLengths: readonly number[];
  readonly labels: number;
  readonly steps: number;
  readonly batchSize: number;
  readonly evalEvery: number;
  readonly graphs: number;
}

const common = { degrees: [2], pathLengths: [3], labels: 20, batchSize: 32 };
const sizes: Readonly<Record<StudySize, Size>> = {
  quick: { ...common, labels: 8, steps: 60, evalEvery: 30, graphs: 60 },
  minute: { ...common, steps: 900, evalEvery: 50, graphs: 200 },
  full: { ...common, degrees: [2, 3], pathLengths: [3, 4, 5], steps: 3000, evalEvery: 100, graphs: 400 },
  long: { ...common, degrees: [2, 3, 4], pathLengths: [3, 4, 5], steps: 8000, evalEvery: 200, graphs: 400 },
};

const hiddenSize = 32;
const arms: readonly StarArm[] = ["single", "parallel", "anticausal", "reverse"];

export const starGraphStudy: Study<StarSettings, StarResult> = {
  name: "star-graph",
  title: "Paths in star graphs",
  question: "Where next-token training learns the shortcut, does predicting the whole path at once find the way?",
  source: "arXiv 2403.06963, section 4; several heads in place of teacherless training are ours",
  revision: 1,
  seeds: { quick: 2, minute: 2, full: 4, long: 5 },
  configurations: (size) => {
    const { degrees, pathLengths, ...each } = sizes[size];
    return degrees.flatMap((degree) =>
      pathLengths.flatMap((pathLength) =>
        arms.map((arm) => {
          const futureTokens = arm === "parallel" || arm === "anticausal" ? pathLength : 1;
          const settings = { arm, degree, pathLength, futureTokens, ...each, learningRate: 4e-3 };
          return { ...settings, model: modelOf(settings) };
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
function modelOf(settings: Omit<StarSettings, "model">): ModelOptions {
  const task = taskOf(settings);
  const single: ModelOptions = {
    ...{ vocabSize: task.vocabSize, hiddenSize, trunkLayers: settings.pathLength + 1, futureTokens: 1 },
    ...{ numAttentionHeads: 2, intermediateSize: 3 * hiddenSize, maxPositions: task.maxLength, initializerRange: 0.1 },
  };
  const headFamily = settings.arm === "anticausal" ? "anticausal" : "parallel";
  return sameSize({ ...single, headFamily }, settings.futureTokens);
}

function plan(settings: StarSettings, device: Device): CellPlan {
  const { model, batchSize, steps } = settings;
  const contextLength = taskOf(settings).maxLength - 1;
  const { peakBytes, parameters } = estimateMemory(model, { batchSize, contextLength, dtype: "bf16", device });
  return { peakBytes, parameters, tokens: steps * batchSize * contextLength };
}
