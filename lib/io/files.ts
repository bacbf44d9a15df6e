// The one door to the disk for everything that is saved, small enough for a test to stand in its place and stop after
// each single step. Durability on POSIX: a file's bytes survive a power cut after `fsync` of the file, its name after
// `fsyncDirectory` of its folder.
import { mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { ForetokenError } from "../errors.js";

export type Chunks = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** A file opened for reading by ranges. */
export interface OpenFile {
  /** Length in bytes. */
  readonly size: number;
  /** Bytes [offset, offset + length); fewer only at the end of the file. */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

export interface FileSystem {
  /** Creates one folder; an existing one is left as it is. */
  mkdir(path: string): Promise<void>;
  /** Creates or replaces a file with the chunks one after another. */
  write(path: string, chunks: Chunks): Promise<void>;
  /** Adds to a file's end, creating it if need be. */
  append(path: string, chunk: Uint8Array): Promise<void>;
  fsync(path: string): Promise<void>;
  fsyncDirectory(path: string): Promise<void>;
  /** Atomic within a folder. Replaces a file; a folder only when it is empty. */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file or a folder with all in it; nothing there is no error. */
  remove(path: string): Promise<void>;
  exists(path: string): Promise<boolean>;
  /** Names in a folder, sorted. */
  list(path: string): Promise<string[]>;
  read(path: string): Promise<Uint8Array>;
  open(path: string): Promise<OpenFile>;
}

/** One read call's limit on Linux is just below 2 GiB. */
const maxReadBytes = 1 << 30;

async function syncPath(path: string, flags: "r" | "r+"): Promise<void> {
  const handle = await open(path, flags);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function openForReading(path: string): Promise<OpenFile> {
  const { size } = await stat(path);
  const handle = await open(path, "r");
  return {
    size,
    close: () => handle.close(),
    async read(offset, length) {
      const bytes = new Uint8Array(Math.max(0, Math.min(length, size - offset)));
      let done = 0;
      while (done < bytes.length) {
        const count = Math.min(bytes.length - done, maxReadBytes);
        const { bytesRead } = await handle.read(bytes, done, count, offset + done);
        if (bytesRead === 0) return bytes.subarray(0, done);
        done += bytesRead;
      }
      return bytes;
    },
  };
}

/** The disk. */
export const diskFileSystem: FileSystem = {
  async mkdir(path) {
    await mkdir(path, { recursive: true });
  },
  async write(path, chunks) {
    const handle = await open(path, "w");
    try {
      for await (const chunk of chunks) await handle.writeFile(chunk);
    } finally {
      await handle.close();
    }
  },
  async append(path, chunk) {
    const handle = await open(path, "a");
    try {
      await handle.writeFile(chunk);
    } finally {
      await handle.close();
    }
  },
  fsync: (path) => syncPath(path, "r+"),
  fsyncDirectory: (path) => syncPath(path, "r"),
  rename,
  remove: (path) => rm(path, { recursive: true, force: true }),
  async exists(path) {
    try {
      await stat(path);
      return true;
    } catch (error) {
      if (isSystemError(error) && (error.code === "ENOENT" || error.code === "ENOTDIR")) return false;
      throw error;
    }
  },
  async list(path) {
    return (await readdir(path)).sort();
  },
  async read(path) {
    return await readFile(path);
  },
  open: openForReading,
};

export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).code === "string" && "syscall" in error;
}

/** Creates a folder and those above it that are missing, each name durable before the next is made in it. */
export async function makeFolder(fs: FileSystem, path: string): Promise<void> {
  if (await fs.exists(path)) return;
  const parent = dirname(path);
  await makeFolder(fs, parent);
  await fs.mkdir(path);
  await fs.fsyncDirectory(parent);
}

/** Does something that reads `path`; what the system refuses is BAD_CHECKPOINT. */
export async function reading<Value>(path: string, action: () => Promise<Value>): Promise<Value> {
  try {
    return await action();
  } catch (cause) {
    if (!isSystemError(cause)) throw cause;
    const details = { op: "load", argument: path, wanted: "a readable file", got: reason(cause), cause };
    throw new ForetokenError("BAD_CHECKPOINT", details);
  }
}

/** A JSON file's value; a missing or damaged one is BAD_CHECKPOINT. */
export async function readJson(fs: FileSystem, path: string): Promise<unknown> {
  const bytes = await reading(path, () => fs.read(path));
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    const details = { op: "load", argument: path, wanted: "JSON", got: reason(cause), cause };
    throw new ForetokenError("BAD_CHECKPOINT", details);
  }
}

/** What went wrong, in a few words. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
