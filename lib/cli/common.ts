// Options that every command has, and what they mean.
import { type Command, Option } from "commander";
import { type Device, openDevice } from "../device.js";
import { readJson, diskFileSystem } from "../io/files.js";
import { findCheckpoint } from "../io/save.js";
import { LanguageModel } from "../mtp/model.js";
import { join } from "node:path";
import type { OutputOptions } from "./output.js";

export interface CommonOptions extends OutputOptions {
  readonly device: "auto" | "cpu" | "cuda";
  readonly simd?: string | undefined;
}

export type ComputeType = "f32" | "bf16";

export function addCommonOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--device <name>", "where to compute; auto: a GPU if one works, else the CPU")
        .choices(["auto", "cpu", "cuda"])
        .default("auto"),
    )
    .option("--simd <level>", "the CPU's SIMD level (default: what `foretoken doctor` says); without --device: the CPU")
    .option("--quiet", "only results, warnings and errors")
    .option("--json", "one JSON object per line on stdout, nothing else");
}

export function dtypeOption(description: string): Option {
  return new Option("--dtype <type>", description).choices(["bf16", "f32"]);
}

export function chosenDevice({ device, simd }: CommonOptions): Device {
  return openDevice(device, { simd });
}

/** bf16 where products of it are faster than of f32. */
export function fastestDtype({ simd, multiprocessors }: Device): ComputeType {
  return multiprocessors > 0 || simd === "amx" || simd === "avx512bf16" ? "bf16" : "f32";
}

/** The model of a run's or a checkpoint's folder, computing as it was trained unless `dtype` says otherwise. */
export async function loadModel(folder: string, device: Device, dtype?: ComputeType): Promise<LanguageModel> {
  return LanguageModel.load(folder, { device, dtype: dtype ?? (await trainedDtype(folder)) });
}

async function trainedDtype(folder: string): Promise<ComputeType> {
  const state = join(await findCheckpoint(diskFileSystem, folder), "state.json");
  if (!(await diskFileSystem.exists(state))) return "f32";
  const json = await readJson(diskFileSystem, state);
  return typeof json === "object" && json !== null && "dtype" in json && json.dtype === "bf16" ? "bf16" : "f32";
}
