// Making and finding the parameters of a model.
import type { Device, DType } from "../device.js";
import { ForetokenError } from "../errors.js";
import { native } from "../native.js";
import { owning } from "../scope.js";
import { Parameter } from "../tape.js";
import { empty, type Tensor } from "../tensor.js";

/** How a parameter starts: all ones, all zeros, or normal with this standard deviation. */
export type Start = "ones" | "zeros" | { readonly std: number };

/**
 * A model's parameters by name, in the order they were made. Masters are f32 (f64 in an f64 model); a bf16 model's
 * kernels read bf16 copies. Start values depend on the seed and on the parameter's place alone.
 */
export class ParameterStore {
  private readonly byName = new Map<string, Parameter>();

  constructor(
    readonly device: Device,
    readonly dtype: DType,
    private readonly seed: number,
  ) {}

  create(name: string, shape: readonly number[], start: Start): Parameter {
    const { device, dtype } = this;
    const made = (as: DType): Tensor => empty(shape, { dtype: as, device, tag: "parameter" });
    const [master, value] = owning(() => {
      const master = made(dtype === "f64" ? "f64" : "f32");
      return [master, dtype === "bf16" ? made("bf16") : master];
    });
    const parameter = new Parameter(name, master, value);
    if (start === "ones" || start === "zeros") native().fill(master.handle, start === "ones" ? 1 : 0);
    else native().randomNormal(master.handle, 0, start.std, this.seed, this.byName.size);
    if (this.byName.has(name)) {
      throw new ForetokenError("BAD_CONFIG", {
        op: "parameters",
        argument: name,
        wanted: "a name used once",
        got: "two parameters of that name",
      });
    }
    this.byName.set(name, parameter);
    refreshValue(parameter);
    return parameter;
  }

  get(name: string): Parameter | undefined {
    return this.byName.get(name);
  }

  get all(): readonly Parameter[] {
    return [...this.byName.values()];
  }

  /** Number of trained numbers. */
  get count(): number {
    return this.all.reduce((sum, parameter) => sum + parameter.master.size, 0);
  }

  clearGradients(): void {
    for (const parameter of this.byName.values()) parameter.clearGradient();
  }

  dispose(): void {
    for (const parameter of this.byName.values()) parameter.dispose();
    this.byName.clear();
  }
}

/** Brings the value that kernels read up to date with the master. */
export function refreshValue(parameter: Parameter): void {
  if (parameter.value !== parameter.master) native().cast(parameter.master.handle, parameter.value.handle);
}
