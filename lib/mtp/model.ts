// LanguageModel: trunk, heads, unembedding; forward, training pass, evaluation pass.
import type { Device, DType } from "../device.js";
import { openDevice } from "../device.js";
import { ForetokenError } from "../errors.js";
import { diskFileSystem } from "../io/files.js";
import { saveFolderAtomically } from "../io/save.js";
import type { Tokenizer } from "../io/tokenizer.js";
import { identityHead, LinearHead } from "../nn/simple-heads.js";
import type { Module, SequenceContext, Trunk } from "../nn/module.js";
import { ParameterStore } from "../nn/parameters.js";
import { TransformerLayer, type TransformerSize } from "../nn/transformer.js";
import { RnnTrunk, TransformerTrunk } from "../nn/trunk.js";
import { linear } from "../ops/linear.js";
import { rmsNorm } from "../ops/rms-norm.js";
import { scope } from "../scope.js";
import type { Parameter } from "../tape.js";
import { Tensor, tensor } from "../tensor.js";
import { resolveConfig, type ModelConfig, type ModelOptions } from "./config.js";
import { modelFiles, readCheckpointHeader, readWeights } from "./files.js";
import type { Topology } from "./heads.js";

export interface ModelSettings {
  /** Default: openDevice(). */
  device?: Device | undefined;
  tokenizer?: Tokenizer | undefined;
  /** dtype of kernels' inputs: "bf16" (masters stay f32) or "f32"; "f64" on the generic CPU level, for checking. Default "f32". */
  dtype?: "f32" | "bf16" | "f64" | undefined;
  /** Start values are a function of it. Default 0. */
  seed?: number | undefined;
}

/** The unembedding of one head. */
export interface Unembedding {
  readonly weight: Parameter;
  readonly bias?: Parameter | undefined;
}

/** One prediction head: its own module and the unembedding it reads out through. */
export interface PredictionHead {
  /** i: predicts the token i places ahead, from 1. */
  readonly ahead: number;
  readonly module: Module;
  readonly unembedding: Unembedding;
}

/**
 * A language model that predicts its next n tokens at once (arXiv 2404.19737).
 *
 * @example
 * const model = LanguageModel.create({ hiddenSize: 256, trunkLayers: 5, numAttentionHeads: 4, futureTokens: 4 }, { tokenizer: byteTokenizer(), dtype: "bf16" });
 */
export class LanguageModel {
  readonly config: ModelConfig;
  readonly device: Device;
  readonly dtype: DType;
  tokenizer: Tokenizer | undefined;
  readonly parameters: ParameterStore;
  readonly trunk: Trunk & { readonly embedding: Parameter };
  /** Head 1 first. */
  readonly heads: readonly PredictionHead[];
  private readonly finalNorm: Parameter | undefined;

  private constructor(config: ModelConfig, { device, tokenizer, dtype = "f32", seed = 0 }: ModelSettings) {
    if (!Number.isSafeInteger(seed)) {
      throw new ForetokenError("BAD_OPTION", {
        op: "model",
        argument: "seed",
        wanted: "a whole number",
        got: String(seed),
      });
    }
    this.config = config;
    this.device = device ?? openDevice();
    this.dtype = dtype;
    this.tokenizer = tokenizer;
    const store = new ParameterStore(this.device, dtype, seed);
    this.parameters = store;
    try {
      const size = transformerSize(config);
      this.trunk =
        config.trunk === "rnn" ? new RnnTrunk(store, config) : new TransformerTrunk(store, { ...size, ...config });
      const modules = headModules(store, config, size);
      this.finalNorm = config.finalNorm ? store.create("model.norm.weight", [config.hiddenSize], "ones") : undefined;
      const first = this.createUnembedding("lm_head", config.tieWordEmbeddings);
      this.heads = modules.map((module, i) => ({
        ahead: i + 1,
        module,
        unembedding:
          i > 0 && config.unembedding === "replicated"
            ? this.createUnembedding(`extra_lm_heads.${i - 1}`, false)
            : first,
      }));
    } catch (error) {
      store.dispose();
      throw error;
    }
  }

  /** A fresh model. Throws BAD_CONFIG for settings that do not fit together, OUT_OF_MEMORY when it does not fit. */
  static create(config: ModelOptions, settings: ModelSettings = {}): LanguageModel {
    const vocabSize = config.vocabSize ?? settings.tokenizer?.vocabSize;
    if (vocabSize !== undefined && settings.tokenizer && vocabSize < settings.tokenizer.vocabSize) {
      throw new ForetokenError("BAD_CONFIG", {
        op: "model",
        argument: "vocabSize",
        wanted: `at least the tokenizer's ${settings.tokenizer.vocabSize}`,
        got: String(vocabSize),
      });
    }
    return new LanguageModel(resolveConfig({ ...config, vocabSize }), settings);
  }

  /**
   * A model from a checkpoint's folder or a run's (its latest checkpoint), with its tokenizer. Throws BAD_CHECKPOINT
   * when the files are damaged or config and tensors disagree.
   */
  static async load(path: string, settings: Omit<ModelSettings, "seed"> = {}): Promise<LanguageModel> {
    const header = await readCheckpointHeader(path);
    const model = new LanguageModel(header.config, { tokenizer: header.tokenizer, ...settings });
    try {
      await readWeights(model, header);
    } catch (error) {
      model.dispose();
      throw error;
    }
    return model;
  }

  /** Saves the model, without training state, to a folder of its own: complete or not at all. Throws SAVE_FAILED. */
  async save(path: string): Promise<void> {
    await saveFolderAtomically(diskFileSystem, path, modelFiles(this));
  }

  private createUnembedding(name: string, tied: boolean): Unembedding {
    const { vocabSize, hiddenSize, unembeddingBias, initializerRange } = this.config;
    const weight = tied
      ? this.trunk.embedding
      : this.parameters.create(`${name}.weight`, [vocabSize, hiddenSize], { std: initializerRange });
    return unembeddingBias
      ? { weight, bias: this.parameters.create(`${name}.bias`, [vocabSize], "zeros") }
      : { weight };
  }

  /** How the heads hang together: star, or a chain in the order they run. */
  get topology(): Topology {
    return this.config.headFamily === "causal" || this.config.headFamily === "anticausal" ? "chain" : "star";
  }

  /** The heads in the order they run: anticausal from n to 1, else from 1 to n. */
  get headsInOrder(): readonly PredictionHead[] {
    return this.config.headFamily === "anticausal" ? [...this.heads].reverse() : this.heads;
  }

  /** The shared final norm, or the output itself where the model has none. */
  finish(output: Tensor): Tensor {
    return this.finalNorm ? rmsNorm(output, this.finalNorm, this.config.rmsNormEps) : output;
  }

  /**
   * What `read` makes of the hidden states (B, T, d) that each head's unembedding reads, head 1 first. The heads run one
   * after the other, and what is not in a result is freed as soon as nothing else reads it.
   */
  mapHeads<T>(z: Tensor, context: SequenceContext, read: (head: PredictionHead, hidden: Tensor) => T): T[] {
    return scope(() => {
      const results: T[] = [];
      let input = z;
      for (const head of this.headsInOrder) {
        const output = head.module.forward(input, context);
        results[head.ahead - 1] = scope(() => read(head, this.finish(output)));
        if (this.topology === "star") output.dispose();
        else {
          if (input !== z) input.dispose();
          input = output;
        }
      }
      return results;
    });
  }

  /**
   * Logits of every head: tokens (B, T) i32, as a tensor or nested arrays of numbers → n tensors (B, T, V) f32, head 1
   * first. For looking at a model; training and evaluation never make this array.
   */
  forward(tokens: Tensor | readonly (readonly number[])[]): Tensor[] {
    return scope(() => {
      const input = tokens instanceof Tensor ? tokens : this.upload(tokens);
      const z = this.trunk.forward(input, input.shape[1] ?? 0, {});
      return this.mapHeads(z, {}, (head, hidden) => this.logits(hidden, head));
    });
  }

  /** hidden (…, d) → logits (…, V) in f32 (f64 in an f64 model). */
  logits(hidden: Tensor, head: PredictionHead): Tensor {
    const { weight, bias } = head.unembedding;
    return linear(hidden, weight, { bias, dtype: this.dtype === "bf16" ? "f32" : undefined });
  }

  private upload(rows: readonly (readonly number[])[]): Tensor {
    const length = rows[0]?.length ?? 0;
    const flat = rows.flat();
    if (length === 0 || flat.length !== rows.length * length) {
      throw new ForetokenError("SHAPE_MISMATCH", {
        op: "forward",
        argument: "tokens",
        wanted: "rows of equal, positive length",
        got: rows.map((row) => row.length).join(", "),
      });
    }
    checkTokens("forward", flat, this.config.vocabSize);
    return tensor(Int32Array.from(flat), { dtype: "i32", device: this.device, shape: [rows.length, length] });
  }

  dispose(): void {
    this.parameters.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Throws BAD_DATA unless every token is a whole number in [0, vocabSize). */
export function checkTokens(op: string, tokens: ArrayLike<number>, vocabSize: number): void {
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i] ?? -1;
    if (!Number.isInteger(token) || token < 0 || token >= vocabSize) {
      throw new ForetokenError("BAD_DATA", {
        op,
        argument: `tokens[${i}]`,
        wanted: `a token in 0 to ${vocabSize - 1}`,
        got: String(token),
      });
    }
  }
}

/** Throws BAD_DATA when the data's tokens do not fit the model's vocabulary. */
export function checkVocabulary({ config }: LanguageModel, data: { readonly vocabSize: number }): void {
  if (data.vocabSize > config.vocabSize) {
    throw new ForetokenError("BAD_DATA", {
      op: "data",
      argument: "vocabSize",
      wanted: `at most the model's ${config.vocabSize}`,
      got: String(data.vocabSize),
    });
  }
}

function transformerSize(config: ModelConfig): TransformerSize {
  const headLayers = { parallel: 1, causal: config.futureTokens, anticausal: config.futureTokens, linear: 0, none: 0 }[
    config.headFamily
  ];
  return { ...config, depth: Math.max(1, config.trunkLayers + headLayers) };
}

/** The modules of heads 1 to n, with the names that make the checkpoint a Llama checkpoint. */
function headModules(store: ParameterStore, config: ModelConfig, size: TransformerSize): Module[] {
  const { futureTokens: n, trunkLayers, headFamily, hiddenSize } = config;
  const each = <T>(make: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => make(i));
  const layer = (name: string): Module => new TransformerLayer(store, name, size);
  switch (headFamily) {
    case "parallel":
    case "causal":
      return each((i) => layer(i === 0 ? `model.layers.${trunkLayers}` : `extra_heads.${i - 1}`));
    case "anticausal":
      return each((i) => layer(`model.layers.${trunkLayers + i}`)).reverse();
    case "linear":
      return each((i) => new LinearHead(store, `linear_heads.${i}`, hiddenSize));
    case "none":
      return each(() => identityHead);
    default:
      return headFamily satisfies never;
  }
}
