// A folder of files for one test, gone when its file of tests is done.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll } from "vitest";

/** Writes the files below a new folder and returns its path. */
export function folderOf(files: Readonly<Record<string, string | Uint8Array>>): string {
  const folder = mkdtempSync(join(tmpdir(), "foretoken-io-"));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** `count` lines of code that no other `name` has. */
export function linesOf(name: string, count: number): string {
  return Array.from({ length: count }, (_, i) => `  const ${name}_${i} = compute(${i});\n`).join("");
}
