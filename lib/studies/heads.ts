// Which family of heads, and which weights of their losses, serve a small model of bytes best?
import type { Device } from "../device.js";
import { type ModelOptions, sameSize } from "../mtp/config.js";
import { estimateMemory } from "../train/memory.js";
import { runHeads, type HeadResult, type HeadSettings, type Weighting } from "./heads-cell.js";
import { summariseHeads } from "./heads-summary.js";
import { countParameters, narrowed } from "./models.js";
import type { CellPlan, Study, StudySize } from "./study.js";

interface Size {
  readonly hiddenSize: number;
  readonly layers: number;
  readonly steps: number;
  readonly batchSize: number;
  readonly contextLength: number;
  readonly evalBatches: number | null;
}

const futureTokens = 4;

const small = { hiddenSize: 32, layers: 5, batchSize: 4, contextLength: 64 };
const large = { hiddenSize: 48, layers: 6, batchSize: 16, contextLength: 128 };
const sizes: Readonly<Record<StudySize, Size>> = {
  quick: { ...small, steps: 40, evalBatches: 2 },
  minute: { ...large, steps: 60, evalBatches: 20 },
  full: { ...large, steps: 2200, evalBatches: null },
  long: { ...large, hiddenSize: 64, steps: 4400, evalBatches: null },
};

export const headsStudy: Study<HeadSettings, HeadResult> = {
  name: "heads",
  title: "Head families and weights",
  question: "Which family of heads, and which weights of their losses, serve a small model of bytes best?",
  source: "families: arXiv 2404.19737, alternative architectures; curricula: arXiv 2505.22757",
  revision: 1,
  seeds: { quick: 2, minute: 2, full: 3, long: 5 },
  configurations: (size) => {
    const { steps, batchSize, contextLength, evalBatches } = sizes[size];
    const common = { steps, batchSize, contextLength, evalBatches, learningRate: 3e-3, dtype: "bf16" as const };
    const { single, parallel, causal, anticausal, linear, none } = modelsOf(sizes[size]);
    const family = (label: string, model: ModelOptions): HeadSettings => ({
      ...{ label, group: "family", model, weighting: "equal", ...common },
    });
    const weighted = (label: string, weighting: Weighting): HeadSettings => ({
      ...{ label, group: "weights", model: parallel, weighting, ...common },
    });
    return [
      { ...family("n = 1", single), group: "single" },
      ...[family("parallel", parallel), family("causal", causal), family("anticausal", anticausal)],
      ...[family("linear", linear), family("none", none)],
      ...[weighted("mean", "mean"), weighted("geometric", "geometric")],
      ...[weighted("forward curriculum", "forward"), weighted("reverse curriculum", "reverse")],
    ];
  },
  describe: ({ label }) => label,
  plan,
  runCell: runHeads,
  summarise: summariseHeads,
};

/** Models of as many parameters as the parallel one: heads that are no layers leave theirs to the trunk. */
function modelsOf({ hiddenSize, layers, contextLength }: Size) {
  const parallel: ModelOptions = {
    ...{
      vocabSize: 256,
      hiddenSize,
      trunkLayers: layers - futureTokens,
      futureTokens,
      headFamily: "parallel" as const,
    },
    ...{ numAttentionHeads: 2, intermediateSize: 3 * hiddenSize, maxPositions: contextLength },
  };
  const wanted = countParameters(parallel);
  const trunk = { ...parallel, trunkLayers: layers };
  return {
    parallel,
    single: sameSize(parallel, 1),
    causal: { ...parallel, headFamily: "causal" as const },
    anticausal: { ...parallel, headFamily: "anticausal" as const },
    linear: narrowed({ ...trunk, headFamily: "linear" }, wanted),
    none: narrowed({ ...trunk, headFamily: "none", unembedding: "replicated" }, wanted),
  };
}

function plan({ model, batchSize, contextLength, steps, dtype }: HeadSettings, device: Device): CellPlan {
  const { peakBytes, parameters } = estimateMemory(model, { batchSize, contextLength, dtype, device });
  return { peakBytes, parameters, tokens: steps * batchSize * contextLength };
}
