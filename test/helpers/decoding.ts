// Models to decode with, and numbers to decode from.
import type { ModelOptions } from "../../lib/mtp/config.js";

/** A small model of every head family and trunk. Wide start values: texts that do not repeat one token. */
export function families(size: {
  vocabSize: number;
  heads: number;
  maxPositions: number;
}): Record<"parallel" | "causal" | "anticausal" | "linear" | "none" | "replicated" | "rnn", ModelOptions> {
  const { vocabSize, heads: futureTokens, maxPositions } = size;
  const transformer = {
    ...{ vocabSize, futureTokens, maxPositions, hiddenSize: 32, intermediateSize: 48, trunkLayers: 1 },
    ...{ numAttentionHeads: 4, numKeyValueHeads: 2, initializerRange: 0.4 },
  };
  return {
    parallel: { ...transformer, headFamily: "parallel" },
    causal: { ...transformer, headFamily: "causal" },
    anticausal: { ...transformer, headFamily: "anticausal" },
    linear: { ...transformer, headFamily: "linear" },
    none: { ...transformer, headFamily: "none", unembedding: "replicated" },
    replicated: { ...transformer, headFamily: "parallel", unembedding: "replicated", unembeddingBias: true },
    rnn: {
      ...{ vocabSize, futureTokens, maxPositions, hiddenSize: 32, embeddingSize: 16, trunk: "rnn" },
      ...{ headFamily: "none", unembedding: "replicated", unembeddingBias: true },
    },
  };
}

/** Numbers in [0, 1), the same for a seed (mulberry32). */
export function uniform(seed: number): () => number {
  let state = Math.imul(seed + 1, 0x9e3779b1);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function randomTokens(count: number, vocabSize: number, seed: number): number[] {
  const random = uniform(seed);
  return Array.from({ length: count }, () => Math.floor(random() * vocabSize));
}
