// Finding and reading text: files, folders and globs become a list of files, in an order that depends on nothing but
// their names, and the groups that a split must not tear apart.
import { createHash } from "node:crypto";
import { readFileSync, realpathSync, statSync } from "node:fs";
import { dirname, relative, resolve, sep } from "node:path";
import type * as Globs from "tinyglobby";
import { ForetokenError } from "../errors.js";
import { lazyPackage } from "../lazy.js";
import { reason } from "./files.js";

const globs = lazyPackage<typeof Globs>("tinyglobby");

export interface LoadedFile {
  /** Path below the deepest folder that holds all files, with forward slashes. */
  readonly name: string;
  readonly content: Uint8Array;
  /** SHA-256 of the content. */
  readonly sha256: string;
}

export interface LoadedText {
  /** The deepest folder that holds all files. */
  readonly base: string;
  readonly files: readonly LoadedFile[];
  /** Binary files that were passed over in folders and globs. */
  readonly binaries: number;
}

interface FoundFile {
  readonly path: string;
  /** Given by its own name, so that passing over it would be a surprise. */
  readonly named: boolean;
}

/**
 * Reads the files that paths (files, folders, globs, `!` to leave out) mean, hidden ones only when named. Errors:
 * BAD_DATA for a path without files, an unreadable or binary file given by name, only binaries, only empty files.
 */
export function loadText(paths: readonly string[]): LoadedText {
  const found = findFiles(paths);
  const base = commonFolder(found.map((file) => file.path));
  const files: LoadedFile[] = [];
  let binaries = 0;
  for (const { path, named } of found) {
    const content = readable(path, (file) => readFileSync(file));
    const isBinary = content.includes(0);
    if (named && isBinary)
      throw badData(path, "text", "a file with a zero byte", "Byte 0 ends a document: leave binaries out.");
    if (named && content.length === 0) throw badData(path, "text", "an empty file");
    if (isBinary) binaries++;
    if (isBinary || content.length === 0) continue;
    const sha256 = createHash("sha256").update(content).digest("hex");
    files.push({ name: relative(base, path).split(sep).join("/"), content, sha256 });
  }
  if (files.length === 0) {
    const got = binaries > 0 ? `${binaries} binary files (they hold zero bytes)` : `${found.length} empty files`;
    throw badData(paths.join(", "), "text", got);
  }
  return { base, files, binaries };
}

/** The npm package of each file, or its top folder (itself where it lies in none); only that where all are one package. */
export function groupsOf(names: readonly string[], base: string): string[] {
  const topOf = (name: string) => name.split("/", 1)[0] ?? name;
  const prefix = `${base.split(sep).join("/")}/`;
  const packages = names.map((name) => packageOf(prefix + name) ?? topOf(name));
  return new Set(packages).size > 1 ? packages : names.map(topOf);
}

/** `@scope/name` or `name` behind the last node_modules of a path: a nested copy belongs to its own package. */
function packageOf(path: string): string | undefined {
  return /^.*\/node_modules\/(@[^/]+\/[^/]+|[^/]+)\//.exec(path)?.[1];
}

function findFiles(paths: readonly string[]): FoundFile[] {
  const ignore = paths.filter((path) => path.startsWith("!")).map((path) => path.slice(1));
  const all: FoundFile[] = [];
  for (const path of paths.filter((path) => !path.startsWith("!"))) {
    const matches = matchesOf(path, ignore);
    if (matches.length === 0) throw badData(path, "files", "no match", "Give files, folders or globs that exist.");
    for (const match of matches) all.push(match);
  }
  if (all.length === 0) throw badData("paths", "at least one file, folder or glob", "none");
  all.sort((a, b) => (a.path < b.path ? -1 : 1)); // by code units: no locale

  const found = new Map<string, FoundFile>(); // links and several patterns may lead to one file: it is read once
  for (const file of all) {
    const key = readable(file.path, (path) => realpathSync(path));
    const known = found.get(key) ?? file;
    found.set(key, { path: known.path, named: known.named || file.named });
  }
  return [...found.values()];
}

function matchesOf(path: string, ignore: readonly string[]): FoundFile[] {
  const kind = readable(path, (file) => statSync(file, { throwIfNoEntry: false }));
  if (kind?.isFile()) return [{ path: resolve(path), named: true }];
  const pattern = kind?.isDirectory() ? `${globs().escapePath(path.replace(/\/+$/, "") || "/")}/**` : path;
  if (!kind && !globs().isDynamicPattern(path)) return [];
  const options = { absolute: true, expandDirectories: false, ignore: [...ignore] };
  return globs()
    .globSync(pattern, options)
    .map((match) => ({ path: resolve(match), named: false }));
}

function readable<Value>(path: string, action: (path: string) => Value): Value {
  try {
    return action(path);
  } catch (cause) {
    const details = { op: "textDataset", argument: path, wanted: "a readable file", got: reason(cause), cause };
    throw new ForetokenError("BAD_DATA", details);
  }
}

function commonFolder(paths: readonly string[]): string {
  let common = dirname(paths[0] ?? "/");
  for (const path of paths) {
    while (common !== sep && !path.startsWith(common + sep)) common = dirname(common);
  }
  return common;
}

function badData(argument: string, wanted: string, got: string, remedy?: string): ForetokenError {
  return new ForetokenError("BAD_DATA", { op: "textDataset", argument, wanted, got, remedy });
}
