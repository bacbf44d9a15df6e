// node test/run.mjs <step…>: runs the steps named, all of them even after a failure, and ends with one line
// "N passed, N failed" over every check, C++ case and TypeScript test. Exit code 1 when anything failed.
// DEVICE says where the steps `native` and `unit` run: cpu (default), ptx (the software GPU), cuda (a GPU). On the last
// two they are the kernel tests and those TypeScript tests that compute something.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { resolve } from "node:path";

const results = "build/results";
const device = process.env.DEVICE ?? "cpu";
if (!["cpu", "ptx", "cuda"].includes(device)) {
  console.error(`DEVICE: wanted cpu, ptx or cuda, got ${device}`);
  process.exit(2);
}

const failed = { passed: 0, failed: 1 };
const onGpu = { FORETOKEN_DEVICE: "cuda" };

const steps = {
  format: () => check("npm run --silent format:check"),
  lint: () => check("npm run --silent lint"),
  types: () => check("npm run --silent typecheck"),
  native: { cpu: nativeOnCpu, ptx: nativeOnSoftwareGpu, cuda: nativeOnGpu }[device],
  unit: { cpu: unitOnCpu, ptx: unitOnSoftwareGpu, cuda: () => vitest("gpu", onGpu) }[device],
  slow: async () => ((await run("npm run --silent build")).ok ? vitest("slow") : failed),
  package: () => vitest("package"),
  arm64: () => vitest("arm64"),
  // Of the software GPU: the kernel tests once more under other schedules, on a 9.0 card, as hardware may round, and
  // with gaps between the parts of workspaces.
  seeds: () => together([...kernelTests({ PTX_SEED: "2", PTX_SMS: "7" }), ...kernelTests({ PTX_SEED: "3" })]),
  sm90: () => together(kernelTests({ PTX_DEVICE: "sm_90", PTX_SEED: "2" })),
  modes: () =>
    together([
      ...["PTX_FUSE", "PTX_PERTURB", "PTX_TRUNCATE"].flatMap((mode) => kernelTests({ [mode]: "1" })),
      workspaceTests,
    ]),
  calibration,
};

// ---- where ----------------------------------------------------------------------------------------------------------

async function nativeOnCpu() {
  const { ok } = await run("npm run --silent build:native && npm run --silent build:tests");
  return ok ? doctest({ command: "build/foretoken_tests" }) : failed;
}

async function nativeOnSoftwareGpu() {
  const { ok } = await run("npm run --silent build:ptx");
  return ok ? together([{ command: "build/ptx/ptx_tests" }, ...kernelTests({})]) : failed;
}

async function nativeOnGpu() {
  const { ok } = await run("npm run --silent build:cuda:tests");
  return ok ? doctest({ command: "build/ptx/kernel_tests_cuda" }) : failed;
}

async function unitOnCpu() {
  return (await run("npm run --silent build:ts")).ok ? vitest("unit") : failed;
}

function unitOnSoftwareGpu() {
  return vitest("gpu", { ...onGpu, FORETOKEN_ADDON: resolve("build/ptx/foretoken.node") });
}

// In two halves that take about equally long: the software GPU computes on one core.
function kernelTests(variables) {
  const heavy = '"*cross_entropy*,*linear*"';
  return ["--source-file", "--source-file-exclude"].map((option) => ({
    command: `build/ptx/kernel_tests_ptx ${option}=${heavy}`,
    variables,
  }));
}

// Of the kernels whose workspace has several parts: an access between two of them is out of bounds.
const workspaceTests = {
  command: 'build/ptx/kernel_tests_ptx --source-file="*cross_entropy*,*embedding*,*attention_cached*"',
  variables: { FORETOKEN_CACHE: "0" },
};

async function calibration() {
  if (!(await run("npm run --silent build:calibration")).ok) return failed;
  const programs = readdirSync("build/ptx/calibration").filter((name) => name.startsWith("calibrate_"));
  const runs = programs.flatMap((name) => [1, 2, 3].map((seed) => ({ name, seed })));
  return sum(
    await twoAtATime(runs, ({ name, seed }) => check(`build/ptx/calibration/${name}`, calibrated(name, seed))),
  );
}

// The third seed with another number of SMs: odd, except for clusters, which CUTLASS (as the hardware) counts in pairs.
// Programs hold approximations against their documented bounds, so that nothing may be perturbed.
function calibrated(name, seed) {
  const hopper = name.includes("sm90");
  return {
    PTX_SEED: String(seed),
    PTX_DEVICE: hopper ? "sm_90" : "sm_80",
    PTX_PERTURB: "0",
    ...(seed === 3 && { PTX_SMS: hopper ? "6" : "7" }),
    ...(name === "calibrate_diagnostics" && { PTX_SANITIZE: "memory" }),
  };
}

// ---- programs -------------------------------------------------------------------------------------------------------

function run(command, { variables = {}, quiet = false } = {}) {
  const stdio = ["inherit", quiet ? "pipe" : "inherit", "inherit"];
  const child = spawn(command, { shell: true, stdio, env: { ...process.env, ...variables } });
  let output = "";
  child.stdout?.on("data", (data) => (output += data));
  return new Promise((done) => child.on("close", (status) => done({ ok: status === 0, output })));
}

async function check(command, variables) {
  return (await run(command, { variables })).ok ? { passed: 1, failed: 0 } : failed;
}

async function doctest({ command, variables = {} }) {
  const { ok, output } = await run(command, { variables, quiet: true });
  const settings = Object.entries(variables).map(([name, value]) => `${name}=${value} `);
  console.log(`${settings.join("")}${command}\n${output.trimEnd()}`);
  const counts = /test cases:\s*\d+ \|\s*(\d+) passed \|\s*(\d+) failed/.exec(output);
  return counted(ok, Number(counts?.[1] ?? 0), Number(counts?.[2] ?? 0));
}

const together = async (programs) => sum(await twoAtATime(programs, doctest));

async function twoAtATime(items, work) {
  const outcomes = [];
  const queue = items.entries();
  const worker = async () => {
    for (const [i, item] of queue) outcomes[i] = await work(item);
  };
  await Promise.all([worker(), worker()]);
  return outcomes;
}

async function vitest(project, variables = {}) {
  mkdirSync(results, { recursive: true });
  const file = `${results}/${project}.json`;
  rmSync(file, { force: true });
  const report = `--reporter=default --reporter=json --outputFile.json=${file}`;
  const { ok } = await run(`vitest run --project ${project} ${report}`, { variables });
  if (!existsSync(file)) return failed;
  const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(file, "utf8"));
  return counted(ok, numPassedTests, numFailedTests);
}

// A run that died, or a file that did not load, is a failure even when every test counted has passed.
function counted(ok, passed, failures) {
  return { passed, failed: failures === 0 && !ok ? 1 : failures };
}

function sum(outcomes) {
  const total = { passed: 0, failed: 0 };
  for (const { passed, failed: failures } of outcomes) {
    total.passed += passed;
    total.failed += failures;
  }
  return total;
}

// ---- all of them ----------------------------------------------------------------------------------------------------

const outcomes = [];
const lines = [];
for (const name of process.argv.slice(2)) {
  const started = Date.now();
  console.log(`\n== ${name}`);
  const step = await steps[name]();
  lines.push(`${name}: ${step.passed} passed, ${step.failed} failed (${Math.round((Date.now() - started) / 1000)} s)`);
  outcomes.push(step);
}
if (!process.argv.includes("arm64")) lines.push("arm64: NOT RUN here (npm run test:arm64; .ci/run does it)");
if (device !== "cuda") lines.push("GPU: NOT RUN here (DEVICE=cuda npm test, on a machine that has one)");
const { passed, failed: failures } = sum(outcomes);
console.log(`\n${lines.join("\n")}\n${passed} passed, ${failures} failed`);
process.exitCode = failures === 0 ? 0 : 1;
