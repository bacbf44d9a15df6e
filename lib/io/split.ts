// Splitting without leaks: whole groups (packages, top folders) are held out, never parts of one.
import { createHash } from "node:crypto";
import { ForetokenError, nearestName } from "../errors.js";

export interface SplitOptions {
  /** Share of the bytes to hold out, as nearly as whole groups allow. Default: 0.1, unless groups are named. */
  readonly fraction?: number | undefined;
  /** Names of the groups to hold out. */
  readonly groups?: readonly string[] | undefined;
  /** Which groups are drawn. */
  readonly seed?: number | undefined;
}

export interface Group {
  readonly name: string;
  readonly files: number;
  readonly bytes: number;
}

/** Sizes of the groups, by name. */
export function countGroups(files: readonly { readonly group: string; readonly bytes: number }[]): Group[] {
  const groups = new Map<string, { files: number; bytes: number }>();
  for (const { group, bytes } of files) {
    const sum = groups.get(group) ?? { files: 0, bytes: 0 };
    groups.set(group, { files: sum.files + 1, bytes: sum.bytes + bytes });
  }
  return [...groups].map(([name, sum]) => ({ name, ...sum })).sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The groups to hold out of two or more. Errors: BAD_DATA for an unknown name or when nothing is left to train on. */
export function chooseGroups(groups: readonly Group[], options: SplitOptions): Set<string> {
  const chosen = options.groups ? checkedNames(groups, options.groups) : drawGroups(groups, options);
  if (chosen.size < groups.length) return chosen;
  throw badSplit("groups", "groups left to train on", "all are held out");
}

/** The fraction of a split. Errors: BAD_DATA outside 0 to 1. */
export function checkedFraction({ fraction = 0.1 }: SplitOptions): number {
  if (fraction > 0 && fraction < 1) return fraction;
  throw badSplit("fraction", "a number between 0 and 1", `${fraction}`);
}

/** In an order drawn by the seed: every group that still fits; then the one, if any, that brings the share nearer. */
function drawGroups(groups: readonly Group[], options: SplitOptions): Set<string> {
  const total = groups.reduce((sum, group) => sum + group.bytes, 0);
  const wanted = checkedFraction(options) * total;
  const drawn = [...groups].sort((a, b) => (rank(a, options) < rank(b, options) ? -1 : 1));
  const chosen = new Set<string>();
  let bytes = 0;
  for (const group of drawn) {
    if (bytes + group.bytes > wanted) continue;
    chosen.add(group.name);
    bytes += group.bytes;
  }
  const rest = drawn.filter((group) => !chosen.has(group.name)).sort((a, b) => a.bytes - b.bytes);
  const smallest = rest[0];
  const nearer = smallest && bytes + smallest.bytes - wanted < wanted - bytes;
  if (smallest && rest.length > 1 && (bytes === 0 || nearer)) chosen.add(smallest.name);
  return chosen;
}

function rank(group: Group, { seed = 0 }: SplitOptions): string {
  return createHash("sha256").update(`${seed}\n${group.name}`).digest("hex");
}

function checkedNames(groups: readonly Group[], names: readonly string[]): Set<string> {
  const known = groups.map((group) => group.name);
  for (const name of names) {
    if (known.includes(name)) continue;
    const nearest = nearestName(name, known);
    const remedy = nearest === undefined ? undefined : `Did you mean "${nearest}"?`;
    throw badSplit("groups", `one of ${known.slice(0, 20).join(", ")}${known.length > 20 ? " …" : ""}`, name, remedy);
  }
  if (names.length === 0) throw badSplit("groups", "at least one name", "none");
  return new Set(names);
}

function badSplit(argument: string, wanted: string, got: string, remedy?: string): ForetokenError {
  return new ForetokenError("BAD_DATA", { op: "split", argument, wanted, got, remedy });
}
