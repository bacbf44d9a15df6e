// node test/run.mjs <step…>: runs the steps named, all of them even after a failure, and ends with one line
// "N passed, N failed" over every check, C++ case and TypeScript test. Exit code 1 when anything failed.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";

const results = "build/results";

const steps = {
  format: () => check("npm run --silent format:check"),
  lint: () => check("npm run --silent lint"),
  types: () => check("npm run --silent typecheck"),
  native: () => (run("npm run --silent build:native && npm run --silent build:tests").ok ? doctest() : failed),
  unit: () => (run("npm run --silent build:ts").ok ? vitest("unit") : failed),
  slow: () => (run("npm run --silent build").ok ? vitest("slow") : failed),
  package: () => vitest("package"),
  arm64: () => vitest("arm64"),
};

const failed = { passed: 0, failed: 1 };

function run(command, options = {}) {
  const child = spawnSync(command, { shell: true, stdio: "inherit", ...options });
  return { ok: child.status === 0, output: child.stdout ?? "" };
}

function check(command) {
  return run(command).ok ? { passed: 1, failed: 0 } : failed;
}

function doctest() {
  const { ok, output } = run("build/foretoken_tests", { stdio: ["ignore", "pipe", "inherit"], encoding: "utf8" });
  console.log(output.trimEnd());
  const counts = /test cases:\s*\d+ \|\s*(\d+) passed \|\s*(\d+) failed/.exec(output);
  return counted(ok, Number(counts?.[1] ?? 0), Number(counts?.[2] ?? 0));
}

function vitest(project) {
  mkdirSync(results, { recursive: true });
  const file = `${results}/${project}.json`;
  rmSync(file, { force: true });
  const { ok } = run(`vitest run --project ${project} --reporter=default --reporter=json --outputFile.json=${file}`);
  if (!existsSync(file)) return failed;
  const report = JSON.parse(readFileSync(file, "utf8"));
  return counted(ok, report.numPassedTests, report.numFailedTests);
}

// A run that died, or a file that did not load, is a failure even when every test counted has passed.
function counted(ok, passed, failures) {
  return { passed, failed: failures === 0 && !ok ? 1 : failures };
}

const total = { passed: 0, failed: 0 };
const lines = [];
for (const name of process.argv.slice(2)) {
  const started = Date.now();
  console.log(`\n== ${name}`);
  const step = steps[name]();
  lines.push(`${name}: ${step.passed} passed, ${step.failed} failed (${Math.round((Date.now() - started) / 1000)} s)`);
  total.passed += step.passed;
  total.failed += step.failed;
}
if (!process.argv.includes("arm64")) lines.push("arm64: NOT RUN here (npm run test:arm64; .ci/run does it)");
console.log(`\n${lines.join("\n")}\n${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.failed === 0 ? 0 : 1;
