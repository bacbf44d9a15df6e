// config.json: a Hugging Face Llama config where the model is one, with our own settings under `foretoken`.
import { ForetokenError } from "../errors.js";
import type { Tokenizer } from "../io/tokenizer.js";
import { resolveConfig, type ModelConfig } from "./config.js";

/** Why a model is no Llama with extra heads, or undefined when it is one. */
export function whyNotLlama(config: ModelConfig): string | undefined {
  if (config.trunk === "rnn") return "its trunk is an RNN";
  if (config.headFamily === "linear") return "its heads are single matrices";
  if (!config.finalNorm) return "it has no final norm";
  if (config.unembeddingBias) return "its unembedding has a bias";
  return undefined;
}

/** Layers as Hugging Face runs them: the trunk's and those on the way to head 1. */
function hiddenLayers({ headFamily, trunkLayers, futureTokens }: ModelConfig): number {
  return trunkLayers + { parallel: 1, causal: 1, anticausal: futureTokens, linear: 0, none: 0 }[headFamily];
}

/** config.json of a checkpoint whose model.safetensors holds these tensors beside the plain Llama's. */
export function toHuggingFace(config: ModelConfig, tokenizer: Tokenizer | undefined, extraTensors: number): object {
  const llama = whyNotLlama(config) === undefined;
  return {
    architectures: [llama ? "LlamaForCausalLM" : "ForetokenForCausalLM"],
    model_type: llama ? "llama" : "foretoken",
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: hiddenLayers(config),
    num_attention_heads: config.numAttentionHeads,
    num_key_value_heads: config.numKeyValueHeads,
    head_dim: config.hiddenSize / config.numAttentionHeads,
    hidden_act: "silu",
    max_position_embeddings: config.maxPositions,
    initializer_range: config.initializerRange,
    rms_norm_eps: config.rmsNormEps,
    rope_theta: config.ropeTheta,
    rope_parameters: { rope_type: "default", rope_theta: config.ropeTheta },
    attention_bias: false,
    attention_dropout: 0,
    mlp_bias: false,
    tie_word_embeddings: config.tieWordEmbeddings,
    bos_token_id: null,
    eos_token_id: tokenizer?.eosToken ?? null,
    pad_token_id: null,
    use_cache: true,
    dtype: "float32",
    torch_dtype: "float32",
    foretoken: { formatVersion: 1, extraTensors, ...config },
  };
}

/** Our settings out of a parsed config.json. Throws BAD_CHECKPOINT when they are missing or disagree with the rest. */
export function fromHuggingFace(json: unknown, path: string): { config: ModelConfig; extraTensors: number } {
  const refuse = (wanted: string, got: string, remedy?: string): never => {
    throw new ForetokenError("BAD_CHECKPOINT", { op: "load", argument: path, wanted, got, remedy });
  };
  if (!isRecord(json)) return refuse("a JSON object", typeof json);
  const own = json["foretoken"];
  if (!isRecord(own)) {
    return refuse("a checkpoint of foretoken", `model_type ${JSON.stringify(json["model_type"])} without our settings`);
  }
  const { formatVersion, extraTensors, ...settings } = own;
  if (formatVersion !== 1) return refuse("formatVersion 1", JSON.stringify(formatVersion));
  if (typeof extraTensors !== "number") return refuse("a number of extraTensors", JSON.stringify(extraTensors));
  const config = resolved(settings, path);
  const written: Record<string, unknown> = { ...toHuggingFace(config, undefined, extraTensors) };
  for (const key of [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_theta",
    "tie_word_embeddings",
  ]) {
    if (json[key] !== written[key])
      return refuse(`${key} ${JSON.stringify(written[key])} as under "foretoken"`, JSON.stringify(json[key]));
  }
  return { config, extraTensors };
}

function resolved(settings: Record<string, unknown>, path: string): ModelConfig {
  try {
    return resolveConfig(settings as unknown as ModelConfig);
  } catch (cause) {
    if (!(cause instanceof ForetokenError)) throw cause;
    throw new ForetokenError("BAD_CHECKPOINT", `its settings are not valid: ${cause.message}`, {
      op: "load",
      argument: path,
      cause,
    });
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
