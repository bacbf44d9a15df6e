// What a training run is to be: from flags, a config file, and the run's own folder when it is resumed.
import { existsSync, readFileSync, statSync } from "node:fs";
import { access, constants } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { ForetokenError, checkOptions } from "../errors.js";
import { diskFileSystem, reason, readJson } from "../io/files.js";
import type { ModelOptions } from "../mtp/config.js";
import { readCheckpointHeader } from "../mtp/files.js";
import type { TrainerOptions } from "../train/settings.js";
import type { CommonOptions, ComputeType } from "./common.js";
import { type DataPlan, defaultEvalFraction, savedData } from "./data.js";
import { flagOf, givenSettings, keptFields, type Settings } from "./train-flags.js";

export interface TrainCommandOptions extends CommonOptions {
  readonly data?: readonly string[];
  readonly out?: string;
  readonly config?: string;
  readonly dtype?: ComputeType;
  readonly seed?: number;
  readonly evalFraction?: number;
  readonly resume?: boolean;
}

export interface TrainPlan {
  readonly out: string;
  readonly model: ModelOptions;
  readonly trainer: Omit<TrainerOptions, "data">;
  readonly dtype: ComputeType | undefined;
  readonly seed: number;
  readonly data: DataPlan;
  readonly resume: boolean;
}

const defaultWidth = 256;
const defaultContext = 256;

/** Throws BAD_OPTION, BAD_CONFIG, BAD_CHECKPOINT, SAVE_FAILED before anything is read or allocated. */
export async function planTraining(options: TrainCommandOptions): Promise<TrainPlan> {
  if (options.out === undefined)
    throw badOption("--out", "a folder for the run", "none", "For example --out runs/first.");
  const out = resolve(options.out);
  await checkWritable(out);
  const file = options.config === undefined ? { model: {}, trainer: {} } : readConfig(options.config);
  const flags = givenSettings({ ...options });
  const given = { model: { ...file.model, ...flags.model }, trainer: mergeTrainer(file.trainer, flags.trainer) };
  return options.resume ? resumedPlan(out, options, given) : freshPlan(out, options, given);
}

interface Given {
  readonly model: Settings;
  readonly trainer: Settings;
}

function freshPlan(out: string, options: TrainCommandOptions, given: Given): TrainPlan {
  if (existsSync(join(out, "latest"))) {
    const remedy = "Add --resume to go on with that run, or give another folder.";
    throw badOption("--out", "a folder without a run", out, remedy);
  }
  const trainer = { contextLength: given.model["maxPositions"] ?? defaultContext, ...given.trainer };
  const model = { hiddenSize: defaultWidth, maxPositions: trainer.contextLength, ...given.model };
  const seed = options.seed ?? numberOr(given.trainer["seed"], 0);
  return {
    ...{ out, seed, model: asModelOptions(model), dtype: options.dtype },
    trainer: asTrainerOptions({ ...trainer, seed, out }),
    data: dataPlan(options, undefined),
    resume: false,
  };
}

async function resumedPlan(out: string, options: TrainCommandOptions, given: Given): Promise<TrainPlan> {
  const header = await readCheckpointHeader(out);
  refuseOtherModel({ ...header.config }, given.model);
  const state = asRecord(await readJson(diskFileSystem, join(header.folder, "state.json")));
  const saved = asRecord(await readJson(diskFileSystem, join(out, "trainer.json")));
  const kept = Object.fromEntries(keptFields.flatMap((field) => (field in saved ? [[field, saved[field]]] : [])));
  const seed = options.seed ?? numberOr(given.trainer["seed"], numberOr(state["seed"], 0));
  return {
    ...{ out, seed, model: header.config, dtype: options.dtype ?? (state["dtype"] === "bf16" ? "bf16" : "f32") },
    trainer: asTrainerOptions({ ...mergeTrainer(kept, given.trainer), seed, out, resume: true }),
    data: dataPlan(options, await savedData(out)),
    resume: true,
  };
}

/** A flag's `epochs` stands in place of the other's `steps`, and the other way round. */
function mergeTrainer(below: Settings, above: Settings): Settings {
  const { steps, epochs, ...rest } = below;
  const length = "steps" in above || "epochs" in above ? {} : { steps, epochs };
  return withoutUndefined({ ...rest, ...length, ...above });
}

/** {"model": {…}, "trainer": {…}}; the library checks what is in them. */
function readConfig(path: string): Given {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, "utf8"));
  } catch (cause) {
    throw new ForetokenError("BAD_CONFIG", {
      op: "config",
      argument: path,
      wanted: "a JSON file",
      got: reason(cause),
      cause,
    });
  }
  const file = asRecord(json);
  checkOptions("config", file, ["model", "trainer"]);
  const { model = {}, trainer = {} } = file;
  const forbidden = ["data", "evalData", "out", "resume", "signal", "onStep", "onEval"].find(
    (name) => name in asRecord(trainer),
  );
  if (forbidden)
    throw badOption(`trainer.${forbidden}`, "settings that a file can hold", forbidden, "Give it on the command line.");
  return { model: asRecord(model), trainer: asRecord(trainer) };
}

function refuseOtherModel(saved: Settings, given: Settings): void {
  for (const [field, value] of Object.entries(given)) {
    if (!(field in saved) || saved[field] === value) continue;
    const wanted = `${JSON.stringify(saved[field])} as in the checkpoint`;
    const remedy = `Leave ${flagOf(field) ?? field} out to go on with this run, or begin another in a new folder.`;
    throw new ForetokenError("BAD_CHECKPOINT", {
      op: "resume",
      argument: field,
      wanted,
      got: JSON.stringify(value),
      remedy,
    });
  }
}

/** What is given, and for the rest what the run's folder keeps. */
function dataPlan({ data, evalFraction }: TrainCommandOptions, saved: DataPlan | undefined): DataPlan {
  const where = data ? { paths: data, from: process.cwd() } : saved;
  if (!where) return refuseNoData();
  const { paths, from } = where;
  if (evalFraction !== undefined || !saved) return { paths, from, evalFraction: evalFraction ?? defaultEvalFraction };
  return { ...saved, paths, from };
}

function refuseNoData(): never {
  throw badOption(
    "--data",
    "files, folders or globs to learn from",
    "none",
    'For example --data src, or --data "docs/**/*.md".',
  );
}

/** Throws SAVE_FAILED unless the folder can be made and written to. */
async function checkWritable(out: string): Promise<void> {
  let existing = out;
  while (!existsSync(existing)) existing = dirname(existing);
  try {
    if (!statSync(existing).isDirectory()) throw new Error(`${existing} is not a folder`);
    await access(existing, constants.W_OK);
  } catch (cause) {
    const details = {
      op: "train",
      argument: "--out",
      wanted: "a folder that can be written to",
      got: `${out} (${reason(cause)})`,
    };
    throw new ForetokenError("SAVE_FAILED", { ...details, remedy: "Give another folder.", cause });
  }
}

function badOption(argument: string, wanted: string, got: string, remedy: string): ForetokenError {
  return new ForetokenError("BAD_OPTION", { op: "train", argument, wanted, got, remedy });
}

const numberOr = (value: unknown, otherwise: number): number => (typeof value === "number" ? value : otherwise);

function asRecord(value: unknown): Settings {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Settings) : {};
}

function withoutUndefined(settings: Settings): Settings {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
}

// The library checks every field of both at its own door and names what is wrong.
const asModelOptions = (settings: Settings): ModelOptions => settings as unknown as ModelOptions;
const asTrainerOptions = (settings: Settings): Omit<TrainerOptions, "data"> => settings;
