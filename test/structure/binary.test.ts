// What the compiler made: SIMD levels kept apart, and an addon that loads anywhere.
import { execFileSync } from "node:child_process";
import { statSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { addonPath as addon, mostAddonBytes } from "../helpers/addon.js";
import { read, root } from "./sources.js";

const build = join(root, "build");
const simdLevels = ["avx2", "avx512", "avx512bf16", "amx"];

/** Object files of one CMake target, as the build lists them (a deleted source's object may still lie around). */
function objects(target: string): string[] {
  const commands = JSON.parse(read("build/compile_commands.json")) as { output: string }[];
  const files = commands.map((command) => resolve(build, command.output));
  return files.filter((file) => file.startsWith(join(build, `CMakeFiles/${target}.dir/`)));
}

function output(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: "utf8", maxBuffer: 1 << 30 });
}

describe.runIf(process.arch === "x64")("SIMD levels", () => {
  // A weak symbol (W, V, u) exists once per object and the linker keeps any one: perhaps AVX-512 code for everyone.
  // Inside the level's namespace every copy is of that level.
  test.each(simdLevels)("no object of level %s has a weak symbol outside its namespace", (level) => {
    const files = objects(`foretoken_cpu_${level}`);
    expect(files.length).toBeGreaterThan(0);
    const ofLevel = new RegExp(` [WVu] _Z(T[VTIS]|G[VR])?Z?N[rVK]*9foretoken${level.length}${level}`);
    const weak = output("nm", "--print-file-name", "--defined-only", ...files)
      .split("\n")
      .filter((line) => / [WVu] /.test(line) && !ofLevel.test(line))
      .map((line) => line.slice(build.length));
    expect(weak).toEqual([]);
  });

  test.each(["foretoken_core", "foretoken_cpu_generic", "foretoken_cpu_backend", "foretoken_node"])(
    "no object of %s has an AVX instruction: it runs on every x86-64",
    (target) => {
      const files = objects(target);
      expect(files.length).toBeGreaterThan(0);
      const lines = output("objdump", "--disassemble", "--no-show-raw-insn", ...files).split("\n");
      expect(lines.length).toBeGreaterThan(10);
      expect(lines.filter((line) => /%[yz]mm|%k[0-7]\b|:\tv[a-z]/.test(line)).slice(0, 10)).toEqual([]);
    },
  );

  test("that search finds AVX instructions where there are some", () => {
    const code = output("objdump", "--disassemble", "--no-show-raw-insn", ...objects("foretoken_cpu_avx512"));
    expect(code).toMatch(/%zmm\d/);
    expect(code).toMatch(/:\tv[a-z]/);
  });
});

describe("the addon", () => {
  test("exports the two N-API symbols only", () => {
    const names = output("nm", "--dynamic", "--defined-only", "--format=posix", addon).trim().split("\n");
    expect(names.map((line) => line.split(" ")[0]).sort()).toEqual([
      "napi_register_module_v1",
      "node_api_module_get_api_version_v1",
    ]);
  });

  test("needs nothing but glibc and libgcc", () => {
    const needed = [...output("objdump", "--private-headers", addon).matchAll(/NEEDED\s+(\S+)/g)].map(
      ([, name]) => name,
    );
    expect(needed).toContain("libc.so.6");
    const known = /^(libc\.so\.6|libm\.so\.6|libpthread\.so\.0|libgcc_s\.so\.1|ld-linux-[\w-]+\.so\.\d)$/;
    expect(needed.filter((name) => !known.test(name ?? ""))).toEqual([]);
  });

  // The driver is found when it is needed: the same file loads where there is none, and no library of CUDA is needed.
  test("leaves no name of CUDA for others to define", () => {
    const names = output("nm", "--dynamic", "--undefined-only", "--format=posix", addon).split("\n");
    expect(names.some((line) => line.startsWith("napi_"))).toBe(true);
    expect(names.filter((line) => /^(cu|cuda|cublas|nvrtc|nvml|__cuda)[A-Z]/.test(line))).toEqual([]);
  });

  // Where glibc is newer than Debian 12's, the same sources bind to newer symbols; releases are built on Debian 12.
  test.runIf(glibc() <= 236)("asks for glibc 2.34 at most", () => {
    const asked = [...output("objdump", "--dynamic-syms", addon).matchAll(/GLIBC_2\.(\d+)/g)].map(([, minor]) =>
      Number(minor),
    );
    expect(asked.length).toBeGreaterThan(0);
    expect(Math.max(...asked)).toBeLessThanOrEqual(34);
  });

  test("takes at most 3 MB, with the CUDA backend 8 MB", () => {
    expect(statSync(addon).size).toBeLessThanOrEqual(mostAddonBytes());
  });
});

/** 236 for glibc 2.36. */
function glibc(): number {
  const report = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  const [major = 0, minor = 0] = (report.header.glibcVersionRuntime ?? "99.0").split(".").map(Number);
  return major * 100 + minor;
}
