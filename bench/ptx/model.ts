// How long a kernel should take on an A100 or H100, reckoned from what was counted. MODELLED, NOT MEASURED.
//
//   time      = waves × block, waves = ⌈blocks / multiprocessors⌉, and at least all bytes / memory bandwidth
//   block     = main loop + epilogue; the larger of the two where two warp groups take turns (ping-pong)
//   main loop = max(tensor, special, float32, shared, issue, memory) over what grows with the depth of a product
//   epilogue  = the same over the rest: all of it in kernels that are no products
//
// in clocks of a multiprocessor: tensor FLOP, special-function lanes, fp32 lanes, passes of 128 bytes through shared
// memory and warp instructions, each by what one of them does in a clock; memory: bytes by its share of the bandwidth.
// Blocks that share a multiprocessor share these, so the count of blocks on the busiest one decides, not how many are
// resident. Shared memory: what instructions read and write, and what wgmma reads.
//
// Taken to be perfect: overlap within a phase, latencies hidden, the clock at its nominal rate, every operand read from
// memory once, mma.sync as fast as wgmma (on an H100 it is not). No term: L2 (the tables say how many bytes it gives a
// multiprocessor per clock), launches (some 3 µs each, unless recorded). PTX is what is counted: its moves cost less once
// compiled. NVIDIA does not say whether what TMA writes into shared memory delays what wgmma reads there; `tmaWrites`
// takes it to.
export interface Card {
  readonly name: string;
  readonly multiprocessors: number;
  /** Hz. */
  readonly clock: number;
  /** Bytes per second. */
  readonly bandwidth: number;
  /** Of one multiprocessor in one clock. */
  readonly perClock: Readonly<Record<Unit, number>>;
}

/** What a block keeps busy beside the memory bus, and how it is counted. */
export interface Usage {
  /** FLOP in bf16. */
  readonly tensor: number;
  /** Lanes: ex2, lg2, rcp, rsqrt, … */
  readonly special: number;
  /** Lanes: add, mul, fma, min, max. */
  readonly float32: number;
  /** Passes of 128 bytes. */
  readonly shared: number;
  /** Warp instructions. */
  readonly issue: number;
}
export type Unit = keyof Usage;
export const units: readonly Unit[] = ["tensor", "special", "float32", "shared", "issue"];

// 132 × 4096 × 1.83 GHz = 989 TFLOP/s and 108 × 2048 × 1.41 GHz = 312 TFLOP/s in bf16.
export const cards = {
  sm_80: {
    name: "A100",
    multiprocessors: 108,
    clock: 1.41e9,
    bandwidth: 2.04e12,
    perClock: { tensor: 2048, special: 16, float32: 64, shared: 1, issue: 4 },
  },
  sm_90: {
    name: "H100",
    multiprocessors: 132,
    clock: 1.83e9,
    bandwidth: 3.35e12,
    perClock: { tensor: 4096, special: 16, float32: 128, shared: 1, issue: 4 },
  },
} as const satisfies Record<string, Card>;
export type CardName = keyof typeof cards;

/** FLOP per second of the tensor cores. */
export const tensorPeak = ({ multiprocessors, clock, perClock }: Card): number =>
  multiprocessors * clock * perClock.tensor;

/** Of one block. */
export interface Phase {
  readonly usage: Usage;
  /** Bytes from or to memory. */
  readonly bytes: number;
  /** Passes of 128 bytes that TMA writes into shared memory. */
  readonly tmaWrites?: number;
}

export interface Work {
  readonly blocks: number;
  readonly mainLoop: Phase;
  readonly epilogue: Phase;
  /** Whether the epilogue of one tile runs beside the main loop of the next. */
  readonly pingPong: boolean;
}

export interface ModelledTime {
  readonly seconds: number;
  /** What takes longest. */
  readonly limit: Unit | "memory";
}

interface Clocks {
  readonly clocks: number;
  readonly limit: Unit | "memory";
}

const longer = (a: Clocks, b: Clocks): Clocks => (b.clocks > a.clocks ? b : a);

/** Bytes that a multiprocessor takes from L2 in a clock at most, when few of them share the bandwidth of memory. */
const mostBytesPerClock = 64;

function phaseClocks(card: Card, blocks: number, { usage, bytes, tmaWrites = 0 }: Phase, counted: boolean): Clocks {
  const busy = Math.min(blocks, card.multiprocessors);
  const share = Math.min(mostBytesPerClock, card.bandwidth / busy / card.clock);
  const all = units.map((unit): Clocks => ({ clocks: usage[unit] / card.perClock[unit], limit: unit }));
  if (counted) all.push({ clocks: (usage.shared + tmaWrites) / card.perClock.shared, limit: "shared" });
  return all.reduce(longer, { clocks: bytes / share, limit: "memory" });
}

/** tmaWrites: whether they take passes from those that read. */
export function modelledTime(
  card: Card,
  { blocks, mainLoop, epilogue, pingPong }: Work,
  { tmaWrites = false }: { tmaWrites?: boolean } = {},
): ModelledTime {
  const main = phaseClocks(card, blocks, mainLoop, tmaWrites);
  const rest = phaseClocks(card, blocks, epilogue, tmaWrites);
  const longest = longer(main, rest);
  const block = pingPong ? longest.clocks : main.clocks + rest.clocks;
  const waves = Math.ceil(blocks / card.multiprocessors);
  const computing = { seconds: (waves * block) / card.clock, limit: longest.limit };
  const moving = (blocks * (mainLoop.bytes + epilogue.bytes)) / card.bandwidth;
  return moving > computing.seconds ? { seconds: moving, limit: "memory" } : computing;
}
