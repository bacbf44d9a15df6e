// A model's settings: their defaults, what is refused, and sizes at equal parameters.
import type { z } from "zod";
import { ForetokenError } from "../errors.js";
import { lazySchema, parseOptions } from "../validation.js";

const schema = lazySchema((z) => {
  const count = z.int().positive();
  return z.strictObject({
    vocabSize: count,
    hiddenSize: count,
    trunk: z.enum(["transformer", "rnn"]).default("transformer"),
    trunkLayers: z.int().nonnegative().optional(),
    numAttentionHeads: count.optional(),
    numKeyValueHeads: count.optional(),
    intermediateSize: count.optional(),
    maxPositions: count.default(2048),
    ropeTheta: z.number().positive().default(10000),
    rmsNormEps: z.number().positive().default(1e-5),
    initializerRange: z.number().positive().default(0.02),
    futureTokens: count.default(4),
    headFamily: z.enum(["parallel", "causal", "anticausal", "linear", "none"]).optional(),
    unembedding: z.enum(["shared", "replicated"]).optional(),
    unembeddingBias: z.boolean().default(false),
    finalNorm: z.boolean().optional(),
    embeddingSize: count.optional(),
    tieWordEmbeddings: z.boolean().default(false),
  });
});

/** What a person writes; every field but hiddenSize has a default (vocabSize: the tokenizer's). */
export type ModelOptions = Omit<z.input<ReturnType<typeof schema>>, "vocabSize"> & { vocabSize?: number | undefined };

export type HeadFamily = "parallel" | "causal" | "anticausal" | "linear" | "none";

/** Every setting, resolved. */
export interface ModelConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly trunk: "transformer" | "rnn";
  /** Transformer layers in the trunk; the heads' own layers come on top. 1 for an RNN. */
  readonly trunkLayers: number;
  readonly numAttentionHeads: number;
  readonly numKeyValueHeads: number;
  readonly intermediateSize: number;
  readonly maxPositions: number;
  readonly ropeTheta: number;
  readonly rmsNormEps: number;
  readonly initializerRange: number;
  /** n: how many next tokens are predicted at once. */
  readonly futureTokens: number;
  readonly headFamily: HeadFamily;
  readonly unembedding: "shared" | "replicated";
  readonly unembeddingBias: boolean;
  readonly finalNorm: boolean;
  readonly embeddingSize: number;
  readonly tieWordEmbeddings: boolean;
}

function refuse(argument: string, wanted: string, got: string, remedy?: string): never {
  throw new ForetokenError("BAD_CONFIG", { op: "model", argument, wanted, got, remedy });
}

/** Fills in defaults. Throws BAD_CONFIG naming the setting, what is wanted and what was given. */
export function resolveConfig(options: ModelOptions): ModelConfig {
  const o = parseOptions(schema(), options, "BAD_CONFIG", "model");
  const rnn = o.trunk === "rnn";
  const headFamily = o.headFamily ?? (rnn ? "none" : "parallel");
  const numAttentionHeads = o.numAttentionHeads ?? defaultHeads(o.hiddenSize);
  const config: ModelConfig = {
    ...o,
    trunkLayers: o.trunkLayers ?? (rnn ? 1 : 4),
    numAttentionHeads,
    numKeyValueHeads: o.numKeyValueHeads ?? numAttentionHeads,
    intermediateSize: o.intermediateSize ?? Math.ceil((8 * o.hiddenSize) / 3 / 64) * 64,
    headFamily,
    unembedding: o.unembedding ?? (headFamily === "none" && o.futureTokens > 1 ? "replicated" : "shared"),
    finalNorm: o.finalNorm ?? !rnn,
    embeddingSize: o.embeddingSize ?? o.hiddenSize,
  };
  checkTogether(config, o.embeddingSize !== undefined);
  return config;
}

/** Attention heads of width 64 where that divides, else one. */
const defaultHeads = (hiddenSize: number): number => (hiddenSize % 64 === 0 ? hiddenSize / 64 : 1);

function checkTogether(c: ModelConfig, embeddingGiven: boolean): void {
  const layers = c.headFamily === "parallel" || c.headFamily === "causal" || c.headFamily === "anticausal";
  if (c.trunk === "rnn") {
    if (layers)
      refuse(
        "headFamily",
        "none or linear with an RNN trunk",
        c.headFamily,
        "Transformer-layer heads need a transformer trunk.",
      );
    if (c.trunkLayers !== 1) refuse("trunkLayers", "1 with an RNN trunk", String(c.trunkLayers));
  } else {
    if (c.hiddenSize % c.numAttentionHeads !== 0) {
      refuse("numAttentionHeads", `a divisor of hiddenSize ${c.hiddenSize}`, String(c.numAttentionHeads));
    }
    if ((c.hiddenSize / c.numAttentionHeads) % 2 !== 0) {
      refuse("numAttentionHeads", "an even width per attention head", `${c.hiddenSize} / ${c.numAttentionHeads}`);
    }
    if (c.numAttentionHeads % c.numKeyValueHeads !== 0) {
      refuse("numKeyValueHeads", `a divisor of numAttentionHeads ${c.numAttentionHeads}`, String(c.numKeyValueHeads));
    }
    if (embeddingGiven && c.embeddingSize !== c.hiddenSize) {
      refuse("embeddingSize", `hiddenSize ${c.hiddenSize} with a transformer trunk`, String(c.embeddingSize));
    }
    if (c.trunkLayers === 0 && !layers) refuse("trunkLayers", "at least 1 where heads are not layers", "0");
  }
  if (c.headFamily === "none" && c.unembedding === "shared" && c.futureTokens > 1) {
    refuse(
      "unembedding",
      `"replicated" with headFamily "none" and futureTokens ${c.futureTokens}`,
      '"shared"',
      "Shared, all heads would predict the same token.",
    );
  }
  if (c.tieWordEmbeddings && c.embeddingSize !== c.hiddenSize) {
    refuse("tieWordEmbeddings", `embeddingSize equal to hiddenSize ${c.hiddenSize}`, String(c.embeddingSize));
  }
}

/**
 * The same model with n heads and as many parameters: n − 1 layers move from the trunk to the heads ("+0 layers" of
 * arXiv 2404.19737). For transformer-layer heads.
 */
export function sameSize(config: ModelOptions, n: number): ModelOptions {
  const { trunkLayers, futureTokens, headFamily } = resolveConfig({ vocabSize: 1, ...config });
  if (headFamily === "linear" || headFamily === "none") refuse("headFamily", "heads that are layers", headFamily);
  const layers = trunkLayers + futureTokens - n;
  if (!Number.isInteger(n) || n < 1 || layers < 0)
    refuse("futureTokens", `1 to ${trunkLayers + futureTokens}`, String(n));
  return { ...config, futureTokens: n, trunkLayers: layers };
}
