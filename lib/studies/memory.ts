// What do the order of the heads and the fused loss save, in bytes and in time, each alone and both together?
import type { Device } from "../device.js";
import { arms } from "./memory-arms.js";
import { predict, runMemory, type MemoryResult, type MemorySettings } from "./memory-cell.js";
import { summariseMemory } from "./memory-summary.js";
import type { CellPlan, Study, StudySize } from "./study.js";

interface Size {
  readonly hiddenSize: number;
  readonly heads: readonly number[];
  readonly vocabularies: readonly number[];
  readonly batchSize: number;
  readonly contextLength: number;
  readonly rounds: number;
}

const large = {
  ...{ hiddenSize: 128, heads: [1, 2, 4, 8], batchSize: 4, contextLength: 128 },
  vocabularies: [256, 1024, 4096, 16384, 32768, 131072],
};
const sizes: Readonly<Record<StudySize, Size>> = {
  quick: { hiddenSize: 32, heads: [1, 2, 4], vocabularies: [256, 2048], batchSize: 2, contextLength: 32, rounds: 3 },
  minute: { ...large, hiddenSize: 64, vocabularies: [256, 4096, 32768], contextLength: 64, rounds: 3 },
  full: { ...large, rounds: 7 },
  long: { ...large, hiddenSize: 256, rounds: 15 },
};

export const memoryStudy: Study<MemorySettings, MemoryResult> = {
  name: "memory",
  title: "Memory of a training step",
  question: "What do the order of the heads and the fused loss save, each alone and both together?",
  source: "order: arXiv 2404.19737, section 2; fused loss: arXiv 2411.09009, 2410.10989",
  revision: 1,
  learns: false,
  seeds: { quick: 2, minute: 3, full: 5, long: 5 },
  configurations: (size) => {
    const { hiddenSize, heads, vocabularies, batchSize, contextLength, rounds } = sizes[size];
    const model = { hiddenSize, trunkLayers: 2, numAttentionHeads: 2, maxPositions: contextLength };
    const [most, largest] = [Math.max(...heads), Math.max(...vocabularies)];
    return vocabularies.flatMap((vocabSize) =>
      heads.map((futureTokens) => ({
        ...{ model: { ...model, vocabSize, futureTokens }, batchSize, contextLength, rounds },
        timeline: futureTokens === most && vocabSize === largest,
      })),
    );
  },
  describe: ({ model }) => `V = ${model.vocabSize ?? 0}, n = ${model.futureTokens ?? 1}`,
  plan,
  runCell: runMemory,
  abridge: ({ arms: measured, ...rest }) => ({
    ...rest,
    arms: Object.fromEntries(arms.map((arm) => [arm, { ...measured[arm], timeline: undefined }])),
  }),
  summarise: summariseMemory,
};

function plan(settings: MemorySettings, device: Device): CellPlan {
  const predictions = arms.map((arm) => predict(settings, arm, device));
  return {
    peakBytes: Math.max(...predictions.map(({ peakBytes }) => peakBytes)),
    parameters: predictions[0]?.parameters ?? 0,
    tokens: (settings.rounds + 1) * arms.length * settings.batchSize * settings.contextLength,
  };
}
