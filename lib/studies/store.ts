// Finished cells: a JSON file each, whose name is a hash of all that its numbers depend on.
import { createHash } from "node:crypto";
import { join } from "node:path";
import { diskFileSystem, makeFolder, readJson } from "../io/files.js";
import { saveFileAtomically } from "../io/save.js";

/** What a cell's numbers depend on. */
export interface CellKey {
  readonly study: string;
  readonly revision: number;
  /** Of the package. */
  readonly version: string;
  /** Level of the kernels: others round otherwise. */
  readonly simd: string;
  readonly settings: object;
  readonly seed: number;
}

export interface StoredCell extends CellKey {
  readonly seconds: number;
  readonly result: object;
}

/** The same for settings that are equal, in whatever order they are written. */
export function cellHash(key: CellKey): string {
  return createHash("sha256").update(canonical(key)).digest("hex").slice(0, 16);
}

/** JSON with the names of every object in order. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === "object" && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}

/** The finished cells in a folder. */
export class CellStore {
  constructor(readonly folder: string) {}

  /** The cell, if it is finished; a file that is none of ours counts as missing. */
  async read(key: CellKey): Promise<StoredCell | undefined> {
    const path = this.path(key);
    if (!(await diskFileSystem.exists(path))) return undefined;
    const found = await readJson(diskFileSystem, path).catch(() => undefined);
    return isCell(found) && cellHash(pick(found)) === cellHash(key) ? found : undefined;
  }

  /** All of it or nothing. Throws SAVE_FAILED. */
  async write(cell: StoredCell): Promise<void> {
    await makeFolder(diskFileSystem, this.folder);
    await saveFileAtomically(diskFileSystem, this.path(pick(cell)), `${JSON.stringify(cell)}\n`);
  }

  private path(key: CellKey): string {
    return join(this.folder, `${cellHash(key)}.json`);
  }
}

const pick = ({ study, revision, version, simd, settings, seed }: CellKey): CellKey => ({
  ...{ study, revision, version, simd, settings, seed },
});

const isCell = (value: unknown): value is StoredCell =>
  typeof value === "object" && value !== null && "result" in value && "seconds" in value && "settings" in value;
