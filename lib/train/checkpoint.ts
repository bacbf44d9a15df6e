// A training checkpoint: the model's files and what resuming needs.
import { join } from "node:path";
import { ForetokenError } from "../errors.js";
import { diskFileSystem, readJson, type FileSystem } from "../io/files.js";
import { openSafetensors } from "../io/safetensors.js";
import { saveCheckpoint, savedJson, verifyChecksums, type SavedFile } from "../io/save.js";
import {
  checkTensors,
  modelFiles,
  readCheckpointHeader,
  readTensors,
  readWeights,
  savedTensor,
  savedTensors,
} from "../mtp/files.js";
import type { LanguageModel } from "../mtp/model.js";
import type { Tensor } from "../tensor.js";
import type { AdamW } from "./optimizer.js";

/** Where a run stands. */
export interface RunState {
  readonly step: number;
  /** Positions read since the start. */
  readonly tokens: number;
  /** The dataset's position behind the last batch. */
  readonly dataPosition: number;
  readonly seed: number;
  /** T, in which dataPosition counts. */
  readonly contextLength: number;
  readonly simd: string;
  /** The dataset's fingerprint. */
  readonly data: string;
  /** The model's dtype. */
  readonly dtype: string;
}

const OPTIMIZER = "optimizer.safetensors";
const STATE = "state.json";

/** Tensors of the optimizer by name. */
function moments(optimizer: AdamW): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  for (const [{ name }, { m, v }] of optimizer.moments) tensors.set(`${name}.m`, m).set(`${name}.v`, v);
  return tensors;
}

/** Files of a checkpoint that training can go on from. */
export function checkpointFiles(model: LanguageModel, optimizer: AdamW, state: RunState): SavedFile[] {
  const tensors = [...moments(optimizer)].map(([name, tensor]) => savedTensor(name, tensor));
  return [...modelFiles(model), savedTensors(OPTIMIZER, tensors), savedJson(STATE, { formatVersion: 1, ...state })];
}

/** Saves `run/checkpoints/step-…`, then points `latest` to it, then removes checkpoints beyond `keep`. Throws SAVE_FAILED. */
export async function saveTraining(
  run: string,
  model: LanguageModel,
  optimizer: AdamW,
  state: RunState,
  keep: number,
  fs: FileSystem = diskFileSystem,
): Promise<string> {
  const name = `step-${String(state.step).padStart(8, "0")}`;
  await saveCheckpoint(fs, run, name, checkpointFiles(model, optimizer, state), { keep });
  return join(run, "checkpoints", name);
}

/**
 * Brings model and optimizer to where the run's latest checkpoint stood; `check` may refuse its state before anything is
 * changed. Throws BAD_CHECKPOINT.
 */
export async function loadTraining(
  run: string,
  model: LanguageModel,
  optimizer: AdamW,
  check: (state: RunState) => void,
  fs: FileSystem = diskFileSystem,
): Promise<RunState> {
  const header = await readCheckpointHeader(run, fs);
  for (const [key, saved] of Object.entries(header.config)) {
    const own: unknown = model.config[key as keyof typeof header.config];
    if (own !== saved) {
      throw new ForetokenError("BAD_CHECKPOINT", {
        op: "resume",
        argument: key,
        wanted: `${JSON.stringify(saved)} as in the checkpoint`,
        got: JSON.stringify(own),
        remedy: "Resume with the settings that the run began with.",
      });
    }
  }
  const state = runState(await readJson(fs, join(header.folder, STATE)), join(header.folder, STATE));
  if (state.dtype !== model.dtype) {
    throw new ForetokenError("BAD_CHECKPOINT", {
      op: "resume",
      argument: "dtype",
      wanted: `${state.dtype} as in the checkpoint`,
      got: model.dtype,
    });
  }
  check(state);
  await verifyChecksums(fs, header.folder, [OPTIMIZER, STATE]);
  await using file = await openSafetensors(join(header.folder, OPTIMIZER), fs);
  const targets = moments(optimizer);
  checkTensors(file, targets);
  await readWeights(model, header, fs);
  await readTensors(file, targets);
  optimizer.steps = state.step;
  return state;
}

function runState(json: unknown, path: string): RunState {
  const wanted = {
    step: "number",
    tokens: "number",
    dataPosition: "number",
    seed: "number",
    contextLength: "number",
    simd: "string",
    data: "string",
    dtype: "string",
  };
  const record = (typeof json === "object" && json !== null ? json : {}) as Record<string, unknown>;
  for (const [key, type] of Object.entries(wanted)) {
    if (typeof record[key] !== type) {
      throw new ForetokenError("BAD_CHECKPOINT", {
        op: "resume",
        argument: `${path}: ${key}`,
        wanted: `a ${type}`,
        got: JSON.stringify(record[key]) ?? "nothing",
      });
    }
  }
  return record as unknown as RunState;
}
