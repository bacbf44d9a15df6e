// Is the fused linear cross-entropy faster than full logits, in our own ops and in PyTorch? Forward and backward together,
// as training needs them. Loss and the norms of both gradients must agree before anything is timed.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { openDevice } from "../lib/device.js";
import { writeSafetensors } from "../lib/io/index.js";
import { savedTensor } from "../lib/mtp/files.js";
import { linearCrossEntropyTrain } from "../lib/ops/cross-entropy.js";
import { cast } from "../lib/ops/elementwise.js";
import { detach, scope } from "../lib/scope.js";
import { empty, randn, tensor, type Tensor } from "../lib/tensor.js";
import type { Bench, BenchOptions } from "./bench.js";
import { interleave, type Timing, type Variant } from "./interleave.js";
import { nativeBench, percentOfPeak } from "./peaks.js";
import { PythonFailure, PythonServer, pythonWithTorch } from "./python.js";
import type { Figure, Verdict } from "./report.js";
import type { ComputeDType } from "./workload.js";

interface Shape {
  /** Tokens, width, vocabulary. */
  readonly T: number;
  readonly d: number;
  readonly V: number;
}

const shapes: readonly Shape[] = [
  { T: 2048, d: 512, V: 32000 },
  { T: 256, d: 512, V: 32000 },
  { T: 4096, d: 256, V: 256 },
];
const smokeShape: Shape = { T: 48, d: 32, V: 61 };

/** Loss, ‖dhidden‖, ‖dweight‖ against our f32, relative: rounding of inputs and products to bf16; PyTorch also rounds gradients. */
const tolerance = { f32: 1e-4, bf16: 1e-2 } as const;
/** PyTorch sums the loss itself in bf16 where its inputs are bf16 (1.7 % off in chunks); its gradients do not read that sum. */
const theirLossTolerance = 3e-2;

export const loss: Bench = {
  question: "Is the fused linear cross-entropy faster than full logits, in our own ops and in PyTorch?",
  async *run(options) {
    const path = pythonWithTorch();
    using python = path === undefined ? undefined : new PythonServer(path, "loss.py", openDevice().threads);
    for (const shape of options.smoke ? [smokeShape] : shapes) {
      const rows = await compare(shape, python, options);
      const title = `Forward and backward, T=${shape.T} d=${shape.d} V=${shape.V}`;
      yield { title, rows: rows.map((row) => figure(shape, row)), verdicts: judge(rows) };
    }
    if (!options.smoke && openDevice().kind === "cpu")
      yield { title: "Against our own products with full logits (bench_cross_entropy)", rows: unfused() };
  },
};

interface Kind {
  readonly side: "ours" | "PyTorch";
  readonly dtype: ComputeDType;
  /** Relative, from our f32. */
  readonly lossError: number;
}
type Row = Timing & Kind;

// ---- our side -------------------------------------------------------------------------------------------------------

/** Inputs in one dtype, and room for the results, as a training step holds them. */
class Problem implements Disposable {
  readonly hidden: Tensor;
  readonly weight: Tensor;
  readonly targets: Int32Array;
  private readonly dweight: Tensor;
  private readonly rows: {
    readonly loss: Tensor;
    readonly argmax: Tensor;
    readonly scale: Tensor;
    readonly tokens: Tensor;
  };

  constructor({ T, d, V }: Shape, dtype: ComputeDType) {
    const device = openDevice();
    const rounded = (make: () => Tensor): Tensor =>
      detach(scope(() => (dtype === "f32" ? make() : cast(make(), dtype))));
    this.hidden = rounded(() => randn([T, d], { device, seed: 1 }));
    this.weight = rounded(() => randn([V, d], { device, seed: 2, std: 1 / Math.sqrt(d) }));
    this.targets = Int32Array.from({ length: T }, (_, t) => (t * 7919 + 13) % V);
    this.dweight = detach(empty([V, d], { dtype: "f32", device }));
    this.rows = {
      loss: detach(empty([T], { dtype: "f32", device })),
      argmax: detach(empty([T], { dtype: "i32", device })),
      scale: detach(tensor([1 / T], { device })),
      tokens: detach(tensor(this.targets, { device, shape: [1, T] })),
    };
  }

  /** Forward and backward; ms. */
  async run(): Promise<number> {
    const began = performance.now();
    this.train().dispose();
    await openDevice().sync();
    return performance.now() - began;
  }

  /** Mean loss, ‖dhidden‖, ‖dweight‖. */
  async values(): Promise<number[]> {
    const dhidden = this.train();
    const [loss, dh, dw] = await Promise.all([this.rows.loss, dhidden, this.dweight].map((each) => each.toFloats()));
    dhidden.dispose();
    const mean = [...(loss ?? [])].reduce((sum, each) => sum + each, 0) / this.targets.length;
    return [mean, norm(dh ?? []), norm(dw ?? [])];
  }

  private train(): Tensor {
    const { loss, argmax, scale, tokens } = this.rows;
    const sink = { tensor: this.dweight, filled: false };
    return linearCrossEntropyTrain(
      this.hidden,
      this.weight,
      sink,
      undefined,
      { tokens, shift: 0 },
      { loss, argmax, scale },
    );
  }

  [Symbol.dispose](): void {
    for (const each of [this.hidden, this.weight, this.dweight, ...Object.values(this.rows)]) each.dispose();
  }
}

function norm(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] ?? 0) ** 2;
  return Math.sqrt(sum);
}

// ---- both sides -----------------------------------------------------------------------------------------------------

async function compare(shape: Shape, python: PythonServer | undefined, options: BenchOptions): Promise<Row[]> {
  using exact = new Problem(shape, "f32");
  using rounded = new Problem(shape, "bf16");
  const expected = await exact.values();
  const lossError = checkValues("ours, bf16", await rounded.values(), expected, tolerance.bf16);
  const variants: (Variant & Kind)[] = [
    { name: "ours, bf16", side: "ours", dtype: "bf16", lossError, run: () => rounded.run() },
    { name: "ours, f32", side: "ours", dtype: "f32", lossError: 0, run: () => exact.run() },
  ];
  if (python)
    for (const way of await loadTheirs(python, exact)) variants.push(...(await theirs(python, way, expected)));
  const timings = await interleave(variants, options.rounds);
  return variants.map(({ run: _, ...variant }, i) => ({ ...variant, ...(timings[i] as Timing) }));
}

/** Hands over the inputs; resolves to the ways this PyTorch knows. */
async function loadTheirs(python: PythonServer, { hidden, weight, targets }: Problem): Promise<readonly string[]> {
  const folder = mkdtempSync(join(tmpdir(), "foretoken-bench-"));
  try {
    const path = join(folder, "inputs.safetensors");
    await writeSafetensors(path, [savedTensor("hidden", hidden), savedTensor("weight", weight)]);
    return (await python.request<{ ways: string[] }>("load", { path, targets: [...targets] })).ways;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function theirs(python: PythonServer, way: string, expected: readonly number[]): Promise<(Variant & Kind)[]> {
  const dtype = way.includes("bf16") ? "bf16" : "f32";
  const name = `PyTorch ${way}`;
  try {
    const { values } = await python.request<{ values: number[] }>("run", { way, values: true });
    const allowedLoss = dtype === "bf16" ? theirLossTolerance : tolerance[dtype];
    const lossError = checkValues(name, values, expected, tolerance[dtype], allowedLoss);
    const run = async (): Promise<number> => (await python.request<{ ms: number }>("run", { way })).ms;
    return [{ name, side: "PyTorch", dtype, lossError, run }];
  } catch (failure) {
    if (!(failure instanceof PythonFailure)) throw failure;
    console.log(`${name} does not run here: ${failure.message.split("\n")[0] ?? ""}`);
    return [];
  }
}

/** The loss's relative difference. Throws RangeError when it or a gradient's norm is too far off. */
function checkValues(
  name: string,
  got: readonly number[],
  expected: readonly number[],
  allowed: number,
  allowedLoss = allowed,
): number {
  const [loss = NaN, ...gradients] = expected.map((value, i) => Math.abs((got[i] ?? NaN) - value) / Math.abs(value));
  if (loss <= allowedLoss && gradients.every((difference) => difference <= allowed)) return loss;
  const values = `loss and gradient norms ${got.join(", ")}, wanted ${expected.join(", ")}`;
  throw new RangeError(`${name}: ${values} to ${allowedLoss} and ${allowed}`);
}

function figure({ T, d, V }: Shape, { name, dtype, lossError, median, p99, best, samples }: Row): Figure {
  const gflops = (6 * T * d * V) / median / 1e6;
  const share = percentOfPeak(gflops, openDevice().simd, dtype);
  return {
    variant: name,
    "ms (median)": median,
    p99,
    best,
    "GFLOP/s of 6TdV": Math.round(gflops),
    "of the peak, %": share,
    "loss off by, %": 100 * lossError,
    rounds: samples.length,
  };
}

function judge(rows: readonly Row[]): Verdict[] {
  return (["bf16", "f32"] as const).flatMap((dtype) => {
    const ours = rows.find((row) => row.side === "ours" && row.dtype === dtype);
    const best = rows
      .filter((row) => row.side === "PyTorch" && (dtype === "bf16" || row.dtype === dtype))
      .sort((a, b) => a.median - b.median)[0];
    if (!ours || !best) return [];
    const ratio = ours.median / best.median;
    const measured = `${ours.median.toFixed(1)} ms, ${ratio.toFixed(2)} × the ${best.median.toFixed(1)} ms of ${best.name}`;
    return [{ claim: `${dtype}: no slower than PyTorch's best way`, holds: ratio <= 1, measured }];
  });
}

/** What the C++ bench of the kernel prints, line by line: it holds the softmax over full logits that no op of ours has. */
function unfused(): Figure[] {
  const output = execFileSync(nativeBench("cross_entropy"), [openDevice().simd], { encoding: "utf8" });
  return output
    .trim()
    .split("\n")
    .map((line) => ({ line }));
}
