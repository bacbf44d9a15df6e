// What kernels do, counted by the software GPU: exact and repeatable, so that it may be pinned where a time may not.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { execute, type Execution, type Executions, type NamedLaunch } from "../../bench/ptx/execute.js";
import { figuresOf } from "../../bench/ptx/figures.js";
import { l2Bytes, sum } from "../../bench/ptx/launches.js";
import type { CardName } from "../../bench/ptx/model.js";
import { workloads } from "../../bench/ptx/workloads.js";
import { runChild } from "../helpers/child.js";
import { onSoftwareGpu } from "../helpers/levels.js";

/** Kernels that serialise some accesses to shared memory: the share of passes that conflicts may add, and why. */
const conflicts: readonly (readonly [kernel: RegExp, share: number])[] = [
  // CUTLASS keeps f32 tiles of C and D in rows of 128 bytes swizzled by 16: the pairs of floats that half a warp moves
  // lie in four rows, two and two in the same banks. It is in the epilogue, which runs beside the other warp group.
  [/^gemm_sm90_.._f32/, 1 / 2],
];

/** Kernels that touch more sectors than could hold the bytes, as a multiple of the least, and why. */
const sectors: readonly (readonly [kernel: RegExp, multiple: number])[] = [
  [/^gemm_sm80_tn/, 1.01],
  [/^gemm_sm80_nn_64x64/, 1.17],
  [/^add_exact/, 1.2], // each row's own entry, here and there
  [/^reduce_exponentials/, 1.2], // the entry of E that is cleared
  // Two or five integers of a row, one after the other: some dozens of rows in all.
  [/^draft_rows/, 3.07],
  [/^accept_draft/, 1.71],
];

const allowed = (list: readonly (readonly [RegExp, number])[], { name }: NamedLaunch, otherwise: number): number =>
  list.find(([kernel]) => kernel.test(name))?.[1] ?? otherwise;

const workload = (name: string): (typeof workloads)[number] => {
  const found = workloads.find((each) => each.name === name);
  if (!found) throw new Error(`no workload ${name}`);
  return found;
};

// The one that is modelled takes longer than all others.
const counted = workloads.filter(({ name }) => name !== "loss, training");
const cards = ["sm_80", "sm_90"] as const satisfies CardName[];
const lossName = "loss, training, many classes";

const executed = new Map<CardName, Promise<Executions>>();

describe.runIf(onSoftwareGpu).each(cards)("%s", (card) => {
  let executions: readonly Execution[] = [];
  beforeAll(async () => {
    const addon = process.env["FORETOKEN_ADDON"] ?? "";
    // Both at once, a process each.
    if (executed.size === 0)
      for (const each of cards) executed.set(each, execute(each, counted, addon, { halves: false }));
    executions = (await executed.get(card))?.all ?? [];
  }, 300_000);
  const all = (): NamedLaunch[] => executions.flatMap(({ measured }) => measured);
  const launchesOf = (name: string): readonly NamedLaunch[] =>
    executions.find(({ workload }) => workload.name === name)?.measured ?? [];

  it("multiplies no more than the mathematics needs, where tiles are whole", () => {
    const ratio = (name: string): number => {
      const { flop, measured } = workload(name);
      return sum(launchesOf(name).map((launch) => launch.tensor_flop)) / (flop?.(measured) ?? NaN);
    };
    // Beside 6TdV: the targets' logits by products of 128 rows and their own targets, 128/3V of it.
    expect(ratio(lossName)).toBeCloseTo(1 + 128 / (3 * 4096), 10);
    for (const name of ["x·Wᵀ, large", "x·Wᵀ to f32", "dy·W, large", "dy·W to f32", "dyᵀ·x, large, added"])
      expect(ratio(name), name).toBe(1);
    // 64×64 tiles of queries and keys, of which causality wastes half of those on the diagonal.
    expect(ratio("attention, D=64")).toBeCloseTo((256 + 64) / (256 + 1), 10);
  });

  it("has no bank conflicts but those with a reason", () => {
    const worse = all().filter(
      (launch) => launch.shared_wavefronts_excess > allowed(conflicts, launch, 0) * launch.shared_wavefronts,
    );
    expect(worse.map((l) => [l.name, l.shared_wavefronts_excess, l.shared_wavefronts])).toEqual([]);
  });

  it("moves whole sectors but where there is a reason", () => {
    const touched = (l: NamedLaunch): number => l.load_sectors + l.store_sectors;
    const least = (l: NamedLaunch): number => l.load_sectors_minimum + l.store_sectors_minimum;
    const worse = all().filter((launch) => touched(launch) > allowed(sectors, launch, 1) * least(launch));
    expect(worse.map((launch) => [launch.name, touched(launch), least(launch)])).toEqual([]);
  });

  it("writes the loss's exponentials once, in bf16, and no logits", () => {
    const { T = 0, d = 0, V = 0 } = workload(lossName).measured;
    const launches = launchesOf(lossName);
    const [exponentials] = launches.filter(({ name }) => /^(logits_kernel<.*2>|cross_entropy_sm90)$/.test(name));
    const [facts, targetLogits] = [(12 * T * V) / 128, 4 * T];
    if (!exponentials) throw new Error("no kernel of exponentials");
    if (card === "sm_80") {
      expect(exponentials.store_bytes).toBe(2 * T * V + facts);
    } else {
      // TMA: 64×256 tiles, whose columns two blocks bring for each other; E; the facts by ordinary stores.
      const tiles = (T / 64) * (V / 256);
      expect(exponentials.asynchronous_bytes).toBe(2 * d * tiles * (64 + 256 / 2) + 2 * T * V);
      expect(exponentials.store_bytes).toBe(facts + targetLogits);
    }
  });

  it("moves what the loss's products need between L2 and the multiprocessors, and little else", () => {
    const { T = 0, d = 0, V = 0 } = workload(lossName).measured;
    const isProduct = ({ name }: NamedLaunch): boolean => /^(gemm|logits_kernel|cross_entropy)/.test(name);
    const launches = launchesOf(lossName);
    const rest = sum(launches.filter((launch) => !isProduct(launch)).map(l2Bytes));
    const [E, dweight] = [2 * T * V, 4 * V * d];
    // Bytes per element of rows: the targets' logits, rows scaled, two exact entries of dweight, dhidden finished. Beside
    // them the facts, and the exact entries' classes, which are compared with each other. One fp32 array of logits written
    // and read would be as much again, twice.
    const rows = 4 + 4 + 2 * (4 + 4 + 2) + (4 + 2 * 2 + 2);
    expect(rest).toBeLessThan(1.3 * (rows * T * d + (12 * T * V) / 128 + 4 * (2 * T) ** 2));
    // By 64×64 tiles at worst, E is read by d/64 columns of blocks for dx and for dweight.
    const products = sum(launches.filter(isProduct).map(l2Bytes));
    const operands = (M: number, N: number, K: number): number => 2 * K * ((M * N) / 64 + (N * M) / 64);
    expect(products).toBeLessThan(operands(T, V, d) + operands(T, d, V) + operands(V, d, T) + E + 5 * dweight);
  });
});

describe.runIf(onSoftwareGpu)("the modelled loss", () => {
  it("takes at most 1.15 times what 6TdV takes an H100's tensor cores, at 8192×4096×128256", async () => {
    const small = { ...workload("loss, training"), measured: { T: 256, d: 512, V: 1024 } };
    const addon = process.env["FORETOKEN_ADDON"] ?? "";
    const [loss] = figuresOf("sm_90", await execute("sm_90", [small], addon, { halves: true }));
    expect([loss?.modelled, loss?.calls]).toEqual([{ T: 2048, d: 4096, V: 128256 }, 4]);
    expect(loss?.floorMilliseconds).toBeCloseTo((6 * 8192 * 4096 * 128256) / 989.4e9, 1);
    const ratio = (loss?.modelledMilliseconds ?? NaN) / (loss?.floorMilliseconds ?? NaN);
    expect(ratio).toBeGreaterThan(1);
    expect(ratio).toBeLessThan(1.15);
  });
});

describe.runIf(onSoftwareGpu)("a training step", () => {
  it("launches as many kernels each time, and no more than it did", async () => {
    const folder = mkdtempSync(join(tmpdir(), "foretoken-launches-"));
    try {
      const report = join(folder, "launches.jsonl");
      const env = { PTX_REPORT: report, PTX_SANITIZE: "off" };
      const { stdout, stderr } = await runChild("gpu/children/step-launches.ts", { args: [report], env });
      expect(stderr).toBe("");
      const lines = JSON.parse(stdout) as number[];
      const steps = lines.slice(1).map((line, i) => line - (lines[i] ?? NaN));
      expect(new Set(steps).size).toBe(1);
      // Two layers of trunk, three heads of one layer each: 5 layers, 3 losses.
      expect(steps[0]).toBeLessThanOrEqual(286);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
