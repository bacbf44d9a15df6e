// A model as files: config.json, generation_config.json, tokenizer.json, model.safetensors.
import { join } from "node:path";
import { ForetokenError } from "../errors.js";
import { diskFileSystem, readJson, type FileSystem } from "../io/files.js";
import { openSafetensors, safetensorsChunks, type SafetensorsFile, type SavedTensor } from "../io/safetensors.js";
import { findCheckpoint, savedJson, verifyChecksums, type SavedFile } from "../io/save.js";
import { tokenizerFromJson } from "../io/tokenizer.js";
import { refreshValue } from "../nn/parameters.js";
import type { Tensor } from "../tensor.js";
import type { ModelConfig } from "./config.js";
import { fromHuggingFace, toHuggingFace } from "./hugging-face.js";
import type { LanguageModel } from "./model.js";

const isExtra = (name: string): boolean => name.startsWith("extra_");

/** A tensor of f32 values to be written under this name, read from the device when its turn comes. */
export function savedTensor(name: string, tensor: Tensor): SavedTensor {
  return {
    name,
    dtype: "F32",
    shape: tensor.shape,
    data: async () => {
      const { buffer, byteOffset, byteLength } = await tensor.data();
      return new Uint8Array(buffer, byteOffset, byteLength);
    },
  };
}

/** A safetensors file of these tensors. */
export const savedTensors = (
  name: string,
  tensors: readonly SavedTensor[],
  metadata: Record<string, string> = {},
): SavedFile => ({
  name,
  chunks: () => safetensorsChunks(tensors, { format: "pt", ...metadata }),
});

/** The files that make a model's folder. */
export function modelFiles(model: LanguageModel): SavedFile[] {
  const parameters = model.parameters.all;
  const extra = parameters.filter(({ name }) => isExtra(name)).length;
  const files = [
    savedJson("config.json", toHuggingFace(model.config, model.tokenizer, extra)),
    savedJson("generation_config.json", {
      bos_token_id: null,
      eos_token_id: model.tokenizer?.eosToken ?? null,
      pad_token_id: null,
    }),
    savedTensors(
      "model.safetensors",
      parameters.map(({ name, master }) => savedTensor(name, master)),
    ),
  ];
  if (model.tokenizer) files.push(savedJson("tokenizer.json", model.tokenizer.toJSON()));
  return files;
}

/** What a checkpoint says of its model, before any tensor is read. */
export interface CheckpointHeader {
  readonly folder: string;
  readonly config: ModelConfig;
  readonly extraTensors: number;
  readonly tokenizer: ReturnType<typeof tokenizerFromJson> | undefined;
}

/** Finds the checkpoint that `path` means and reads its settings. Throws BAD_CHECKPOINT. */
export async function readCheckpointHeader(path: string, fs: FileSystem = diskFileSystem): Promise<CheckpointHeader> {
  const folder = await findCheckpoint(fs, path);
  const configPath = join(folder, "config.json");
  const { config, extraTensors } = fromHuggingFace(await readJson(fs, configPath), configPath);
  const tokenizerPath = join(folder, "tokenizer.json");
  const tokenizer = (await fs.exists(tokenizerPath))
    ? tokenizerFromJson(await readJson(fs, tokenizerPath), tokenizerPath)
    : undefined;
  return { folder, config, extraTensors, tokenizer };
}

/** Fills a model's parameters from a checkpoint. Throws BAD_CHECKPOINT unless names, shapes and dtypes are exactly the model's. */
export async function readWeights(
  model: LanguageModel,
  header: CheckpointHeader,
  fs: FileSystem = diskFileSystem,
): Promise<void> {
  const path = join(header.folder, "model.safetensors");
  await verifyChecksums(fs, header.folder, ["config.json", "model.safetensors"]);
  await using file = await openSafetensors(path, fs);
  const targets = new Map(model.parameters.all.map(({ name, master }) => [name, master]));
  checkTensors(file, targets);
  const extra = [...file.tensors.keys()].filter(isExtra).length;
  if (extra !== header.extraTensors) {
    throw new ForetokenError("BAD_CHECKPOINT", {
      op: "load",
      argument: path,
      wanted: `${header.extraTensors} tensors of extra heads, as config.json says`,
      got: String(extra),
    });
  }
  await readTensors(file, targets);
  for (const parameter of model.parameters.all) refreshValue(parameter);
}

/** Throws BAD_CHECKPOINT unless the file holds exactly these tensors, in f32. */
export function checkTensors(file: SafetensorsFile, targets: ReadonlyMap<string, Tensor>): void {
  const refuse = (wanted: string, got: string): never => {
    throw new ForetokenError("BAD_CHECKPOINT", { op: "load", argument: file.path, wanted, got });
  };
  for (const [name, { shape }] of targets) {
    const saved = file.tensors.get(name);
    if (!saved) return refuse(`a tensor ${name}`, "none");
    if (saved.shape.join() !== shape.join())
      refuse(`${name} of shape (${shape.join(", ")})`, `(${saved.shape.join(", ")})`);
    if (saved.dtype !== "F32") refuse(`${name} in F32`, saved.dtype);
  }
  for (const name of file.tensors.keys())
    if (!targets.has(name)) refuse("the model's tensors and no others", `also ${name}`);
}

/** Copies the file's tensors to the device. */
export async function readTensors(file: SafetensorsFile, targets: ReadonlyMap<string, Tensor>): Promise<void> {
  for (const [name, target] of targets) {
    const { buffer, byteOffset, byteLength } = await file.read(name);
    const values = new Float32Array(buffer, byteOffset, byteLength / 4);
    target.write(target.dtype === "f64" ? Float64Array.from(values) : values);
  }
}
