// A tiny model and data that it can learn.
import type { DatasetItem } from "../../lib/io/dataset.js";
import type { ModelOptions } from "../../lib/mtp/config.js";

export const tinyModel: ModelOptions = {
  vocabSize: 256,
  hiddenSize: 32,
  trunkLayers: 1,
  numAttentionHeads: 2,
  maxPositions: 32,
  futureTokens: 3,
};

/** Documents that count upward in steps of 1, 2 or 3. */
export const exampleTokens = (count = 40): DatasetItem[] =>
  Array.from({ length: count }, (_, document) => ({
    tokens: Array.from({ length: 50 + document }, (_, i) => 1 + ((document * 31 + i * (1 + (document % 3))) % 255)),
  }));
