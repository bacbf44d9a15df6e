// Who may include whom in native/: backends never see each other, the bindings never see a backend.
import { posix } from "node:path";
import { expect, test } from "vitest";
import { read, sources } from "./sources.js";

const contract = ["native/kernels.h", "native/core/"];
const mayInclude: Record<string, readonly string[]> = {
  "native/kernels.h": ["native/core/"],
  "native/core/": contract,
  "native/cpu/": [...contract, "native/cpu/"],
  "native/cuda/": [...contract, "native/cuda/"],
  "native/node/": [...contract, "native/node/"],
};

// Of the standard headers, those whose every declaration has one definition for all SIMD levels.
const allowedInLevels = ["cfloat", "climits", "cstddef", "cstdint", "immintrin.h"];

const files = sources("native", ".h", ".cpp", ".cu", ".cuh");

function includes(file: string): { project: string[]; system: string[] } {
  const found = { project: [] as string[], system: [] as string[] };
  for (const [, mark, name] of read(file).matchAll(/^\s*#\s*include\s*([<"])([^>"]+)[>"]/gm)) {
    if (name === undefined) continue;
    const candidates = [posix.join(posix.dirname(file), name), posix.join("native", name)];
    const project = candidates.find((path) => files.includes(path));
    if (mark === "<") found.system.push(name);
    else if (project !== undefined) found.project.push(project);
  }
  return found;
}

function withAllIncluded(file: string, seen = new Set<string>()): Set<string> {
  if (seen.has(file)) return seen;
  seen.add(file);
  for (const next of includes(file).project) withAllIncluded(next, seen);
  return seen;
}

test("a part of native includes only what it may see", () => {
  expect(files.length).toBeGreaterThan(0);
  const wrong = files.flatMap((file) => {
    const part = Object.keys(mayInclude).find((prefix) => file.startsWith(prefix)) ?? "";
    return includes(file)
      .project.filter((to) => !(mayInclude[part] ?? []).some((prefix) => to.startsWith(prefix)))
      .map((to) => `${file} includes ${to}`);
  });
  expect(wrong).toEqual([]);
});

test("N-API headers are included under native/node only", () => {
  const headers = ["node_api.h", "js_native_api.h", "napi.h", "node.h", "v8.h", "uv.h"];
  const wrong = files.filter(
    (file) => !file.startsWith("native/node/") && includes(file).system.some((name) => headers.includes(name)),
  );
  expect(wrong).toEqual([]);
});

test("what is compiled once per SIMD level reaches no header that defines functions outside its namespace", () => {
  const levelFiles = files.filter((file) => /^native\/cpu\/[^/]+\.cpp$/.test(file) && !file.endsWith("/backend.cpp"));
  expect(levelFiles.length).toBeGreaterThan(0);
  const reached = new Set(levelFiles.flatMap((file) => [...withAllIncluded(file)]));
  const wrong = [...reached].flatMap((file) =>
    includes(file)
      .system.filter((name) => !allowedInLevels.includes(name))
      .map((name) => `${file} includes <${name}>`),
  );
  expect(wrong).toEqual([]);
});

test("the generic level is portable: no header of one processor or one system", () => {
  const wrong = files
    .filter((file) => file.startsWith("native/cpu/generic/") || file === "native/cpu/table.cpp")
    .flatMap((file) => [...withAllIncluded(file)].map((reached) => ({ file, reached })))
    .flatMap(({ file, reached }) => includes(reached).system.map((name) => `${file}: ${reached} includes <${name}>`))
    .filter((line) => /[./]/.test(line.slice(line.indexOf("<"))));
  expect(wrong).toEqual([]);
});
