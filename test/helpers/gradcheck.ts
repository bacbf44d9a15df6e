// Gradients against central finite differences, in float64 on the generic level.
import { openDevice } from "../../lib/device.js";
import { Tape, type GradientBuffer } from "../../lib/tape.js";
import { tensor, type Tensor } from "../../lib/tensor.js";

/** A repeatable stream of normal numbers (mulberry32 and Box–Muller): independent of the library's own generator. */
export function normals(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

export const normalArray = (count: number, seed: number): Float64Array => {
  const next = normals(seed);
  return Float64Array.from({ length: count }, next);
};

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] ?? NaN) * (b[i] ?? NaN);
  return sum;
};

/**
 * The largest relative difference, over inputs and three random directions each, between the gradient of ⟨fn(inputs), c⟩
 * for a random c and its central difference.
 */
export async function gradientError(
  fn: (...inputs: Tensor[]) => Tensor,
  shapes: readonly (readonly number[])[],
  seed = 1,
): Promise<number> {
  const device = openDevice("cpu", { simd: "generic" });
  const values = shapes.map((shape, i) =>
    normalArray(
      shape.reduce((a, b) => a * b, 1),
      seed * 100 + i,
    ),
  );
  const upload = (data: Float64Array, i: number): Tensor =>
    tensor(data, { dtype: "f64", device, shape: [...(shapes[i] ?? [])] });
  const evaluate = async (inputs: readonly Float64Array[]): Promise<ArrayLike<number>> => {
    const tensors = inputs.map(upload);
    const y = fn(...tensors);
    const result = Float64Array.from(await y.toFloats());
    for (const each of [...tensors, y]) each.dispose();
    return result;
  };

  const tape = new Tape();
  const inputs = values.map(upload);
  const sinks: GradientBuffer[] = inputs.map((x) => ({
    tensor: tensor(new Float64Array(x.size).fill(NaN), { dtype: "f64", device, shape: [...x.shape] }), // stored to first
    filled: false,
  }));
  const y = tape.run(() => fn(...inputs.map((x, i) => tape.leaf(x, sinks[i]))));
  const c = normalArray(y.size, seed * 100 + 50);
  tape.backward([[y, tensor(c, { dtype: "f64", device, shape: [...y.shape] })]]);
  tape.dispose();

  let worst = 0;
  for (const [i, sink] of sinks.entries()) {
    if (!sink.filled) throw new Error(`no gradient for input ${i}`);
    const gradient = await sink.tensor.toFloats();
    for (let trial = 0; trial < 3; trial++) {
      const direction = normalArray(gradient.length, seed * 1000 + i * 10 + trial);
      const shifted = async (step: number): Promise<ArrayLike<number>> =>
        evaluate(values.map((x, k) => (k === i ? x.map((v, j) => v + step * (direction[j] ?? 0)) : x)));
      const step = 1e-5;
      const numeric = (dot(await shifted(step), c) - dot(await shifted(-step), c)) / (2 * step);
      const analytic = dot(gradient, direction);
      worst = Math.max(worst, Math.abs(numeric - analytic) / Math.max(1e-3, Math.abs(numeric)));
    }
  }
  return worst;
}
