// Saving that a crash cannot spoil: a folder is written under a temporary name beside its place, made durable, and
// renamed; the pointer `latest` follows as a step of its own; only then are older checkpoints taken away. Whatever
// prefix of these steps reached the disk, the checkpoint that `latest` names is complete.
import { createHash, type Hash } from "node:crypto";
import { basename, dirname, join } from "node:path";
import { ForetokenError } from "../errors.js";
import { type Chunks, type FileSystem, isSystemError, makeFolder, reading, reason } from "./files.js";

/** A file to be saved; its chunks are asked for when their turn comes, so that memory stays flat. */
export interface SavedFile {
  readonly name: string;
  readonly chunks: () => Chunks;
}

export interface CheckpointOptions {
  /** How many checkpoints stay, the new one included. Default: all. */
  readonly keep?: number | undefined;
}

/** SHA-256 of each file of a folder, in the format of `sha256sum`. */
export const checksumsName = "SHA256SUMS";

/** Read and hashed at a time. */
const pieceBytes = 1 << 22;

const savingPrefix = ".saving-";
const previousPrefix = ".previous-";
const removingPrefix = ".removing-";

/** A file of text, or of bytes in memory. */
export function savedFile(name: string, content: string | Uint8Array): SavedFile {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  return { name, chunks: () => [bytes] };
}

/** A file of readable JSON. */
export function savedJson(name: string, value: unknown): SavedFile {
  return savedFile(name, `${JSON.stringify(value, null, 2)}\n`);
}

/**
 * Writes the files and SHA256SUMS into the folder `path`, complete or not at all; an older folder of that name is
 * replaced, and kept when saving fails. Errors: SAVE_FAILED.
 */
export async function saveFolderAtomically(fs: FileSystem, path: string, files: readonly SavedFile[]): Promise<void> {
  const [parent, name] = [dirname(path), basename(path)];
  const temporary = join(parent, savingPrefix + name);
  await saving(path, async () => {
    await makeFolder(fs, parent);
    await fs.remove(temporary);
    try {
      await writeFolder(fs, temporary, files);
      await putInPlace(fs, temporary, path);
    } catch (error) {
      await fs.remove(temporary).catch(() => undefined); // the first error is the one to report
      throw error;
    }
  });
}

/** Replaces one small file, complete or not at all. Errors: SAVE_FAILED. */
export async function saveFileAtomically(fs: FileSystem, path: string, content: string | Uint8Array): Promise<void> {
  const temporary = join(dirname(path), savingPrefix + basename(path));
  await saving(path, async () => {
    try {
      await fs.write(temporary, savedFile(path, content).chunks());
      await fs.fsync(temporary);
      await fs.rename(temporary, path);
    } catch (error) {
      await fs.remove(temporary).catch(() => undefined);
      throw error;
    }
    await fs.fsyncDirectory(dirname(path));
  });
}

/**
 * Saves `run/checkpoints/name`, then points `run/latest` to it, then removes checkpoints `step-…` beyond `keep` (those of
 * the earliest steps, never the new one) and what crashes left behind. Errors: SAVE_FAILED.
 */
export async function saveCheckpoint(
  fs: FileSystem,
  run: string,
  name: string,
  files: readonly SavedFile[],
  options: CheckpointOptions = {},
): Promise<void> {
  const folder = join(run, "checkpoints");
  await saveFolderAtomically(fs, join(folder, name), files);
  await saveFileAtomically(fs, join(run, "latest"), `${name}\n`);
  await saving(folder, () => prune(fs, folder, name, options.keep ?? Infinity));
}

/**
 * The checkpoint folder that `path` means: itself when it holds config.json, else the one that its `latest` names.
 * Errors: BAD_CHECKPOINT.
 */
export async function findCheckpoint(fs: FileSystem, path: string): Promise<string> {
  return await reading(path, async () => {
    const own = await completeFolder(fs, path);
    if (own !== null && (await fs.exists(join(own, "config.json")))) return own;
    const pointer = join(path, "latest");
    if (await fs.exists(pointer)) return await follow(fs, pointer);
    throw new ForetokenError("BAD_CHECKPOINT", {
      op: "load",
      argument: path,
      wanted: "a checkpoint (with config.json) or a run's folder (with latest)",
      got: own === null ? "no such folder" : "neither file in it",
    });
  });
}

async function follow(fs: FileSystem, pointer: string): Promise<string> {
  const name = new TextDecoder().decode(await fs.read(pointer)).trim();
  const isName = /^[\w-][\w.-]*$/.test(name);
  const checkpoint = isName ? await completeFolder(fs, join(dirname(pointer), "checkpoints", name)) : null;
  if (checkpoint !== null) return checkpoint;
  throw new ForetokenError("BAD_CHECKPOINT", {
    op: "load",
    argument: pointer,
    wanted: "the name of a folder in checkpoints",
    got: JSON.stringify(name.slice(0, 80)),
    remedy: "Give the folder of a checkpoint itself.",
  });
}

/**
 * Compares files of a folder with its SHA256SUMS; a folder without one (of another program) passes. Errors:
 * BAD_CHECKPOINT naming the file whose bytes changed since it was saved.
 */
export async function verifyChecksums(fs: FileSystem, folder: string, names: readonly string[]): Promise<void> {
  const path = join(folder, checksumsName);
  if (!(await fs.exists(path))) return;
  const sums = parseChecksums(new TextDecoder().decode(await reading(path, () => fs.read(path))));
  for (const name of names) {
    const wanted = sums.get(name);
    const file = join(folder, name);
    const got = await reading(file, () => digestOf(fs, file));
    if (got === wanted) continue;
    throw new ForetokenError("BAD_CHECKPOINT", {
      op: "load",
      argument: file,
      wanted: wanted === undefined ? `an entry in ${checksumsName}` : `SHA-256 ${wanted}`,
      got,
      remedy: `The file is damaged: take another checkpoint, or delete ${checksumsName} if you changed it yourself.`,
    });
  }
}

/** The folder, or its predecessor where a crash fell between the two renames that replace it, or null. */
async function completeFolder(fs: FileSystem, path: string): Promise<string | null> {
  if (await fs.exists(path)) return path;
  const previous = join(dirname(path), previousPrefix + basename(path));
  return (await fs.exists(previous)) ? previous : null;
}

async function writeFolder(fs: FileSystem, folder: string, files: readonly SavedFile[]): Promise<void> {
  await fs.mkdir(folder);
  let sums = "";
  for (const { name, chunks } of files) {
    const path = join(folder, name);
    const hash = createHash("sha256");
    await fs.write(path, hashing(chunks(), hash));
    await fs.fsync(path);
    sums += `${hash.digest("hex")}  ${name}\n`;
  }
  const path = join(folder, checksumsName);
  await fs.write(path, savedFile(checksumsName, sums).chunks());
  await fs.fsync(path);
  await fs.fsyncDirectory(folder);
}

/** In pieces, so that hashing a large tensor does not hold up the event loop. */
async function* hashing(chunks: Chunks, hash: Hash): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    for (let start = 0; start < chunk.length; start += pieceBytes) {
      const piece = chunk.subarray(start, start + pieceBytes);
      hash.update(piece);
      yield piece;
    }
  }
}

/** A folder cannot be renamed over a full one: the old one steps aside first, under a name that readers know. */
async function putInPlace(fs: FileSystem, temporary: string, path: string): Promise<void> {
  const parent = dirname(path);
  const previous = join(parent, previousPrefix + basename(path));
  const replaces = await fs.exists(path);
  if (replaces) {
    await fs.remove(previous);
    await fs.rename(path, previous);
  }
  try {
    await fs.rename(temporary, path);
  } catch (error) {
    if (replaces) await fs.rename(previous, path).catch(() => undefined); // readers find it under either name
    throw error;
  }
  await fs.fsyncDirectory(parent);
  await fs.remove(previous);
}

async function prune(fs: FileSystem, folder: string, newest: string, keep: number): Promise<void> {
  const names = await fs.list(folder);
  const leftovers = names.filter((name) =>
    [savingPrefix, previousPrefix, removingPrefix].some((prefix) => name.startsWith(prefix)),
  );
  for (const name of leftovers) await fs.remove(join(folder, name));

  const steps = names.filter((name) => /^step-\d+$/.test(name) && name !== newest); // other folders are not ours
  steps.sort((a, b) => Number(a.slice(5)) - Number(b.slice(5)));
  const excess = steps.slice(0, Math.max(0, steps.length - (keep - 1)));
  for (const name of excess) {
    const removing = join(folder, removingPrefix + name); // a visible name is always a complete checkpoint
    await fs.rename(join(folder, name), removing);
    await fs.remove(removing);
  }
}

function parseChecksums(text: string): Map<string, string> {
  const sums = new Map<string, string>();
  for (const line of text.split("\n")) {
    const match = /^([0-9a-f]{64}) [ *](.+)$/.exec(line);
    if (match?.[1] !== undefined && match[2] !== undefined) sums.set(match[2], match[1]);
  }
  return sums;
}

async function digestOf(fs: FileSystem, path: string): Promise<string> {
  if (!(await fs.exists(path))) return "no such file";
  const file = await fs.open(path);
  try {
    const hash = createHash("sha256");
    for (let at = 0; at < file.size; at += pieceBytes) hash.update(await file.read(at, pieceBytes));
    return hash.digest("hex");
  } finally {
    await file.close();
  }
}

const remedies: Readonly<Record<string, string>> = {
  ENOSPC: "Free some space, lower `keep`, or save elsewhere.",
  EDQUOT: "Free some of your quota, lower `keep`, or save elsewhere.",
  EACCES: "Give a folder that you may write to.",
  EPERM: "Give a folder that you may write to.",
  EROFS: "Give a folder on a disk that can be written.",
  ENOTDIR: "Give a folder: a part of this path is a file.",
};

/** Does something that writes `path`; what the system refuses is SAVE_FAILED. */
export async function saving(path: string, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (cause) {
    if (!isSystemError(cause)) throw cause;
    const remedy = remedies[cause.code ?? ""];
    throw new ForetokenError("SAVE_FAILED", {
      op: "save",
      argument: path,
      wanted: "a folder that can be written",
      got: reason(cause),
      remedy,
      cause,
    });
  }
}
