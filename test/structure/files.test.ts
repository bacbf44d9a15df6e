// The shape of the tree: what lies at the top, how long a file is, where the environment is read.
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { read, root, sources } from "./sources.js";

const code = ["lib", "native", "bench", "test"].flatMap((folder) =>
  sources(folder, ".ts", ".mjs", ".h", ".cpp", ".cu", ".cuh"),
);

test("the top level holds only what the design names", () => {
  const allowed = ["native", "lib", "bench", "test", "docs", "examples", "README.md", "LICENSE", "CONTRIBUTING.md"];
  const build = ["package.json", "package-lock.json", "CMakeLists.txt", "binding.gyp"];
  const settings = ["tsconfig.json", "tsconfig.build.json", "vitest.config.ts", "eslint.config.js"];
  const ignored = read(".gitignore").split("\n").filter(Boolean);
  const strangers = readdirSync(root, { withFileTypes: true })
    .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name))
    .filter((name) => !name.startsWith(".") && !ignored.some((pattern) => matches(pattern, name)))
    .map((name) => name.replace(/\/$/, ""))
    .filter((name) => ![...allowed, ...build, ...settings].includes(name));
  expect(strangers).toEqual([]);
});

function matches(pattern: string, name: string): boolean {
  const parts = pattern.replace(/\/$/, "").split("*");
  const bare = name.replace(/\/$/, "");
  return bare.startsWith(parts[0] ?? "") && bare.endsWith(parts[1] ?? parts[0] ?? "");
}

test("a file has at most 600 lines, or says at its top why it is longer", () => {
  const vendored = "test/native/doctest.h";
  const tooLong = code
    .filter((file) => file !== vendored && !/\.generated\./.test(file))
    .filter((file) => read(file).split("\n").length > 601)
    .filter((file) => !/long because/i.test(read(file).slice(0, 1000)));
  expect(tooLong).toEqual([]);
});

test("environment variables are read in lib/env.ts and native/core/env.cpp and nowhere else", () => {
  const typescript = sources("lib", ".ts").filter((file) => /process\.env\b/.test(read(file)));
  const native = sources("native", ".h", ".cpp", ".cu", ".cuh").filter((file) => /\bgetenv\b/.test(read(file)));
  expect(typescript.filter((file) => file !== "lib/env.ts")).toEqual([]);
  expect(native.filter((file) => file !== "native/core/env.cpp")).toEqual([]);
});

test("lib/native.generated.d.ts is what native/kernels.h says", () => {
  execFileSync(process.execPath, [join(root, "native/node/generate.mjs"), "--check"], { stdio: "pipe" });
});

test("nothing in the sources names a machine's own folders or leaves work for later", () => {
  // Put together here so that this file does not find itself.
  const words = ["TO" + "DO", "FIX" + "ME", "/wo" + "rk/", "/ro" + "ot/"];
  const found = code
    .filter((file) => file !== "test/native/doctest.h")
    .flatMap((file) => words.filter((word) => read(file).includes(word)).map((word) => `${file}: ${word}`));
  expect(found).toEqual([]);
});

test("no any and no type check switched off outside lib/native.ts", () => {
  const off = /@ts-(ignore|nocheck|expect-error)/;
  const wrong = sources("lib", ".ts").filter((file) => file !== "lib/native.ts" && off.test(read(file)));
  expect(wrong).toEqual([]);
});
