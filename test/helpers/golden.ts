// The golden cases: PyTorch's values in float64, as test/golden/README.md describes them.
import { readFile } from "node:fs/promises";
import type { Device } from "../../lib/device.js";
import { emptyBatch, type Batch } from "../../lib/io/batch.js";
import { openSafetensors } from "../../lib/io/safetensors.js";
import type { ModelOptions } from "../../lib/mtp/config.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { refreshValue } from "../../lib/nn/parameters.js";

export const goldenCases = ["next_token", "parallel", "causal", "anticausal", "linear", "replicated", "rnn"] as const;

export interface GoldenStep {
  readonly learning_rate: number;
  readonly losses: readonly number[];
  readonly gradient_norm: number;
}

export interface Golden {
  readonly config: ModelOptions;
  readonly losses: readonly number[];
  readonly accuracies: readonly number[];
  readonly gradientNorm: number;
  readonly trajectory: readonly GoldenStep[];
  /** Batches 0 to 10. */
  readonly batches: readonly Batch[];
  /** "weights.…", "gradients.…", "trained.…". */
  readonly tensors: ReadonlyMap<string, Float32Array>;
}

const camel = (name: string): string => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

export async function readGolden(name: string): Promise<Golden> {
  const base = new URL(`../golden/${name}`, import.meta.url).pathname;
  const json = JSON.parse(await readFile(`${base}.json`, "utf8")) as {
    config: Record<string, unknown> & { batch: number; tokens: number };
    losses: number[];
    accuracies: number[];
    gradient_norm: number;
    trajectory: GoldenStep[];
  };
  const { batch, tokens: contextLength, ...settings } = json.config;
  const config = Object.fromEntries(
    Object.entries(settings).map(([key, value]) => [camel(key), value]),
  ) as unknown as ModelOptions;
  await using file = await openSafetensors(`${base}.safetensors`);
  const bytes = await file.read("tokens");
  const tokens = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const shape = { batchSize: batch, contextLength, lookahead: config.futureTokens ?? 1 };
  const size = batch * (contextLength + shape.lookahead);
  const batches = Array.from({ length: 11 }, (_, i) => fullBatch(shape, tokens.slice(i * size, (i + 1) * size)));
  const tensors = new Map<string, Float32Array>();
  for (const key of file.tensors.keys()) {
    if (key === "tokens") continue;
    const data = await file.read(key);
    tensors.set(key, new Float32Array(data.buffer, data.byteOffset, data.byteLength / 4));
  }
  return {
    config,
    losses: json.losses,
    accuracies: json.accuracies,
    gradientNorm: json.gradient_norm,
    trajectory: json.trajectory,
    batches,
    tensors,
  };
}

/** A batch of rows within one document each, where every position has all its targets. */
export function fullBatch(
  shape: { batchSize: number; contextLength: number; lookahead: number },
  tokens: Int32Array,
): Batch {
  const batch = emptyBatch(shape, 0);
  batch.tokens.set(tokens);
  batch.targets.set(tokens);
  batch.limit.fill(shape.contextLength + shape.lookahead - 1);
  batch.firstKey.fill(0);
  return batch;
}

export function goldenModel(
  golden: Golden,
  settings: { device: Device; dtype: "f32" | "bf16" | "f64" },
): LanguageModel {
  const model = LanguageModel.create(golden.config, settings);
  const names = new Set(model.parameters.all.map(({ name }) => `weights.${name}`));
  const unused = [...golden.tensors.keys()].filter((key) => key.startsWith("weights.") && !names.has(key));
  if (unused.length > 0) throw new Error(`golden weights without a parameter: ${unused.join(", ")}`);
  for (const parameter of model.parameters.all) {
    const values = golden.tensors.get(`weights.${parameter.name}`);
    if (!values) throw new Error(`no golden weight for ${parameter.name}`);
    parameter.master.write(parameter.master.dtype === "f64" ? Float64Array.from(values) : values);
    refreshValue(parameter);
  }
  return model;
}

/** ‖a − b‖ / ‖b‖. */
export function relativeError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [difference, norm] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    difference += ((a[i] ?? NaN) - (b[i] ?? NaN)) ** 2;
    norm += (b[i] ?? 0) ** 2;
  }
  return Math.sqrt(difference / (norm || 1));
}

export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let largest = 0;
  for (let i = 0; i < b.length; i++) largest = Math.max(largest, Math.abs((a[i] ?? NaN) - (b[i] ?? NaN)));
  return largest;
}
