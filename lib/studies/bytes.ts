// What several heads cost a small model of bytes, and what they gain when it writes.
import type { Device } from "../device.js";
import { type ModelOptions, sameSize } from "../mtp/config.js";
import { estimateMemory } from "../train/memory.js";
import { runBytes, type ByteResult, type ByteTraining, type Corpus } from "./bytes-cell.js";
import { summariseBytes, type ByteSettings } from "./bytes-summary.js";
import { countParameters, narrowed } from "./models.js";
import type { CellPlan, Study, StudySize } from "./study.js";

interface Size extends Pick<ByteTraining, "steps" | "batchSize" | "contextLength" | "evalBatches" | "decoding"> {
  readonly hiddenSize: number;
  readonly replicated: readonly number[];
  readonly prose: readonly number[];
}

/** One trunk layer is left with eight heads. */
const layers = 9;

const large = {
  ...{ hiddenSize: 48, batchSize: 8, contextLength: 256, evalBatches: null },
  decoding: { prompts: 6, promptLength: 64, newTokens: 190, rounds: 5 },
};
const sizes: Readonly<Record<StudySize, Size>> = {
  quick: {
    ...{ hiddenSize: 32, steps: 16, batchSize: 4, contextLength: 64, evalBatches: 4, replicated: [4], prose: [1, 4] },
    decoding: { prompts: 2, promptLength: 16, newTokens: 24, rounds: 2 },
  },
  minute: { ...large, steps: 120, evalBatches: 20, replicated: [4], prose: [1, 4] },
  full: { ...large, steps: 2400, replicated: [2, 4, 8], prose: [1, 2, 4, 8] },
  long: { ...large, hiddenSize: 64, steps: 5000, replicated: [2, 4, 8], prose: [1, 2, 4, 8] },
};

export const byteStudy: Study<ByteSettings, ByteResult> = {
  name: "bytes",
  title: "Bytes of code and prose",
  question:
    "What do 2, 4 and 8 heads cost a small model of bytes at equal parameters, and how much faster does it write?",
  source: "arXiv 2404.19737, 3.3 (bytes) and 3.2 (speed)",
  revision: 1,
  seeds: { quick: 2, minute: 2, full: 3, long: 5 },
  configurations: (size) => {
    const { replicated, prose } = sizes[size];
    return [
      ...[1, 2, 4, 8].map((n) => settingsOf(size, "code", n, "shared")),
      ...replicated.map((n) => settingsOf(size, "code", n, "replicated")),
      ...prose.map((n) => settingsOf(size, "prose", n, "shared")),
    ];
  },
  describe: ({ corpus, model, unembedding }) =>
    `${corpus}, n = ${model.futureTokens}${unembedding === "replicated" ? ", replicated" : ""}`,
  plan: planBytes,
  runCell: runBytes,
  summarise: summariseBytes,
};

function settingsOf(size: StudySize, corpus: Corpus, n: number, unembedding: "shared" | "replicated"): ByteSettings {
  const { steps, batchSize, contextLength, evalBatches, decoding } = sizes[size];
  return {
    ...{ corpus, unembedding, model: byteModel(sizes[size], n, unembedding), grownBy: 0, steps, batchSize },
    ...{ contextLength, learningRate: 3e-3, dtype: "bf16", evalBatches, decoding },
  };
}

/** n heads at the parameters of one: layers move from the trunk; unembeddings of their own are paid for in width. */
export function byteModel(
  { hiddenSize, contextLength }: Pick<Size, "hiddenSize" | "contextLength">,
  n: number,
  unembedding: "shared" | "replicated",
): ModelOptions {
  const single: ModelOptions = {
    ...{ vocabSize: 256, hiddenSize, trunkLayers: layers - 1, futureTokens: 1, numAttentionHeads: 2 },
    ...{ intermediateSize: 2 * hiddenSize, maxPositions: contextLength },
  };
  const model = sameSize(single, n);
  return unembedding === "shared" ? model : narrowed({ ...model, unembedding }, countParameters(single));
}

export function planBytes({ model, batchSize, contextLength, steps, dtype }: ByteTraining, device: Device): CellPlan {
  const { peakBytes, parameters } = estimateMemory(model, { batchSize, contextLength, dtype, device });
  return { peakBytes, parameters, tokens: steps * batchSize * contextLength };
}
