// Models that decoding is measured on: trained for real, from a recipe, once per machine; kept in build/bench.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openDevice } from "../lib/device.js";
import { byteTokenizer } from "../lib/io/tokenizer.js";
import { textDataset, type TextDataset } from "../lib/io/text-dataset.js";
import type { ModelOptions } from "../lib/mtp/config.js";
import { LanguageModel } from "../lib/mtp/model.js";
import { Trainer } from "../lib/train/trainer.js";

export interface Recipe {
  readonly name: string;
  readonly config: ModelOptions & { readonly futureTokens: number };
  readonly steps: number;
  readonly batchSize: number;
  readonly learningRate: number;
}

const bytes = { vocabSize: 256, maxPositions: 512, futureTokens: 8 } as const;

/** 9.7 million parameters: eight heads of a layer each on a trunk of four. */
export const small: Recipe = {
  name: "10M",
  config: { ...bytes, hiddenSize: 256, intermediateSize: 704, trunkLayers: 4, numAttentionHeads: 4 },
  steps: 1500,
  batchSize: 8,
  learningRate: 1.5e-3,
};

/** 514 MB of bf16 weights on head 1's path alone, beyond the last cache of the machines that we use; trained briefly. */
export const large: Recipe = {
  name: "beyond the cache",
  config: { ...bytes, hiddenSize: 1024, intermediateSize: 2816, trunkLayers: 19, numAttentionHeads: 16 },
  steps: 20,
  batchSize: 4,
  learningRate: 6e-4,
};

/** 0.5 million parameters, one head: proposes for `small`. */
export const drafter: Recipe = {
  name: "0.5M",
  config: {
    ...{ ...bytes, futureTokens: 1 },
    ...{ hiddenSize: 128, intermediateSize: 352, trunkLayers: 2, numAttentionHeads: 2 },
  },
  steps: 1500,
  batchSize: 8,
  learningRate: 1.5e-3,
};

/** As `small`, at a size that is trained in seconds. */
export const tiny: Recipe = {
  name: "smoke",
  config: { ...bytes, futureTokens: 3, hiddenSize: 32, intermediateSize: 48, trunkLayers: 1, numAttentionHeads: 2 },
  steps: 5,
  batchSize: 2,
  learningRate: 1e-3,
};

const root = fileURLToPath(new URL("../", import.meta.url));
/** Packages whose code is read. */
export const trained = ["ajv", "eslint", "fast-check", "postcss", "yargs", "zod", "@typescript-eslint/utils"];
export const unseen = ["commander", "semver", "magic-string"];

const codeOf = (packages: readonly string[]): TextDataset =>
  textDataset(
    [
      ...packages.map((name) => join(root, `node_modules/${name}/**/*.{ts,mts,js,mjs,cjs}`)),
      ...["!**/*.min.*", "!**/*.bundle.js", "!**/node_modules/*/node_modules/**"],
    ],
    byteTokenizer(),
  );

export const seenText = (): TextDataset => codeOf(trained);
export const unseenText = (): TextDataset => codeOf(unseen);

/** Pieces of code that the models have not seen, `length` bytes each. */
export function unseenPrompts(count: number, length: number): Int32Array[] {
  const documents = [...unseenText().documents()].filter((document) => document.length > 8 * length);
  if (documents.length === 0) throw new Error("no unseen code in node_modules: run npm ci");
  return Array.from({ length: count }, (_, i) => {
    const document = documents[i % documents.length] ?? [];
    const start = Math.floor((document.length - length) * ((i + 1) / (count + 2)));
    return Int32Array.from(document.slice(start, start + length));
  });
}

/** The recipe's model, trained when it is not there yet. */
export async function trainedModel(recipe: Recipe, dtype: "f32" | "bf16"): Promise<LanguageModel> {
  const folder = folderOf(recipe);
  if (!existsSync(join(folder, "latest"))) await train(recipe, folder);
  return LanguageModel.load(folder, { device: openDevice(), dtype });
}

export function folderOf(recipe: Recipe): string {
  const { hiddenSize, trunkLayers } = recipe.config;
  return join(root, `build/bench/decode-${hiddenSize}-${trunkLayers}-${recipe.config.futureTokens}-${recipe.steps}`);
}

async function train(recipe: Recipe, out: string): Promise<void> {
  const { config, steps, batchSize, learningRate } = recipe;
  console.log(`training ${recipe.name}: ${steps} steps, kept in ${out}`);
  const began = performance.now();
  using model = LanguageModel.create(config, {
    device: openDevice(),
    dtype: "bf16",
    tokenizer: byteTokenizer(),
    seed: 1,
  });
  const trainer = new Trainer(model, {
    ...{
      data: seenText(),
      steps,
      batchSize,
      contextLength: 256,
      learningRate,
      warmupSteps: Math.ceil(steps / 20),
    },
    ...{ seed: 1, out, keep: 1, saveEvery: steps },
  });
  const last = await trainer.run();
  const minutes = (performance.now() - began) / 60_000;
  console.log(`${minutes.toFixed(1)} minutes; losses ${last?.losses.map((loss) => loss.toFixed(2)).join(" ")}`);
}
