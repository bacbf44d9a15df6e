// Trees of drafts: fitted by `eval --fit-tree`, kept beside the model, read by `generate --tree`.
import { join } from "node:path";
import type { FittedTree } from "../decode/fit.js";
import type { DraftTree } from "../decode/tree.js";
import { ForetokenError } from "../errors.js";
import { diskFileSystem, readJson } from "../io/files.js";
import { saveFileAtomically } from "../io/save.js";
import { formatCount, formatTable } from "./format.js";

const fileName = "tree.json";

/** Writes `<folder>/tree.json`; returns its path. */
export async function saveTree(folder: string, { tree, expectedTokensPerForward }: FittedTree): Promise<string> {
  const path = join(folder, fileName);
  await saveFileAtomically(diskFileSystem, path, `${JSON.stringify({ tree, expectedTokensPerForward })}\n`);
  return path;
}

/** The tree of that file, or of the one beside the model. Throws BAD_OPTION for a file without one. */
export async function readTree(folder: string, file: string | true): Promise<DraftTree> {
  const path = file === true ? join(folder, fileName) : file;
  const refuse = (got: string, remedy?: string): never => {
    const wanted = 'a JSON file with the paths of a tree, as {"tree": [[0], [0, 0], [1]]}';
    throw new ForetokenError("BAD_OPTION", { op: "generate", argument: "--tree", wanted, got, remedy });
  };
  if (!(await diskFileSystem.exists(path))) {
    refuse(`no file ${path}`, "`foretoken eval <dir> --fit-tree` writes one.");
  }
  const json = await readJson(diskFileSystem, path);
  const tree = typeof json === "object" && json !== null && "tree" in json ? json.tree : json;
  return isTree(tree) ? tree : refuse(`${path}, with something else`);
}

const isTree = (value: unknown): value is DraftTree =>
  Array.isArray(value) && value.every((path) => Array.isArray(path) && path.every((rank) => typeof rank === "number"));

/** What trees of some sizes are worth. */
export function treeTable({ tree, expectedTokensPerForward, positions }: FittedTree): string {
  const sizes = [0, 1, 2, 4, 8, 16, 32, 64, 128].filter((size) => size < tree.length);
  const rows = [...sizes, tree.length].map((size) => [
    String(size),
    (expectedTokensPerForward[size] ?? NaN).toFixed(3),
    size === 0 ? "" : `[${tree[size - 1]?.join(", ") ?? ""}]`,
  ]);
  const table = formatTable([["nodes", "tokens/forward", "the last one"], ...rows]);
  return `trees of drafts, over ${formatCount(positions)} positions:\n${table}`;
}
