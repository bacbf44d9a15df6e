// The machine's own limits, from the C++ program `peak`, and FLOP of our jobs: what figures are shares of.
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { openDevice } from "../lib/device.js";
import type { ComputeDType, Job } from "./workload.js";

const root = fileURLToPath(new URL("../", import.meta.url));

/** Builds a C++ bench, where it is missing or old, and returns its path. */
export function nativeBench(name: string): string {
  const path = `${root}build/bench_${name}`;
  const build = ["build", "--log-level", "error", "--target", `bench_${name}`];
  execFileSync(`${root}node_modules/.bin/cmake-js`, build, { cwd: root, stdio: "pipe" });
  if (!existsSync(path)) throw new Error(`no program ${path} after building bench_${name}`);
  return path;
}

export interface Peak {
  readonly what: string;
  readonly unit: "GFLOP/s" | "GB/s";
  readonly median: number;
  readonly best: number;
}

let measured: readonly Peak[] | undefined;

/** Of the CPU, measured once per run. Of a GPU the program knows nothing. */
export function peaks(rounds = 15): readonly Peak[] {
  if (openDevice().kind === "cuda") return [];
  measured ??= execFileSync(nativeBench("peak"), [String(rounds)], { encoding: "utf8" })
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Peak);
  return measured;
}

/** The multiply instruction that a SIMD level uses for a dtype. */
export function instructionOf(simd: string, dtype: ComputeDType): string | undefined {
  const wide = simd === "avx2" ? "vfmadd ymm, f32" : simd === "generic" ? undefined : "vfmadd zmm, f32";
  if (dtype === "f32") return wide;
  return { amx: "tdpbf16ps, bf16", avx512bf16: "vdpbf16ps zmm, bf16" }[simd] ?? wide;
}

/** Percent of what that instruction reaches on this machine; null where there is no such loop. */
export function percentOfPeak(gflops: number, simd: string, dtype: ComputeDType): number | null {
  const best = peaks().find(({ what }) => what === instructionOf(simd, dtype))?.best;
  return best === undefined ? null : (100 * gflops) / best;
}

/** GB/s of reading `bytes` over and over, at the nearest size measured. */
export function readGigabytes(bytes: number): number {
  const sizes = peaks().flatMap(({ what, best }) => {
    const megabytes = /^reading (\d+) MB$/.exec(what)?.[1];
    return megabytes === undefined ? [] : [{ far: Math.abs(Math.log((Number(megabytes) * 2 ** 20) / bytes)), best }];
  });
  return sizes.sort((a, b) => a.far - b.far)[0]?.best ?? NaN;
}

/** FLOP of a training step: 6 per matrix weight and token, and 14·d per pair of positions that attend (recomputation not counted). */
export function stepFlop({ config, batchSize: B, contextLength: T }: Job): number {
  const { hiddenSize: d, intermediateSize: f = 0, vocabSize: V, futureTokens: n, trunkLayers = 0 } = config;
  const layers = trunkLayers + n;
  const weights = layers * (4 * d * d + 3 * d * f) + n * V * d;
  const pairs = (B * T * (T + 1)) / 2;
  return 6 * B * T * weights + 14 * d * layers * pairs;
}
