// The tarball as its users get it: packed, installed into an empty folder by a bare environment without a compiler,
// imported, required, trained with, under the Node present and the newest majors.
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { mostAddonBytes } from "../helpers/addon.js";
import { root } from "../structure/sources.js";

const majors = [24, 25, 26];
const work = mkdtempSync(join(tmpdir(), "foretoken-package-"));
const user = join(work, "user");
const bare = { PATH: join(work, "bin"), HOME: process.env["HOME"] ?? work };
let tarball = "";
let packed: { files: { path: string; size: number }[]; unpackedSize: number } = { files: [], unpackedSize: 0 };

function run(cwd: string, env: NodeJS.ProcessEnv, command: string, ...args: string[]): string {
  return execFileSync(command, args, { cwd, env, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}

function which(command: string): string {
  return realpathSync(run(root, process.env, "sh", "-c", `command -v ${command}`).trim());
}

function nodeBinary(major: number): string {
  return join(root, `build/nodes/node_modules/node${major}/bin/node`);
}

beforeAll(() => {
  run(root, process.env, "npm", "run", "package");
  const report = run(root, process.env, "npm", "pack", "--json", "--ignore-scripts", "--pack-destination", work);
  [packed] = JSON.parse(report) as [typeof packed & { filename: string }];
  tarball = join(work, (packed as typeof packed & { filename: string }).filename);

  mkdirSync(bare.PATH);
  for (const tool of ["node", "npm", "sh", "env"]) symlinkSync(which(tool), join(bare.PATH, tool));
  mkdirSync(user);
  writeFileSync(join(user, "package.json"), JSON.stringify({ private: true }));
  for (const script of ["consumer.mjs", "consumer.cjs"])
    copyFileSync(join(root, "test/package", script), join(user, script));
  run(user, bare, join(bare.PATH, "npm"), "install", "--no-audit", "--no-fund", tarball);

  const nodes = join(root, "build/nodes");
  mkdirSync(nodes, { recursive: true });
  const wanted = majors.map((major) => `node${major}@npm:node-${process.platform}-${process.arch}@${major}`);
  run(nodes, process.env, "npm", "install", "--prefix", nodes, "--no-audit", "--no-fund", ...wanted);
}, 600_000);

afterAll(() => {
  rmSync(work, { recursive: true, force: true });
});

describe("the tarball", () => {
  test("holds the compiled library, the command and the binary, and no source to build", () => {
    const paths = packed.files.map(({ path }) => path);
    const binary = `prebuilds/${process.platform}-${process.arch}/foretoken.glibc.node`;
    expect(paths).toEqual(expect.arrayContaining(["dist/index.js", "dist/index.d.ts", "dist/cli/main.js", binary]));
    expect(paths.filter((path) => /^(native|test|bench|lib|build)\/|binding\.gyp|CMakeLists/.test(path))).toEqual([]);
    expect(packed.files.find(({ path }) => path === binary)?.size).toBeLessThanOrEqual(mostAddonBytes());
  });

  test("runs nothing when it is installed", () => {
    const manifest = JSON.parse(readFileSync(join(user, "node_modules/foretoken/package.json"), "utf8")) as {
      gypfile?: boolean;
      scripts?: Record<string, string>;
    };
    expect(manifest.gypfile).toBe(false);
    expect(Object.keys(manifest.scripts ?? {})).not.toEqual(expect.arrayContaining(["install"]));
    expect(Object.keys(manifest.scripts ?? {}).filter((name) => /^(pre|post)install$/.test(name))).toEqual([]);
  });

  test("passes publint", () => {
    expect(run(root, process.env, "npx", "publint", "run", tarball, "--strict")).toMatch(/All good/);
  });

  test("has types that resolve for ES modules", () => {
    expect(run(root, process.env, "npx", "attw", tarball, "--profile", "esm-only")).toContain("🟢 (ESM)");
  });

  test("has types that compile for a strict user, each declaration file included", () => {
    writeFileSync(
      join(user, "user.mts"),
      'import * as foretoken from "foretoken";\nexport default foretoken.openDevice("cpu");\n',
    );
    const strict = ["--noEmit", "--strict", "--skipLibCheck", "false", "--module", "nodenext", "--target", "es2022"];
    const types = [
      "--lib",
      "es2023,esnext.disposable",
      "--types",
      "node",
      "--typeRoots",
      join(root, "node_modules/@types"),
    ];
    expect(run(user, process.env, join(root, "node_modules/.bin/tsc"), ...strict, ...types, "user.mts")).toBe("");
  });
});

describe.each([
  { name: "the Node present", node: process.execPath },
  ...majors.map((major) => ({ name: `Node ${major}`, node: nodeBinary(major) })),
])("on $name", ({ node }) => {
  test("trains ten steps and generates through import", () => {
    const { losses, text } = JSON.parse(run(user, bare, node, "consumer.mjs")) as { losses: number[]; text: string };
    expect(losses).toHaveLength(10);
    expect(losses.every(Number.isFinite)).toBe(true);
    expect(losses[9]).toBeLessThan(losses[0] ?? 0);
    expect(text.length).toBeGreaterThan(0);
  });

  test("computes through require, with the names that import has", () => {
    const required = JSON.parse(run(user, bare, node, "consumer.cjs")) as { names: string[]; data: number[] };
    const imported = run(
      user,
      bare,
      node,
      "--input-type=module",
      "-e",
      'console.log(Object.keys(await import("foretoken")).join())',
    );
    expect(required.data).toEqual([1, 2, 3]);
    expect(required.names.filter((name) => name !== "__esModule" && name !== "module.exports").sort()).toEqual(
      imported.trim().split(",").sort(),
    );
  });

  test("has a command that explains itself", () => {
    expect(run(user, bare, node, "node_modules/foretoken/dist/cli/main.js", "--help")).toMatch(/train/);
  });
});
