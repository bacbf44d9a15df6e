// What the compiled kernels must not contain, read from the PTX in the addon under test.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { addonPath } from "../helpers/addon.js";
import { onSoftwareGpu } from "../helpers/levels.js";
import { root } from "../structure/sources.js";

// Instructions that add, or otherwise combine, in memory in the order of arrival. Each with what makes it harmless.
const allowed = {
  "atom.global.or.b32": "embedding's status: one bit, set by whoever finds an unknown token; no order shows in it",
};

function dumpPtx(): string {
  const options = execFileSync(process.execPath, [join(root, "native/cuda/toolkit.mjs"), "--where"], {
    encoding: "utf8",
  });
  const toolkit = /CUDAToolkit_ROOT=(\S+)/.exec(options)?.[1] ?? "";
  return execFileSync(join(toolkit, "bin/cuobjdump"), ["-ptx", addonPath], { encoding: "utf8", maxBuffer: 1 << 30 });
}

/** The distinct instructions of these names, with their modifiers and without a predicate. */
function instructions(ptx: string, ...names: string[]): string[] {
  const pattern = new RegExp(`(?:^|[;:{}])\\s*(?:@!?%?\\w+\\s+)?((?:${names.join("|")})\\.[\\w.:]+)`, "gm");
  return [...new Set([...ptx.matchAll(pattern)].map(([, instruction = ""]) => instruction))].sort();
}

it.each([
  ["after a tab", "\tatom.add.f32 %f1, [%rd1], %f2;", ["atom.add.f32"]],
  ["under a predicate", "@!%p1 red.global.add.f32 [%rd1], %f2;", ["red.global.add.f32"]],
  ["within a line of inline assembly", "{ .reg .pred p; @p red.shared.add.u32 [%r1], 1; }", ["red.shared.add.u32"]],
  ["never as part of another name", "\tredux.sync.add.u32 %r1, %r2, -1;\n\tbarrier.red.popc.u32 %r1, 0, %p1;", []],
])("finds instructions %s", (_, ptx, found) => {
  expect(instructions(ptx, "atom", "red")).toEqual(found);
});

// The machine with a GPU has the addon alone; here the toolkit that compiled it lies beside it.
describe.runIf(onSoftwareGpu)("the kernels' PTX", () => {
  const ptx = onSoftwareGpu ? dumpPtx() : "";

  it("is there for both kinds of card", () => {
    expect(instructions(ptx, "mma\\.sync").length).toBeGreaterThan(0);
    expect(instructions(ptx, "wgmma\\.mma_async").length).toBeGreaterThan(0);
    expect(new Set(ptx.match(/^\.target \w+/gm))).toEqual(new Set([".target sm_80", ".target sm_90a"]));
  });

  it("combines nothing in memory in the order of arrival, but for what is allowed", () => {
    const combining = instructions(ptx, "atom", "red", "multimem\\.red", "cp\\.reduce");
    expect(combining).toEqual(Object.keys(allowed));
  });

  it("multiplies bf16 alone on tensor cores: never an f32 cut to tf32", () => {
    const products = instructions(ptx, "mma\\.sync", "wgmma\\.mma_async");
    expect(products.filter((product) => !/\.f32\.bf16\.bf16(\.f32)?$/.test(product))).toEqual([]);
    expect(ptx).not.toMatch(/tf32/);
  });

  it("calls nothing outside itself: no printf, no assert, no allocation", () => {
    expect(ptx.match(/^\s*\.extern \.func.*/gm) ?? []).toEqual([]);
    expect(ptx).not.toMatch(/\b(vprintf|__assertfail|malloc)\b/);
  });
});
