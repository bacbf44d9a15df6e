// The text of a run: where it comes from, and which part of it is held out. Kept in the run's folder, so that nobody has
// to type it again to resume or to evaluate.
import { join } from "node:path";
import { ForetokenError } from "../errors.js";
import { diskFileSystem, readJson } from "../io/files.js";
import { saveFileAtomically } from "../io/save.js";
import { type TextDataset, textDataset } from "../io/text-dataset.js";
import { byteTokenizer } from "../io/tokenizer.js";

export interface DataPlan {
  /** Files, folders and globs, as seen from `from`. */
  readonly paths: readonly string[];
  readonly from: string;
  /** Share of the bytes to hold out, or the names of the groups. */
  readonly evalFraction: number;
  readonly heldOut?: readonly string[];
}

export interface RunData {
  readonly all: TextDataset;
  readonly train: TextDataset;
  readonly eval: TextDataset | undefined;
}

export const defaultEvalFraction = 0.1;
const fileName = "data.json";

/** The same for the same files. Leaves the process in the folder `from`. */
export function readData({ paths, from, evalFraction, heldOut }: DataPlan): RunData {
  enter(from);
  const all = textDataset(paths, byteTokenizer());
  if (heldOut) return { all, ...all.split({ groups: heldOut }) };
  return { all, ...(evalFraction === 0 ? { train: all, eval: undefined } : all.split({ fraction: evalFraction })) };
}

function enter(folder: string): void {
  try {
    process.chdir(folder);
  } catch (cause) {
    const details = {
      op: "data",
      argument: folder,
      wanted: "the folder that the run's files were named from",
      got: "none",
    };
    throw new ForetokenError("BAD_DATA", { ...details, remedy: "Say with --data where the files are now.", cause });
  }
}

/** What `saveDataPlan` kept in a run's folder; undefined where there is no such file. */
export async function savedData(run: string): Promise<DataPlan | undefined> {
  const path = join(run, fileName);
  if (!(await diskFileSystem.exists(path))) return undefined;
  const plan = await readJson(diskFileSystem, path);
  if (isDataPlan(plan)) return plan;
  const wanted = "paths, from, evalFraction and perhaps heldOut";
  throw new ForetokenError("BAD_CHECKPOINT", { op: "data", argument: path, wanted, got: "something else" });
}

export async function saveDataPlan(run: string, plan: DataPlan): Promise<void> {
  await saveFileAtomically(diskFileSystem, join(run, fileName), `${JSON.stringify(plan, null, 2)}\n`);
}

function isDataPlan(json: unknown): json is DataPlan {
  if (typeof json !== "object" || json === null) return false;
  const { paths, from, evalFraction, heldOut } = json as Record<string, unknown>;
  const isPlain = typeof from === "string" && typeof evalFraction === "number";
  return isPlain && isListOfText(paths) && (heldOut === undefined || isListOfText(heldOut));
}

function isListOfText(value: unknown): boolean {
  return Array.isArray(value) && value.every((each) => typeof each === "string");
}
