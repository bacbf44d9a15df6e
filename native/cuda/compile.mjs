// node native/cuda/compile.mjs nvcc <arguments…>: runs the compiler, keeps ptxas's report of every kernel beside the
// object (<object>.resources.json) and fails on what ptxas says only in passing although it makes a kernel slow: a
// spilled register, a wgmma that it had to serialise, a setmaxnreg that it ignored.
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { basename } from "node:path";

// Kernels that may spill, each with its reason. None.
const maySpill = [];

const [compiler, ...given] = process.argv.slice(2);
const child = spawnSync(compiler, given, {
  encoding: "utf8",
  stdio: ["inherit", "inherit", "pipe"],
  maxBuffer: 2 ** 28,
});
const log = child.stderr ?? "";
const output = given[given.indexOf("-o") + 1];

const kernels = [];
for (const line of log.split("\n")) {
  const compiling = /Compiling entry function '([^']+)' for '([^']+)'/.exec(line);
  if (compiling) kernels.push({ kernel: compiling[1], architecture: compiling[2] });
  const current = kernels.at(-1);
  const stack = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
  if (stack && current) Object.assign(current, { stack: +stack[1], spillStores: +stack[2], spillLoads: +stack[3] });
  const used = /Used (\d+) registers(?:, used (\d+) barriers)?(?:.*?, (\d+) bytes smem)?/.exec(line);
  if (used && current)
    Object.assign(current, { registers: +used[1], barriers: +(used[2] ?? 0), shared: +(used[3] ?? 0) });
}

const isReport = (line) =>
  /^ptxas info\s+: (\d+ bytes gmem|Compiling entry|Function properties|Used \d+ reg|Compile time)|^\s+\d+ bytes stack frame/.test(
    line,
  ) ||
  /^ptxas info\s+: Function properties/.test(line) ||
  line.trim() === "" ||
  /bytes (gmem|cmem)/.test(line);
const rest = log.split("\n").filter((line) => !isReport(line));
if (rest.length > 0) console.error(rest.join("\n"));
if (child.status !== 0) process.exit(child.status ?? 1);

const wrong = rest.filter((line) => /C75\d\d|serialized|setmaxnreg ignored/.test(line));
for (const { kernel, architecture, spillStores = 0, spillLoads = 0 } of kernels)
  if (spillStores + spillLoads > 0 && !maySpill.some((name) => kernel.includes(name)))
    wrong.push(`${kernel} (${architecture}) spills: ${spillStores} bytes stored, ${spillLoads} loaded`);
if (wrong.length > 0) {
  console.error(`${basename(output)}: refused for what ptxas says:\n  ${wrong.join("\n  ")}`);
  process.exit(1);
}
if (kernels.length > 0) writeFileSync(`${output}.resources.json`, JSON.stringify(kernels, null, 1) + "\n");
