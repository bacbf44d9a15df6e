// Gradients against central finite differences in float64 on the generic level, and of any device against those.
import { openDevice, type Device } from "../../lib/device.js";
import { Tape, type GradientBuffer } from "../../lib/tape.js";
import { cast } from "../../lib/ops/elementwise.js";
import { tensor, type Tensor } from "../../lib/tensor.js";
import { relativeError } from "./golden.js";

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

/** Puts values on a device in one dtype. */
export interface Place {
  readonly device: Device;
  readonly dtype: "f32" | "bf16" | "f64";
  (values: Float64Array, shape: readonly number[]): Tensor;
}

export function placeOn(device: Device, dtype: Place["dtype"]): Place {
  const place = (values: Float64Array, shape: readonly number[]): Tensor =>
    tensor(dtype === "f64" ? values : Float32Array.from(values), { dtype, device, shape: [...shape] });
  return Object.assign(place, { device, dtype });
}

const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

const inputsFor = (shapes: readonly (readonly number[])[], seed: number): Float64Array[] =>
  shapes.map((shape, i) => normalArray(size(shape), seed * 100 + i));

/** The gradient of ⟨fn(values), c⟩ for every input. */
async function gradients(
  fn: (...inputs: Tensor[]) => Tensor,
  values: readonly Float64Array[],
  shapes: readonly (readonly number[])[],
  c: (count: number) => Float64Array,
  place: Place,
): Promise<Float64Array[]> {
  const tape = new Tape();
  const inputs = values.map((x, i) => place(x, shapes[i] ?? []));
  const sinks: GradientBuffer[] = inputs.map((x) => ({
    tensor: tensor(new Float64Array(x.size).fill(NaN), {
      dtype: place.dtype === "f64" ? "f64" : "f32",
      device: place.device,
      shape: [...x.shape],
    }), // stored to first
    filled: false,
  }));
  const y = tape.run(() => fn(...inputs.map((x, i) => tape.leaf(x, sinks[i]))));
  const upstream = tensor(c(y.size), {
    dtype: y.dtype === "f64" ? "f64" : "f32",
    device: place.device,
    shape: y.shape,
  });
  tape.backward([[y, y.dtype === "bf16" ? cast(upstream, "bf16") : upstream]]);
  tape.dispose();
  return Promise.all(
    sinks.map(async (sink, i) => {
      if (!sink.filled) throw new Error(`no gradient for input ${i}`);
      return Float64Array.from(await sink.tensor.toFloats());
    }),
  );
}

/** The largest relative error (‖a − b‖ / ‖b‖ over an input) of a device's gradients, against the oracle's at the values
 *  that the device was given. */
export async function gradientDifference(
  fn: (...inputs: Tensor[]) => Tensor,
  exact: ((...inputs: Tensor[]) => Tensor) | undefined,
  shapes: readonly (readonly number[])[],
  place: Place,
  oracle: Place,
): Promise<number> {
  const given = inputsFor(shapes, 1);
  const values = await Promise.all(
    given.map(async (x, i) => Float64Array.from(await place(x, shapes[i] ?? []).toFloats())),
  );
  const c = (count: number): Float64Array => normalArray(count, 150).map((x) => Math.round(x * 16) / 16); // exact in bf16
  if (!exact) throw new Error("no case of that name");
  const own = await gradients(fn, given, shapes, c, place);
  const expected = await gradients(exact, values, shapes, c, oracle);
  return Math.max(...own.map((gradient, i) => relativeError(gradient, expected[i] ?? [NaN])));
}

/**
 * The largest relative difference, over inputs and three random directions each, between the gradient of ⟨fn(inputs), c⟩
 * for a random c and its central difference.
 */
export async function gradientError(
  fn: (...inputs: Tensor[]) => Tensor,
  shapes: readonly (readonly number[])[],
  seed = 1,
): Promise<number> {
  const place = placeOn(openDevice("cpu", { simd: "generic" }), "f64");
  const values = inputsFor(shapes, seed);
  const evaluate = async (inputs: readonly Float64Array[]): Promise<ArrayLike<number>> => {
    const tensors = inputs.map((x, i) => place(x, shapes[i] ?? []));
    const y = fn(...tensors);
    const result = Float64Array.from(await y.toFloats());
    for (const each of [...tensors, y]) each.dispose();
    return result;
  };

  const c = (count: number): Float64Array => normalArray(count, seed * 100 + 50);
  const analytic = await gradients(fn, values, shapes, c, place);
  let worst = 0;
  for (const [i, gradient] of analytic.entries()) {
    for (let trial = 0; trial < 3; trial++) {
      const direction = normalArray(gradient.length, seed * 1000 + i * 10 + trial);
      const shifted = async (step: number): Promise<ArrayLike<number>> =>
        evaluate(values.map((x, k) => (k === i ? x.map((v, j) => v + step * (direction[j] ?? 0)) : x)));
      const step = 1e-5;
      const [above, below] = [await shifted(step), await shifted(-step)];
      const numeric = (dot(above, c(above.length)) - dot(below, c(below.length))) / (2 * step);
      worst = Math.max(worst, Math.abs(numeric - dot(gradient, direction)) / Math.max(1e-3, Math.abs(numeric)));
    }
  }
  return worst;
}
