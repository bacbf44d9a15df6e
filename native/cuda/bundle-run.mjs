// What foretoken-gpu/run.sh starts on a machine with a GPU, in the folder that bundle.mjs has packed.
//   ./run.sh [--smoke] [part…]   all parts, or these; --smoke: benches in tiny sizes
// Results: results/summary.json, one JSON file per part (doctor, kernels, suite, bench-*), kernels.txt.
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { performance } from "node:perf_hooks";

const { FORETOKEN_ADDON, FORETOKEN_KERNEL_TESTS } = process.env;
const addon = FORETOKEN_ADDON ?? join(import.meta.dirname, "build/Release/foretoken.node");
const kernelTests = FORETOKEN_KERNEL_TESTS ?? "build/ptx/kernel_tests_cuda";
const env = { ...process.env, DEVICE: "cuda", FORETOKEN_DEVICE: "cuda", FORETOKEN_ADDON: addon };
process.chdir(import.meta.dirname);
mkdirSync("results", { recursive: true });

const smoke = process.argv.includes("--smoke");
const chosen = process.argv.slice(2).filter((word) => word !== "--smoke");

const save = (name, value) => writeFileSync(`results/${name}.json`, `${JSON.stringify(value, null, 2)}\n`);

function run(command, args, { quiet = false } = {}) {
  const stdio = ["ignore", quiet ? "pipe" : "inherit", "inherit"];
  const { status, stdout } = spawnSync(command, args, { env, stdio, encoding: "utf8", maxBuffer: 2 ** 30 });
  return { ok: status === 0, output: stdout ?? "" };
}
const node = (...args) => run(process.execPath, args);

const parts = {
  doctor() {
    const doctor = ["dist/cli/main.js", "doctor", "--device", "cuda"];
    const { ok, output } = run(process.execPath, [...doctor, "--json"], { quiet: true });
    writeFileSync("results/doctor.json", output);
    for (const line of output.trim().split("\n")) {
      const { selfTest = [], gpu, message } = JSON.parse(line);
      for (const { level, dtype, tested, failures } of selfTest)
        console.log(`${level} ${dtype}: ${tested - failures.length} of ${tested} kernels right`, ...failures);
      if (gpu?.product) console.log(`bf16 products: ${(gpu.product.flops / 1e12).toPrecision(3)} TFLOP/s`);
      if (message) console.error(message);
    }
    return ok;
  },
  kernels() {
    const { ok, output } = run(kernelTests, [], { quiet: true });
    writeFileSync("results/kernels.txt", output);
    console.log(ok ? output.trimEnd().split("\n").slice(-3).join("\n") : output);
    const [, passed, failed] = /test cases:\s*\d+ \|\s*(\d+) passed \|\s*(\d+) failed/.exec(output) ?? [];
    save("kernels", { passed: Number(passed ?? 0), failed: Number(failed ?? 0), ok });
    return ok;
  },
  suite() {
    const reports = ["--reporter=default", "--reporter=json", "--outputFile.json=results/suite.json"];
    return node("node_modules/vitest/vitest.mjs", "run", "--project", "gpu", ...reports).ok;
  },
  benches() {
    const questions = ["loss", "step", "decode", "overhead"];
    const { ok } = node("--import", "tsx", "bench/main.ts", ...questions, "--save", ...(smoke ? ["--smoke"] : []));
    mkdirSync("bench/results", { recursive: true });
    for (const file of readdirSync("bench/results")) cpSync(`bench/results/${file}`, `results/bench-${file}`);
    return ok;
  },
};

const unknown = chosen.find((name) => !(name in parts));
if (unknown !== undefined) {
  console.error(`${unknown}: no such part; there are ${Object.keys(parts).join(", ")}`);
  process.exit(2);
}

// Without a GPU nothing of this says anything: one message, and no results.
process.env.FORETOKEN_ADDON = addon;
const { openDevice } = await import("./dist/index.js");
let gpu;
try {
  const { name, simd } = openDevice("cuda");
  gpu = { name, kernels: simd };
} catch (error) {
  console.error(error.message);
  process.exit(1);
}

const commit = readFileSync("commit", "utf8").trim();
console.log(`foretoken ${commit} on ${gpu.name}, kernels for ${gpu.kernels}`);
const summary = { commit, date: new Date().toISOString(), node: process.version, gpu, parts: [] };
for (const name of chosen.length > 0 ? chosen : Object.keys(parts)) {
  console.log(`\n==== ${name}`);
  const start = performance.now();
  const ok = parts[name]();
  summary.parts.push({ name, ok, seconds: Math.round((performance.now() - start) / 100) / 10 });
  save("summary", summary);
}
console.log(`\n${summary.parts.map(({ name, ok }) => `${name}: ${ok ? "passed" : "FAILED"}`).join("\n")}`);
process.exitCode = summary.parts.every(({ ok }) => ok) ? 0 : 1;
