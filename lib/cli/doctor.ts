// foretoken doctor: what this machine offers, whether the kernels are right on it, and what to do about what is missing.
import { freemem, totalmem } from "node:os";
import type { Command } from "commander";
import { openDevice } from "../device.js";
import { native } from "../native.js";
import { addCommonOptions, chosenDevice, type CommonOptions, fastestDtype } from "./common.js";
import { formatBytes, formatTable } from "./format.js";
import { Output } from "./output.js";
import { selfTest, type SelfTestResult } from "./self-test.js";

const examples = `
Examples:
  foretoken doctor
  foretoken doctor --json
  FORETOKEN_THREADS=1 foretoken doctor --simd avx2

Exit code 1 when a kernel computes something else than the portable one.`;

const oldestNode = [20, 19] as const;

export function registerDoctor(program: Command): void {
  const command = program.command("doctor").description("what this machine offers, with a test of every kernel on it");
  addCommonOptions(command).addHelpText("after", examples);
  command.action(async (options: CommonOptions) => {
    process.exitCode = await doctor(options);
  });
}

async function doctor(options: CommonOptions): Promise<number> {
  const output = new Output(options);
  const machine = native().machine();
  const { name, simd, threads } = chosenDevice(options);
  const memory = { total: Math.min(totalmem(), process.constrainedMemory() || Infinity), free: freemem() };
  output.line(`processor  ${name} (${machine.vendor})`);
  output.line(`levels     ${machine.levels.join(", ")}`);
  output.line(`chosen     ${simd}: ${simd === machine.defaultLevel ? machine.reason : "because you asked for it"}`);
  output.line(`threads    ${threads} (physical cores that this process may use; FORETOKEN_THREADS changes it)`);
  output.line(`memory     ${formatBytes(memory.total)}, of which ${formatBytes(memory.free)} free`);
  output.line(`node       ${process.versions.node} on ${process.platform} ${process.arch}`);
  output.line("gpu        this build has no CUDA backend");
  output.line();
  output.line("Comparing every kernel with the portable one …");
  const results = await selfTest(machine.levels);
  const advice = adviceFor(machine.levels, simd, results);
  const ok = results.every(({ failures }) => failures.length === 0);
  output.event("doctor", {
    ...{ processor: name, ...machine, chosen: simd, threads, memory },
    node: process.versions.node,
    gpu: null,
    selfTest: results,
    advice,
    ok,
  });
  output.result(resultLines(results));
  output.line();
  for (const sentence of advice) output.line(`- ${sentence}`);
  return ok ? 0 : 1;
}

function resultLines(results: readonly SelfTestResult[]): string {
  if (results.length === 0) return "Only the portable kernels run here: nothing to compare.";
  const rows = results.map(({ level, dtype, tested, failures }) => [
    level,
    dtype,
    failures.length === 0 ? `${tested} of ${tested} right` : `${failures.length} of ${tested} WRONG`,
  ]);
  const wrong = results.flatMap(({ level, dtype, failures }) =>
    failures.map((failure) => `${level} ${dtype} ${failure}`),
  );
  return [formatTable(rows), ...wrong].join("\n");
}

function adviceFor(levels: readonly string[], chosen: string, results: readonly SelfTestResult[]): string[] {
  const advice: string[] = [];
  const wrong = [...new Set(results.filter(({ failures }) => failures.length > 0).map(({ level }) => level))];
  const right = levels.filter((level) => !wrong.includes(level)).at(-1) ?? "generic";
  if (wrong.length > 0) {
    advice.push(
      `Kernels of ${wrong.join(", ")} compute something wrong here: set FORETOKEN_SIMD=${right}, and please report this output.`,
    );
  }
  if (!levels.includes("avx2")) {
    advice.push(
      "No AVX2 kernels for this processor: training works, ten times slower. Use a machine with AVX2 or better, AMX being best.",
    );
  } else if (fastestDtype(openDevice("cpu", { simd: chosen })) === "f32") {
    advice.push(
      "This level has no fast bf16 products: f32 is what `train` computes in here. AMX, or AVX-512-BF16 on AMD, would be two to three times as fast.",
    );
  }
  if (tooOld()) advice.push(`Node ${process.versions.node} is too old: install ${oldestNode.join(".")} or newer.`);
  advice.push("A GPU cannot be used: this version computes on the CPU.");
  if (wrong.length === 0)
    advice.push("Everything needed to train is here: foretoken train --data <your files> --out runs/first");
  return advice;
}

function tooOld(): boolean {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  return major < oldestNode[0] || (major === oldestNode[0] && minor < oldestNode[1]);
}
