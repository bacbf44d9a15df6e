// The fused linear cross-entropy: training by exponentials and by slabs, and the loss alone.
import { native } from "../../lib/native.js";
import type { Inputs } from "./inputs.js";
import type { Growth, Sizes, Workload } from "./workload.js";

interface Options {
  readonly labelSmoothing?: number;
  readonly softcap?: number;
}

/** Deviations that make logits of deviation 1. */
function problem(inputs: Inputs, { T = 0, d = 0, V = 0 }: Sizes) {
  return {
    hidden: inputs.bf16([T, d]),
    weight: inputs.bf16([V, d], 1 / Math.sqrt(d)),
    targets: inputs.values("i32", [1, T], (t) => (t * 7919 + 13) % V),
    loss: inputs.f32([T]),
    argmax: inputs.filled("i32", [T], 0),
    dhidden: inputs.bf16([T, d]),
    dweight: inputs.filled("f32", [V, d], 0),
    scale: inputs.filled("f32", [1], 1 / T),
    lse: inputs.f32([T]),
    rank: inputs.filled("i32", [T], 0),
    entropy: inputs.f32([T]),
  };
}

/** Forward and backward; the weight's gradient is added to what is there. */
const train =
  ({ labelSmoothing = 0, softcap = 0 }: Options = {}) =>
  (inputs: Inputs, sizes: Sizes): (() => void) => {
    const { hidden, weight, targets, scale, loss, argmax, dhidden, dweight } = problem(inputs, sizes);
    const options = [0, labelSmoothing, 0, 1, softcap] as const;
    return () =>
      native().linearCrossEntropyTrain(
        ...([hidden, weight, 0, targets, 0, ...options, scale, 0, loss, argmax, dhidden, dweight, 0] as const),
        false,
        true,
      );
  };

function evaluate(inputs: Inputs, sizes: Sizes): () => void {
  const { hidden, weight, targets, loss, lse, argmax, rank, entropy } = problem(inputs, sizes);
  return () =>
    native().linearCrossEntropy(hidden, weight, 0, targets, 0, 0, 0, 0, 1, 0, loss, lse, argmax, rank, entropy);
}

const classesPerBlock = 128;

const perRow: Growth = { blocks: ({ T = 0 }) => T };
const perRowByWidth: Growth = { blocks: ({ T = 0 }) => T, depth: "d" };

/** Of a chunk of T rows, which goes through all kernels once. */
const trainGrowth: Workload["growth"] = [
  {
    kernel: /^cross_entropy_sm90|^logits_kernel<.*2>/,
    blocks: ({ T = 0, V = 0 }) => T * V,
    depth: "d",
    bytes: ({ T = 0, d = 0, V = 0 }) => ({
      read: 2 * (T + V) * d,
      rest: 2 * T * V + (12 * T * V) / classesPerBlock,
    }),
  },
  {
    kernel: /gemm.*_nn_/,
    blocks: ({ T = 0, d = 0 }) => T * d,
    depth: "V",
    bytes: ({ T = 0, d = 0, V = 0 }) => ({ read: 2 * (T + d) * V, rest: 4 * T * d }),
  },
  {
    kernel: /gemm.*_tn_/,
    blocks: ({ V = 0, d = 0 }) => V * d,
    depth: "T",
    bytes: ({ T = 0, d = 0, V = 0 }) => ({ read: 2 * (V + d) * T, rest: 8 * V * d }),
  },
  { kernel: /reduce_exponentials/, blocks: ({ T = 0 }) => T, depth: "V" },
  { kernel: /target_logits|scale_rows|add_exact|finish_dhidden/, ...perRowByWidth },
  { kernel: /./, ...perRow },
];

const chunk = { T: 2048, d: 4096, V: 128256 };

export const losses: readonly Workload[] = [
  {
    name: "loss, training",
    measured: { T: 1024, d: 1536, V: 1024 },
    modelled: chunk,
    calls: 4,
    flop: ({ T = 0, d = 0, V = 0 }) => 6 * T * d * V,
    growth: trainGrowth,
    prepare: train(),
  },
  {
    name: "loss, training, many classes",
    measured: { T: 256, d: 256, V: 4096 },
    modelled: { T: 256, d: 256, V: 4096 },
    flop: ({ T = 0, d = 0, V = 0 }) => 6 * T * d * V,
    growth: [{ kernel: /./, ...perRow }],
    prepare: train(),
  },
  {
    name: "loss, training, softcap",
    measured: { T: 256, d: 256, V: 1024 },
    modelled: { T: 256, d: 256, V: 1024 },
    flop: ({ T = 0, d = 0, V = 0 }) => 6 * T * d * V,
    growth: [{ kernel: /./, ...perRow }],
    prepare: train({ softcap: 30 }),
  },
  {
    name: "loss, training, label smoothing",
    measured: { T: 256, d: 256, V: 2048 },
    modelled: { T: 256, d: 256, V: 2048 },
    flop: ({ T = 0, d = 0, V = 0 }) => 8 * T * d * V,
    growth: [{ kernel: /./, ...perRow }],
    prepare: train({ labelSmoothing: 0.1 }),
  },
  {
    name: "loss, training, few rows",
    measured: { T: 128, d: 256, V: 16384 },
    modelled: { T: 128, d: 256, V: 16384 },
    flop: ({ T = 0, d = 0, V = 0 }) => 8 * T * d * V,
    growth: [{ kernel: /./, ...perRow }],
    prepare: train(),
  },
  {
    name: "loss alone",
    measured: { T: 256, d: 256, V: 2048 },
    modelled: chunk,
    calls: 4,
    flop: ({ T = 0, d = 0, V = 0 }) => 2 * T * d * V,
    growth: [
      {
        kernel: /^logits_kernel/,
        blocks: ({ T = 0, V = 0 }) => T * V,
        depth: "d",
        bytes: ({ T = 0, d = 0, V = 0 }) => ({ read: 2 * (T + V) * d, rest: (24 * T * V) / classesPerBlock }),
      },
      { kernel: /reduce_statistics/, blocks: ({ T = 0 }) => T, depth: "V" },
      { kernel: /target_logits/, ...perRowByWidth },
      { kernel: /./, ...perRow },
    ],
    prepare: evaluate,
  },
];
