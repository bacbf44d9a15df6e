// A small checkpoint whose every byte follows from one number, so that whatever loads can be compared with what was saved.
import { join } from "node:path";
import type { FileSystem } from "../../lib/io/files.js";
import { readJson } from "../../lib/io/files.js";
import { openSafetensors, type SavedTensor, safetensorsChunks } from "../../lib/io/safetensors.js";
import { findCheckpoint, type SavedFile, savedJson, verifyChecksums } from "../../lib/io/save.js";

const fileNames = ["config.json", "model.safetensors", "state.json"];

export function checkpointName(step: number): string {
  return `step-${String(step).padStart(8, "0")}`;
}

export function checkpointFiles(step: number, mark = step, elements = 8): SavedFile[] {
  const values = (name: string) => new Float32Array(elements).fill(name === "a" ? mark : -mark);
  const tensors: SavedTensor[] = ["a", "b"].map((name) => ({
    name,
    dtype: "F32",
    shape: [elements],
    data: () => new Uint8Array(values(name).buffer),
  }));
  return [
    savedJson("config.json", { hidden_size: elements }),
    { name: "model.safetensors", chunks: () => safetensorsChunks(tensors, { step: `${step}` }) },
    savedJson("state.json", { step, mark }),
  ];
}

/** Loads the run's checkpoint, checks every value of it, and returns what it was made from. */
export async function loadCheckpoint(fs: FileSystem, run: string): Promise<{ step: number; mark: number }> {
  const folder = await findCheckpoint(fs, run);
  await verifyChecksums(fs, folder, fileNames);
  const { step, mark } = (await readJson(fs, join(folder, "state.json"))) as { step: number; mark: number };
  const { hidden_size: elements } = (await readJson(fs, join(folder, "config.json"))) as { hidden_size: number };
  await using file = await openSafetensors(join(folder, "model.safetensors"), fs);
  if (file.metadata.get("step") !== `${step}`) throw new Error("files of different checkpoints");
  for (const [name, value] of [
    ["a", mark],
    ["b", -mark],
  ] as const) {
    const values = new Float32Array((await file.read(name)).buffer);
    if (values.length !== elements || values.some((x) => x !== value)) throw new Error(`tensor ${name} is torn`);
  }
  return { step, mark };
}
