// Tensors for one workload: random, the same on every run, freed together. Kernels take their handles. Made on the host:
// the software GPU takes longer to draw normal numbers than to do most of what is counted.
import { toBf16 } from "../../lib/bf16.js";
import type { Device } from "../../lib/device.js";
import { native, type Handle } from "../../lib/native.js";
import { empty, tensor, type DType, type Tensor } from "../../lib/tensor.js";

const sizeOf = (shape: readonly number[]): number => shape.reduce((size, side) => size * side, 1);

/** A prime number of them, so that rows of a matrix differ (Box–Muller over a linear congruential generator). */
const normals = (() => {
  let state = 1;
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  const normal = (): number => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  return Float32Array.from({ length: 65_521 }, normal);
})();

export class Inputs implements Disposable {
  private readonly tensors: Tensor[] = [];

  constructor(readonly device: Device) {}

  private keep(made: Tensor): Handle {
    this.tensors.push(made);
    return made.handle;
  }

  /** Normal numbers of this deviation; they repeat after some thousands. */
  normal(dtype: DType, shape: readonly number[], std = 1): Handle {
    const [size, from] = [sizeOf(shape), this.tensors.length * 1000];
    const values = Float32Array.from({ length: size }, (_, i) => std * (normals[(from + i) % normals.length] ?? 0));
    return this.keep(tensor(dtype === "bf16" ? toBf16(values) : values, { dtype, shape, device: this.device }));
  }

  bf16(shape: readonly number[], std = 1): Handle {
    return this.normal("bf16", shape, std);
  }

  f32(shape: readonly number[], std = 1): Handle {
    return this.normal("f32", shape, std);
  }

  /** Every element the same. */
  filled(dtype: DType, shape: readonly number[], value: number): Handle {
    const handle = this.keep(empty(shape, { dtype, device: this.device }));
    native().fill(handle, value);
    return handle;
  }

  values(dtype: DType, shape: readonly number[], valueAt: (i: number) => number): Handle {
    const values = Array.from({ length: sizeOf(shape) }, (_, i) => valueAt(i));
    return this.keep(tensor(values, { dtype, shape, device: this.device }));
  }

  [Symbol.dispose](): void {
    for (const each of this.tensors) each.dispose();
  }
}
