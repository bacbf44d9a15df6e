// A file system in memory that can lose power. It keeps beside each file the bytes of its last fsync and beside each
// folder the names of its last fsync with the changes since, counts its steps (every chunk written is one), stops at a
// chosen step, and then shows what a disk may hold: of un-synced bytes and names none, all, or any first part.
import { basename, dirname } from "node:path";
import type { FileSystem, OpenFile } from "../../lib/io/files.js";

type Names = Map<string, Node>;
type Node = File | Folder;

interface File {
  readonly kind: "file";
  bytes: Uint8Array;
  synced: Uint8Array;
}

interface Folder {
  readonly kind: "folder";
  names: Names;
  synced: Names;
  pending: ((names: Names) => void)[];
}

/** The machine stopped. */
export class PowerCut extends Error {}

/** How many of `count` un-synced changes, in their order, reached the disk. */
export type Survivors = (count: number) => number;

export class CrashFileSystem implements FileSystem {
  steps = 0;
  stopAt = Infinity;
  /** From this step on whatever needs space fails with ENOSPC. */
  fullAt = Infinity;
  readonly log: string[] = [];

  constructor(private readonly root: Folder = newFolder()) {}

  /** What is found after the power comes back. */
  afterCrash(survivors: Survivors): CrashFileSystem {
    return new CrashFileSystem(survivingFolder(this.root, survivors));
  }

  mkdir(path: string): Promise<void> {
    return this.step("mkdir", path, true, () => {
      if (this.find(path)) return;
      const folder = newFolder();
      this.change(dirname(path), (names) => names.set(basename(path), folder));
    });
  }

  async write(path: string, chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<void> {
    const file: File = { kind: "file", bytes: new Uint8Array(0), synced: new Uint8Array(0) };
    await this.step("create", path, true, () => this.change(dirname(path), (names) => names.set(basename(path), file)));
    for await (const chunk of chunks) {
      await this.step("write", path, true, () => (file.bytes = joined(file.bytes, chunk)));
    }
  }

  append(path: string, chunk: Uint8Array): Promise<void> {
    return this.step("append", path, true, () => {
      const file = this.file(path);
      file.bytes = joined(file.bytes, chunk);
    });
  }

  fsync(path: string): Promise<void> {
    return this.step("fsync", path, false, () => {
      const file = this.file(path);
      file.synced = file.bytes;
    });
  }

  fsyncDirectory(path: string): Promise<void> {
    return this.step("fsync folder", path, false, () => {
      const folder = this.folder(path);
      folder.synced = new Map(folder.names);
      folder.pending = [];
    });
  }

  rename(from: string, to: string): Promise<void> {
    return this.step("rename", `${from} -> ${to}`, false, () => {
      if (dirname(from) !== dirname(to)) throw new Error("renames between folders are not modelled");
      const node = this.find(from);
      const target = this.find(to);
      if (!node) throw systemError("ENOENT", "rename", from);
      if (target?.kind === "folder" && target.names.size > 0) throw systemError("ENOTEMPTY", "rename", to);
      this.change(dirname(from), (names) => {
        names.delete(basename(from));
        names.set(basename(to), node);
      });
    });
  }

  async remove(path: string): Promise<void> {
    const node = this.find(path);
    if (!node) return;
    if (node.kind === "folder") for (const name of [...node.names.keys()]) await this.remove(`${path}/${name}`);
    await this.step("remove", path, false, () => this.change(dirname(path), (names) => names.delete(basename(path))));
  }

  exists(path: string): Promise<boolean> {
    return Promise.resolve(this.find(path) !== undefined);
  }

  list(path: string): Promise<string[]> {
    return Promise.resolve([...this.folder(path).names.keys()].sort());
  }

  read(path: string): Promise<Uint8Array> {
    return Promise.resolve(this.file(path).bytes.slice());
  }

  open(path: string): Promise<OpenFile> {
    const { bytes } = this.file(path);
    return Promise.resolve({
      size: bytes.length,
      read: (offset, length) => Promise.resolve(bytes.slice(offset, offset + length)),
      close: () => Promise.resolve(),
    });
  }

  /** Every path, folders with a slash behind. */
  paths(folder: Folder = this.root, prefix = "/"): string[] {
    return [...folder.names].flatMap(([name, node]) =>
      node.kind === "file" ? [prefix + name] : [`${prefix}${name}/`, ...this.paths(node, `${prefix}${name}/`)],
    );
  }

  private step(action: string, path: string, needsSpace: boolean, change: () => unknown): Promise<void> {
    return new Promise((resolve) => {
      if (this.steps >= this.stopAt) throw new PowerCut(`before step ${this.steps}: ${action} ${path}`);
      this.steps++;
      this.log.push(`${action} ${path}`);
      if (needsSpace && this.steps > this.fullAt) throw systemError("ENOSPC", action, path);
      change();
      resolve();
    });
  }

  private change(folderPath: string, change: (names: Names) => void): void {
    const folder = this.folder(folderPath);
    change(folder.names);
    folder.pending.push(change);
  }

  private find(path: string): Node | undefined {
    let node: Node | undefined = this.root;
    for (const name of path.split("/").filter(Boolean))
      node = node?.kind === "folder" ? node.names.get(name) : undefined;
    return node;
  }

  private file(path: string): File {
    const node = this.find(path);
    if (node?.kind !== "file") throw systemError("ENOENT", "open", path);
    return node;
  }

  private folder(path: string): Folder {
    const node = this.find(path);
    if (node?.kind !== "folder") throw systemError("ENOENT", "open", path);
    return node;
  }
}

/** None, all, or, with a seed, a random part of what was never synced. */
export function survivors(policy: "none" | "all" | number): Survivors {
  if (policy === "none") return () => 0;
  if (policy === "all") return (count) => count;
  let state = policy;
  return (count) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >>> 8) % (count + 1);
  };
}

function newFolder(): Folder {
  return { kind: "folder", names: new Map(), synced: new Map(), pending: [] };
}

function survivingFolder(folder: Folder, survive: Survivors): Folder {
  const names: Names = new Map(folder.synced);
  for (const change of folder.pending.slice(0, survive(folder.pending.length))) change(names);
  const copies: Names = new Map();
  for (const [name, node] of names) {
    copies.set(name, node.kind === "folder" ? survivingFolder(node, survive) : survivingFile(node, survive));
  }
  return { kind: "folder", names: copies, synced: new Map(copies), pending: [] };
}

function survivingFile(file: File, survive: Survivors): File {
  const unsynced = file.bytes.length - file.synced.length;
  const bytes = unsynced > 0 ? file.bytes.slice(0, file.synced.length + survive(unsynced)) : file.bytes;
  return { kind: "file", bytes, synced: bytes };
}

function joined(head: Uint8Array, tail: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(head.length + tail.length);
  bytes.set(head);
  bytes.set(tail, head.length);
  return bytes;
}

export function systemError(code: string, syscall: string, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${syscall} '${path}'`), { code, syscall, path });
}
