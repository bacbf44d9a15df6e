// foretoken doctor: what this machine offers, whether the kernels are right on it, and what to do about what is missing.
import { freemem, totalmem } from "node:os";
import type { Command } from "commander";
import { type Device, openDevice } from "../device.js";
import { type GpuReport, native } from "../native.js";
import { addCommonOptions, chosenDevice, type CommonOptions, fastestDtype } from "./common.js";
import { formatBytes, formatTable } from "./format.js";
import { gpuLines, productSpeed, type ProductSpeed } from "./gpu.js";
import { Output } from "./output.js";
import { selfTest, selfTestGpu, type SelfTestResult } from "./self-test.js";

const examples = `
Examples:
  foretoken doctor
  foretoken doctor --json
  foretoken doctor --device cpu
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
  const device = chosenDevice(options);
  const [machine, gpus] = [native().machine(), native().gpus()];
  const { name, simd, threads } = openDevice("cpu", { simd: options.simd });
  const memory = { total: Math.min(totalmem(), process.constrainedMemory() || Infinity), free: freemem() };
  output.line(`processor  ${name} (${machine.vendor})`);
  output.line(`levels     ${machine.levels.join(", ")}`);
  output.line(`chosen     ${simd}: ${simd === machine.defaultLevel ? machine.reason : "because you asked for it"}`);
  output.line(`threads    ${threads} (physical cores that this process may use; FORETOKEN_THREADS changes it)`);
  output.line(`memory     ${formatBytes(memory.total)}, of which ${formatBytes(memory.free)} free`);
  output.line(`node       ${process.versions.node} on ${process.platform} ${process.arch}`);
  for (const line of gpuLines(gpus)) output.line(line);
  output.line();
  output.line("Comparing every kernel with the portable one …");
  const results = await selfTest(machine.levels);
  const gpu = device.kind === "cuda" ? await examine(device) : undefined;
  results.push(...(gpu?.results ?? []));
  const advice = adviceFor(machine.levels, device, results, gpus);
  const ok = results.every(({ failures }) => failures.length === 0);
  output.event("doctor", {
    ...{ processor: name, ...machine, chosen: simd, threads, memory },
    node: process.versions.node,
    gpu: { ...gpus, product: gpu?.speed ?? null, peakBytes: gpu?.peakBytes ?? null },
    selfTest: results,
    advice,
    ok,
  });
  output.result(resultLines(results));
  if (gpu?.speed) {
    output.result(speedLine(device, gpu.speed));
    output.line(`All of this took at most ${formatBytes(gpu.peakBytes)} of its memory.`);
  }
  output.line();
  for (const sentence of advice) output.line(`- ${sentence}`);
  return ok ? 0 : 1;
}

async function examine(device: Device) {
  const results = await selfTestGpu(device);
  const right = results.every(({ failures }) => failures.length === 0);
  const speed = right ? await productSpeed(device) : null; // a GPU that has failed times nothing
  return { results, speed, peakBytes: device.memory().peak };
}

function speedLine({ name }: Device, { size, flops }: ProductSpeed): string {
  const speed = flops < 1e12 ? `${(flops / 1e9).toPrecision(3)} GFLOP/s` : `${(flops / 1e12).toPrecision(3)} TFLOP/s`;
  return `${name} multiplies bf16 matrices of ${size}×${size} at ${speed}.`;
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

function adviceFor(
  levels: readonly string[],
  chosen: Device,
  results: readonly SelfTestResult[],
  gpus: GpuReport,
): string[] {
  const advice: string[] = [];
  const wrong = [...new Set(results.filter(({ failures }) => failures.length > 0).map(({ level }) => level))];
  const right = levels.filter((level) => !wrong.includes(level)).at(-1) ?? "generic";
  if (wrong.length > 0) {
    const instead = wrong.every((level) => levels.includes(level)) ? `FORETOKEN_SIMD=${right}` : "FORETOKEN_DEVICE=cpu";
    advice.push(
      `Kernels of ${wrong.join(", ")} compute something wrong here: set ${instead}, and please report this output.`,
    );
  }
  if (chosen.kind === "cpu" && !levels.includes("avx2")) {
    advice.push(
      "No AVX2 kernels for this processor: training works, ten times slower. Use a machine with AVX2 or better, AMX being best.",
    );
  } else if (fastestDtype(chosen) === "f32") {
    advice.push(
      "This level has no fast bf16 products: f32 is what `train` computes in here. AMX, or AVX-512-BF16 on AMD, would be two to three times as fast.",
    );
  }
  if (tooOld()) advice.push(`Node ${process.versions.node} is too old: install ${oldestNode.join(".")} or newer.`);
  if (gpus.problem !== "") advice.push(`No GPU can be used: ${gpus.problem}. ${gpus.remedy}`);
  if (wrong.length === 0)
    advice.push("Everything needed to train is here: foretoken train --data <your files> --out runs/first");
  return advice;
}

function tooOld(): boolean {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  return major < oldestNode[0] || (major === oldestNode[0] && minor < oldestNode[1]);
}
