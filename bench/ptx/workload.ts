// What bench:ptx runs: one call of a kernel of the contract, small enough to be executed in software, and how what was
// counted grows to the size that a model of 7·10⁹ parameters has it at.
import type { Inputs } from "./inputs.js";

/** Sizes by their letters. */
export type Sizes = Readonly<Record<string, number>>;

export const halved = (sizes: Sizes, letter: string): Sizes => ({ ...sizes, [letter]: (sizes[letter] ?? 0) / 2 });

/** How the cost of a kernel follows from sizes. */
export interface Growth {
  /** What the number of blocks is proportional to. */
  readonly blocks: (sizes: Sizes) => number;
  /** The letter that a block's main loop runs over, where it has one. Half of it is run too, which tells its share. */
  readonly depth?: string | undefined;
  /**
   * Bytes that must cross the memory bus at least: what the main loop reads, and the rest. Absent: the sectors that were
   * counted, as if no read were ever found in L2.
   */
  readonly bytes?: ((sizes: Sizes) => { readonly read: number; readonly rest: number }) | undefined;
}

export interface Workload {
  readonly name: string;
  /** Executed. Tile-complete where there are tiles, and with the kernels that the modelled size has. */
  readonly measured: Sizes;
  /** The size whose time is modelled. */
  readonly modelled: Sizes;
  /** FLOP on tensor cores that the mathematics needs. */
  readonly flop?: ((sizes: Sizes) => number) | undefined;
  /** By launch: the first whose pattern fits the kernel's name. */
  readonly growth: readonly (Growth & { readonly kernel: RegExp })[];
  /** How many times these kernels run for it: chunks of a loss. Default 1. */
  readonly calls?: number | undefined;
  /** Makes inputs, and returns the call that is counted. */
  readonly prepare: (inputs: Inputs, sizes: Sizes) => () => void;
}

/** The letters that main loops run over. */
export const depthsOf = ({ growth }: Workload): readonly string[] => [
  ...new Set(growth.flatMap(({ depth }) => depth ?? [])),
];
