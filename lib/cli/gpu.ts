// What the commands say of where they compute, and the doctor of GPUs: which there are, or what is missing, and how fast a
// large product is.
import type { Device } from "../device.js";
import { type GpuInfo, type GpuReport, native } from "../native.js";
import { empty, randn } from "../tensor.js";
import { formatBytes, plural } from "./format.js";

/** "NVIDIA H100, compute capability 9.0, 85.0 GB, kernels for sm_90"; of a CPU its SIMD level and threads. */
export function describeDevice({ kind, name, simd, threads, index }: Device): string {
  const gpu = kind === "cuda" ? native().gpus().gpus[index] : undefined;
  return gpu ? describeGpu(gpu) : `${name}, SIMD level ${simd}, ${plural(threads, "thread")}`;
}

function describeGpu({ name, capability, memory, level }: GpuInfo): string {
  const kernels = level === "" ? "too old" : `kernels for ${level}`;
  return `${name}, compute capability ${capability}, ${formatBytes(memory)}, ${kernels}`;
}

/** 13000 → "13.0". */
const version = (number: number): string => `${Math.floor(number / 1000)}.${Math.floor((number % 1000) / 10)}`;

/** Lines for people: what each GPU is, or why there is none to use. */
export function gpuLines({ gpus, driver, runtime, problem }: GpuReport): string[] {
  const lines = gpus.map(
    (gpu) => `gpu ${gpu.index}      ${describeGpu(gpu)}, ${plural(gpu.multiprocessors, "multiprocessor")}`,
  );
  if (problem !== "") lines.push(`gpu        ${problem}`);
  if (driver > 0) lines.push(`driver     CUDA ${version(driver)}; this build is for CUDA ${version(runtime)}`);
  return lines;
}

export interface ProductSpeed {
  /** Rows, columns and depth of a square product in bf16. */
  readonly size: number;
  readonly seconds: number;
  readonly flops: number;
}

/** Of products, each twice as large as the last, the last one: that which is large enough to be timed well. */
export async function productSpeed(device: Device): Promise<ProductSpeed> {
  const [smallest, largest, enough] = [512, 8192, 0.01]; // seconds
  let speed = await timeProduct(device, smallest);
  while (speed.seconds < enough && speed.size < largest) speed = await timeProduct(device, 2 * speed.size);
  return speed;
}

async function timeProduct(device: Device, size: number): Promise<ProductSpeed> {
  const repeats = 5;
  using x = randn([size, size], { seed: 1, dtype: "bf16", device });
  using weight = randn([size, size], { seed: 2, dtype: "bf16", device });
  using y = empty([size, size], { dtype: "bf16", device });
  const product = (): void => {
    native().linear(x.handle, weight.handle, 0, 0, y.handle);
  };
  product();
  await device.sync();
  const start = performance.now();
  for (let i = 0; i < repeats; i++) product();
  await device.sync();
  const seconds = (performance.now() - start) / 1000 / repeats;
  return { size, seconds, flops: (2 * size ** 3) / seconds };
}
