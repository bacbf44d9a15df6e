// Products, one for each kernel that is compiled for them.
import { native } from "../../lib/native.js";
import type { Inputs } from "./inputs.js";
import type { Growth, Sizes, Workload } from "./workload.js";

type Letters = "M" | "N" | "K";
const sized = (M: number, N: number, K: number): Record<Letters, number> => ({ M, N, K });

/** Factors are read once, the result is written once, and what it is added to read. bytesPerResult counts both. */
const growth = (bytesPerResult: number, bytesPerFactor = 2): Growth & { kernel: RegExp } => ({
  kernel: /./,
  blocks: ({ M = 0, N = 0 }) => M * N,
  depth: "K",
  bytes: ({ M = 0, N = 0, K = 0 }) => ({ read: bytesPerFactor * (M + N) * K, rest: bytesPerResult * M * N }),
});

function product(
  name: string,
  measured: Sizes,
  modelled: Sizes,
  bytesPerResult: number,
  prepare: (inputs: Inputs, M: number, N: number, K: number) => () => void,
  bytesPerFactor = 2,
): Workload {
  return {
    name,
    measured,
    modelled,
    flop: bytesPerFactor === 2 ? ({ M = 0, N = 0, K = 0 }) => 2 * M * N * K : undefined,
    growth: [growth(bytesPerResult, bytesPerFactor)],
    prepare: (inputs, { M = 0, N = 0, K = 0 }) => prepare(inputs, M, N, K),
  };
}

type Float = "f32" | "bf16";

// y (M,N) = x (M,K)·weight (N,K)ᵀ
const forward =
  (x: Float, y: Float) =>
  (inputs: Inputs, M: number, N: number, K: number): (() => void) => {
    const [a, b] = [inputs.normal(x, [M, K]), inputs.normal(x, [N, K])];
    const d = inputs.filled(y, [M, N], 0);
    return () => native().linear(a, b, 0, 0, d);
  };

// dx (M,N) (+)= dy (M,K)·weight (K,N)
const input =
  (dx: Float, accumulate: boolean) =>
  (inputs: Inputs, M: number, N: number, K: number): (() => void) => {
    const [dy, weight] = [inputs.bf16([M, K]), inputs.bf16([K, N])];
    const d = inputs.filled(dx, [M, N], 0);
    return () => native().linearBackwardInput(dy, weight, d, accumulate);
  };

// dweight (M,N) += dy (K,M)ᵀ·x (K,N)
function weight(inputs: Inputs, M: number, N: number, K: number): () => void {
  const [dy, x] = [inputs.bf16([K, M]), inputs.bf16([K, N])];
  const dweight = inputs.filled("f32", [M, N], 0);
  return () => native().linearBackwardWeight(dy, x, dweight, 0, true);
}

// Tiles are 128×128 on an A100 from 81 of them on, and 128×256 on an H100 from 66 on.
const large = sized(1536, 1536, 128);
const small = sized(256, 512, 128);
const layer = sized(8192, 4096, 4096);

export const products: readonly Workload[] = [
  product("x·Wᵀ, large", large, layer, 2, forward("bf16", "bf16")),
  product("x·Wᵀ, small", small, sized(512, 512, 4096), 2, forward("bf16", "bf16")),
  product("x·Wᵀ, few rows", sized(16, 4096, 128), sized(16, 4096, 4096), 2, forward("bf16", "bf16")),
  product("x·Wᵀ to f32", small, layer, 4, forward("bf16", "f32")),
  product("dy·W, large", large, layer, 2, input("bf16", false)),
  product("dy·W, small, added", small, sized(512, 512, 4096), 4, input("bf16", true)),
  product("dy·W to f32", small, layer, 4, input("f32", false)),
  product("dyᵀ·x, large, added", sized(1280, 1280, 128), sized(4096, 4096, 8192), 8, weight),
  product("dyᵀ·x, small, added", small, sized(1024, 1024, 8192), 8, weight),
  product("x·Wᵀ in f32", sized(256, 256, 64), sized(2048, 2048, 2048), 4, forward("f32", "f32"), 4),
];
