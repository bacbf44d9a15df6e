// The figures as a person reads them.
import { formatTable, type Figure } from "../report.js";
import type { KernelFigures, WorkloadFigures } from "./figures.js";
import { cards, type CardName } from "./model.js";
import type { Sizes } from "./workload.js";

const sizesText = (sizes: Sizes): string =>
  Object.entries(sizes)
    .map(([letter, size]) => `${letter}=${size}`)
    .join(" ");

/** Classes that tell kernels apart; the others are added up. */
const shown: Readonly<Record<string, readonly string[]>> = {
  tensor: ["tensor"],
  float32: ["float32"],
  special: ["special"],
  integer: ["integer"],
  "convert, move": ["convert", "move", "half"],
  global: ["global_load", "global_store"],
  shared: ["shared_load", "shared_store", "matrix_load"],
  asynchronous: ["asynchronous"],
  shuffle: ["shuffle"],
  barrier: ["barrier"],
};

function instructionRow(workload: string, { kernel, launches, instructions }: KernelFigures): Figure {
  const of = (classes: readonly string[]): number => classes.reduce((all, each) => all + (instructions[each] ?? 0), 0);
  const row = Object.fromEntries(Object.entries(shown).map(([title, classes]) => [title, of(classes)]));
  const all = of(Object.keys(instructions));
  const rest = all - of(Object.values(shown).flat());
  return { workload, kernel, launches, instructions: all, ...row, other: rest };
}

function resourceRow(workload: string, k: KernelFigures): Figure {
  return {
    workload,
    kernel: k.kernel,
    "tensor FLOP": k.tensorFlop,
    sectors: k.sectors,
    "of the least": k.sectorsMinimum > 0 ? k.sectors / k.sectorsMinimum : null,
    wavefronts: k.sharedWavefronts,
    conflicts: k.sharedExcess,
    registers: k.registers,
    spills: k.spills,
    "shared, static + dynamic": `${k.staticShared} + ${k.dynamicShared}`,
    threads: k.threads,
    "blocks/SM": k.blocksPerSm,
  };
}

const timeRow = (workload: string, k: KernelFigures): Figure => ({
  workload,
  kernel: k.kernel,
  "modelled µs": k.modelledMicroseconds,
  limit: k.limit,
  "if TMA delays": k.delayedMicroseconds,
  "L2 bytes/clock/SM": k.l2BytesPerClock,
});

const workloadRow = (w: WorkloadFigures): Figure => ({
  workload: w.workload,
  counted: sizesText(w.measured),
  "FLOP ratio": w.flopRatio,
  modelled: sizesText(w.modelled) + (w.calls > 1 ? ` × ${w.calls}` : ""),
  "modelled ms": w.modelledMilliseconds,
  "if TMA delays": w.delayedMilliseconds,
  "floor ms": w.floorMilliseconds,
  ratio: w.floorMilliseconds === null ? null : w.modelledMilliseconds / w.floorMilliseconds,
});

/** A workload is named once, before its first kernel. */
const perKernel = (all: readonly WorkloadFigures[], row: (workload: string, k: KernelFigures) => Figure): Figure[] =>
  all.flatMap(({ workload, kernels }) => kernels.map((kernel, i) => row(i === 0 ? workload : "", kernel)));

/** Title and rows of each table. */
export function tablesOf(card: CardName, all: readonly WorkloadFigures[]): readonly (readonly [string, Figure[]])[] {
  const { name } = cards[card];
  return [
    ["Counted: warp instructions by class", perKernel(all, instructionRow)],
    [
      `Counted: memory; said by the compiler: registers, spills; how many blocks fit on ${name}`,
      perKernel(all, resourceRow),
    ],
    [`MODELLED, NOT MEASURED: time of each kernel on ${name} at the modelled size`, perKernel(all, timeRow)],
    [`MODELLED, NOT MEASURED: time of each workload on ${name}`, all.map(workloadRow)],
  ];
}

export const asText = (tables: ReturnType<typeof tablesOf>): string =>
  tables.map(([title, rows]) => `${title}\n${formatTable(rows)}`).join("\n\n");
