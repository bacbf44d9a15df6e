// The portable level on another processor: cross-compiled for arm64 and run, C++ tests and all, under qemu-user.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { root } from "../structure/sources.js";

const build = join(root, "build/arm64");
const sysroot = "/usr/aarch64-linux-gnu";

function run(command: string, ...args: string[]): string {
  const child = spawnSync(command, args, { cwd: root, encoding: "utf8", maxBuffer: 1 << 28 });
  if (child.error)
    throw new Error(`${command}: ${child.error.message} (apt-get install g++-aarch64-linux-gnu qemu-user)`);
  if (child.status !== 0)
    throw new Error(`${command} exited with ${String(child.status)}\n${child.stdout}${child.stderr}`);
  return child.stdout;
}

test("the C++ tests compile for arm64 with the generic level alone", () => {
  const target = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"];
  const compiler = "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++";
  const options = ["-DFORETOKEN_LEVELS=generic", "-DFORETOKEN_TESTS=ON"];
  run("cmake", "-S", root, "-B", build, "-G", "Ninja", ...target, compiler, ...options);
  run("cmake", "--build", build);
  expect(run("aarch64-linux-gnu-objdump", "-f", `${build}/foretoken_tests`)).toMatch(/aarch64/);
});

test("and pass under qemu", () => {
  const report = run("qemu-aarch64", "-L", sysroot, `${build}/foretoken_tests`, "--no-colors=true");
  const [, cases, failed] = /test cases:\s*(\d+) \|.*?(\d+) failed/.exec(report) ?? [];
  console.log(report.trimEnd());
  expect(Number(cases)).toBeGreaterThan(1);
  expect(Number(failed)).toBe(0);
});
