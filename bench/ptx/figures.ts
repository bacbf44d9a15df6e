// From counters to figures: per kernel of a workload, and the modelled time at the size that is modelled.
import type { Execution, Executions, NamedLaunch } from "./execute.js";
import { isPingPong, l2Bytes, sum, usageOf, wgmmaColumns } from "./launches.js";
import { cards, modelledTime, tensorPeak, units, type CardName, type Unit, type Usage, type Work } from "./model.js";
import type { Resources } from "./resources.js";
import { halved, type Growth, type Sizes, type Workload } from "./workload.js";

function growthOf({ name, growth }: Workload, kernel: string): Growth {
  const found = growth.find((each) => each.kernel.test(kernel));
  if (!found) throw new Error(`${name}: nothing says how ${kernel} grows`);
  return found;
}

const mapUsage = (f: (unit: keyof Usage) => number): Usage =>
  Object.fromEntries(units.map((unit) => [unit, f(unit)])) as unknown as Usage;

/** What a block does beside its main loop, and in the loop for each step of its depth: a line through two runs. */
function lineThrough(measured: NamedLaunch, half: NamedLaunch | undefined, depth: number) {
  const [whole, less] = [usageOf(measured), half && usageOf(half)];
  const perStep = mapUsage((unit) =>
    half && less ? (whole[unit] / measured.blocks - less[unit] / half.blocks) / (depth / 2) : 0,
  );
  return { perStep, rest: mapUsage((unit) => Math.max(0, whole[unit] / measured.blocks - perStep[unit] * depth)) };
}

/** The launch at `sizes`, in blocks that each do what the measured ones do, over the depth that `sizes` have. */
export function workAt(
  execution: Execution,
  index: number,
  measured: NamedLaunch,
  sizes: Sizes = execution.workload.modelled,
): Work {
  const { workload, halves } = execution;
  const growth = growthOf(workload, measured.name);
  const { depth = "" } = growth;
  const half = halves.get(depth)?.[index];
  if (half && half.name !== measured.name)
    throw new Error(`${workload.name}: half of ${depth} takes ${half.name} instead of ${measured.name}`);
  const { perStep, rest } = lineThrough(measured, half, workload.measured[depth] ?? 0);
  const blocks = (measured.blocks * growth.blocks(sizes)) / growth.blocks(workload.measured);
  const bytes = growth.bytes?.(sizes) ?? { read: 0, rest: l2BytesAt(execution, index, measured, sizes) };
  const steps = sizes[depth] ?? 0;
  const loop = mapUsage((unit) => perStep[unit] * steps);
  return {
    blocks,
    mainLoop: { usage: loop, bytes: bytes.read / blocks, tmaWrites: tmaWrites(measured, perStep.tensor) * steps },
    epilogue: { usage: rest, bytes: bytes.rest / blocks },
    pingPong: isPingPong(measured),
  };
}

/** Passes of 128 bytes that bring M and N bf16, of a block that does 2·M·N FLOP with them. */
function tmaWrites(launch: NamedLaunch, flop: number): number {
  const N = wgmmaColumns(launch);
  return N === 0 ? 0 : ((flop / (2 * N) + N) * 2) / 128;
}

/** Bytes between L2 and the multiprocessors, by the same line. */
function l2BytesAt(
  { workload, halves }: Execution,
  index: number,
  measured: NamedLaunch,
  to: Sizes = workload.modelled,
): number {
  const { blocks, depth = "" } = growthOf(workload, measured.name);
  const from = workload.measured;
  const half = halves.get(depth)?.[index];
  const whole = l2Bytes(measured) / blocks(from);
  const less = half ? l2Bytes(half) / blocks(halved(from, depth)) : whole;
  const perStep = half ? (whole - less) / ((from[depth] ?? 0) / 2) : 0;
  return blocks(to) * (whole + perStep * ((to[depth] ?? 0) - (from[depth] ?? 0)));
}

// ---- a kernel -------------------------------------------------------------------------------------------------------

/** All launches of one kernel in a workload. */
export interface KernelFigures {
  readonly kernel: string;
  readonly launches: number;
  /** Warp instructions by class. */
  readonly instructions: Readonly<Record<string, number>>;
  readonly tensorFlop: number;
  /** Of 32 bytes, loads and stores, and the least that could hold the bytes. TMA is in l2Bytes alone. */
  readonly sectors: number;
  readonly sectorsMinimum: number;
  readonly l2Bytes: number;
  readonly sharedWavefronts: number;
  /** That bank conflicts added. */
  readonly sharedExcess: number;
  readonly registers: number;
  /** Bytes, stored and loaded. */
  readonly spills: number;
  readonly staticShared: number;
  readonly dynamicShared: number;
  readonly threads: number;
  /** That fit on a multiprocessor of this card. */
  readonly blocksPerSm: number;
  /** Modelled, not measured: at the modelled size, all launches of one call. */
  readonly modelledMicroseconds: number;
  /** The same if what TMA writes into shared memory delays what wgmma reads there. */
  readonly delayedMicroseconds: number;
  readonly limit: Unit | "memory";
  /** Between L2 and each multiprocessor at that pace: the model has no limit for it. */
  readonly l2BytesPerClock: number;
}

function kernelFigures(
  card: CardName,
  execution: Execution,
  resources: Resources,
  launches: readonly [index: number, launch: NamedLaunch][],
): KernelFigures {
  const [first] = launches;
  if (!first) throw new Error("no launches");
  const [, { kernel, name, registers, static_shared_bytes, dynamic_shared_bytes, block, blocks_per_sm }] = first;
  const work = launches.map(([i, launch]) => workAt(execution, i, launch));
  const times = work.map((each) => modelledTime(cards[card], each));
  const delayed = work.map((each) => modelledTime(cards[card], each, { tmaWrites: true }).seconds);
  const seconds = sum(times.map((time) => time.seconds));
  const longest = times.reduce((a, b) => (b.seconds > a.seconds ? b : a));
  const l2AtSize = sum(launches.map(([i, launch]) => l2BytesAt(execution, i, launch)));
  const total = (of: (launch: NamedLaunch) => number): number => sum(launches.map(([, launch]) => of(launch)));
  const classes = Object.keys(first[1].instructions);
  const { multiprocessors, clock } = cards[card];
  const { spillStores = 0, spillLoads = 0 } = resources.get(kernel) ?? {};
  return {
    kernel: name,
    launches: launches.length,
    instructions: Object.fromEntries(classes.map((each) => [each, total((l) => l.instructions[each]?.[0] ?? 0)])),
    tensorFlop: total((l) => l.tensor_flop),
    sectors: total((l) => l.load_sectors + l.store_sectors),
    sectorsMinimum: total((l) => l.load_sectors_minimum + l.store_sectors_minimum),
    l2Bytes: total(l2Bytes),
    sharedWavefronts: total((l) => l.shared_wavefronts),
    sharedExcess: total((l) => l.shared_wavefronts_excess),
    registers,
    spills: spillStores + spillLoads,
    staticShared: static_shared_bytes,
    dynamicShared: dynamic_shared_bytes,
    threads: block[0] * block[1] * block[2],
    blocksPerSm: blocks_per_sm,
    modelledMicroseconds: seconds * 1e6,
    delayedMicroseconds: sum(delayed) * 1e6,
    limit: longest.limit,
    l2BytesPerClock: l2AtSize / (seconds * clock * multiprocessors),
  };
}

// ---- a workload -----------------------------------------------------------------------------------------------------

export interface WorkloadFigures {
  readonly workload: string;
  readonly measured: Sizes;
  readonly kernels: readonly KernelFigures[];
  /** Tensor FLOP that were counted, over those of the mathematics; null where it has none. */
  readonly flopRatio: number | null;
  readonly modelled: Sizes;
  readonly calls: number;
  /** Modelled, not measured. */
  readonly modelledMilliseconds: number;
  readonly delayedMilliseconds: number;
  /** The mathematics alone, at the peak of the tensor cores. */
  readonly floorMilliseconds: number | null;
}

function workloadFigures(card: CardName, execution: Execution, resources: Resources): WorkloadFigures {
  const { workload, measured } = execution;
  const { flop, calls = 1 } = workload;
  const launches = [...measured.entries()];
  const names = [...new Set(measured.map(({ name }) => name))];
  const kernels = names.map((kernel) =>
    kernelFigures(
      card,
      execution,
      resources,
      launches.filter(([, { name }]) => name === kernel),
    ),
  );
  return {
    workload: workload.name,
    measured: workload.measured,
    kernels,
    flopRatio: flop ? sum(kernels.map(({ tensorFlop }) => tensorFlop)) / flop(workload.measured) : null,
    modelled: workload.modelled,
    calls,
    modelledMilliseconds: (calls * sum(kernels.map((each) => each.modelledMicroseconds))) / 1000,
    delayedMilliseconds: (calls * sum(kernels.map((each) => each.delayedMicroseconds))) / 1000,
    floorMilliseconds: flop ? (1000 * calls * flop(workload.modelled)) / tensorPeak(cards[card]) : null,
  };
}

export const figuresOf = (card: CardName, { all, resources }: Executions): WorkloadFigures[] =>
  all.map((execution) => workloadFigures(card, execution, resources));
