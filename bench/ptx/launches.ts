// What the software GPU writes about a launch (test/ptx/runtime/report.cpp), and what can be read from a kernel's name.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import type { Usage } from "./model.js";
import type { Resources } from "./resources.js";

/** A line of the file that PTX_REPORT names. */
export interface Launch {
  /** As the compiler mangles it. */
  readonly kernel: string;
  readonly device: string;
  readonly grid: readonly [number, number, number];
  readonly block: readonly [number, number, number];
  readonly cluster: readonly [number, number, number];
  readonly dynamic_shared_bytes: number;
  readonly static_shared_bytes: number;
  readonly registers: number;
  readonly local_bytes: number;
  readonly blocks_per_sm: number;
  /** By class: warp instructions, and those of single lanes. */
  readonly instructions: Readonly<Record<string, readonly [number, number]>>;
  readonly tensor_flop: number;
  readonly load_sectors: number;
  readonly load_sectors_minimum: number;
  readonly load_bytes: number;
  readonly store_sectors: number;
  readonly store_sectors_minimum: number;
  readonly store_bytes: number;
  readonly asynchronous_bytes: number;
  readonly shared_wavefronts: number;
  readonly shared_wavefronts_excess: number;
  readonly atomics: number;
  readonly barriers: number;
  readonly blocks: number;
  readonly warps: number;
  readonly divergent_branches: number;
}

export function readLaunches(report: string, skip = 0): Launch[] {
  const lines = readFileSync(report, "utf8").trimEnd().split("\n");
  return lines.slice(skip).map((line) => JSON.parse(line) as Launch);
}

export const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);

export const warpInstructions = ({ instructions }: Launch): number =>
  sum(Object.values(instructions).map(([warps]) => warps));

const lanes = ({ instructions }: Launch, name: string): number => instructions[name]?.[1] ?? 0;

/** Bytes between L2 and the multiprocessors. cp.async is among the sectors, what TMA moves is not. */
export const l2Bytes = (launch: Launch): number =>
  32 * (launch.load_sectors + launch.store_sectors) + (usesTma(launch) ? launch.asynchronous_bytes : 0);

const usesTma = ({ kernel }: Launch): boolean => kernel.includes("SM90_TMA");

export const isPingPong = ({ kernel }: Launch): boolean => kernel.includes("Pingpong");

/** What the model's units have to do for a whole launch. */
export function usageOf(launch: Launch): Usage {
  return {
    tensor: launch.tensor_flop,
    special: lanes(launch, "special"),
    float32: lanes(launch, "float32"),
    shared: launch.shared_wavefronts + wgmmaWavefronts(launch),
    issue: warpInstructions(launch),
  };
}

/** N of a kernel's wgmma, which is a block's number of columns too; 0: it has none. */
export const wgmmaColumns = ({ kernel }: Launch): number => Number(/MMA_64x(\d+)x16_/.exec(kernel)?.[1] ?? 0);

/** wgmma reads its factors from shared memory itself: 64×16 and N×16 of them for 2·64·N·16 FLOP. */
function wgmmaWavefronts(launch: Launch): number {
  const columns = wgmmaColumns(launch);
  if (columns === 0) return 0;
  const products = launch.tensor_flop / (2 * 64 * columns * 16);
  return (products * (64 + columns) * 16 * 2) / 128;
}

/** Names for people, in the same order: `attention_kernel<bf16, 64>`, or the file of a product that CUTLASS makes. */
export function kernelNames(launches: readonly Launch[], resources: Resources): string[] {
  const mangled = launches.map(({ kernel }) => kernel);
  const plain = execFileSync("c++filt", { input: mangled.join("\n"), encoding: "utf8", maxBuffer: 2 ** 28 });
  const names = plain.trimEnd().split("\n");
  return mangled.map((name, i) =>
    name.includes("cutlass") ? (resources.get(name)?.file ?? "cutlass") : shortName(names[i] ?? name),
  );
}

/** Of a demangled name: neither result, namespaces nor parameters. */
export function shortName(demangled: string): string {
  const name = demangled
    .replace(/^void /, "")
    .replaceAll("(anonymous namespace)", "")
    .replaceAll(/\((?:[\w:]+)\)(\d+)/g, "$1")
    .replaceAll(/\b\w*::/g, "")
    .replaceAll(/::/g, "")
    .replaceAll("__nv_bfloat16", "bf16")
    .replaceAll(/\bfloat\b/g, "f32");
  return name.slice(0, endOfName(name));
}

function endOfName(name: string): number {
  let depth = 0;
  for (const [i, letter] of [...name].entries()) {
    if (letter === "<") depth++;
    else if (letter === ">") depth--;
    else if (letter === "(" && depth === 0) return i;
  }
  return name.length;
}
