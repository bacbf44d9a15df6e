// AdamW over a model's parameters, with the guard that keeps a bad step from the weights.
import type { Device } from "../device.js";
import { ForetokenError } from "../errors.js";
import { native } from "../native.js";
import { adamw, gradientNorm, type AdamWSettings } from "../ops/optimizer.js";
import { owning } from "../scope.js";
import type { Parameter } from "../tape.js";
import { empty, zeros, type Tensor } from "../tensor.js";

export interface AdamWOptions {
  /** Default [0.9, 0.95]. */
  readonly betas?: readonly [number, number] | undefined;
  /** Default 1e-8. */
  readonly eps?: number | undefined;
  /** Decoupled, on matrices (embeddings included), not on norms and biases. Default 0.1. */
  readonly weightDecay?: number | undefined;
  /** Largest gradient norm; 0: no clipping. Default 1. */
  readonly clipNorm?: number | undefined;
}

/** The two moments of a parameter. */
export interface Moments {
  readonly m: Tensor;
  readonly v: Tensor;
}

/**
 * AdamW (arXiv 1711.05101), PyTorch's formula, with clipping of the global gradient norm (arXiv 1211.5063). The norm and
 * the guard's flag are read on the device: a step with a norm that is not finite leaves weights and moments untouched.
 *
 * @example
 * const optimizer = new AdamW(model.parameters.all, { weightDecay: 0.1 });
 * optimizer.step(1e-3);
 */
export class AdamW {
  /** (1) f32: the gradient norm of the last step, before clipping. */
  readonly norm: Tensor;
  readonly moments: ReadonlyMap<Parameter, Moments>;
  private readonly state: Tensor;
  private readonly ownStatus: Tensor;
  private readonly settings: AdamWSettings;
  private readonly weightDecay: number;
  /** Steps taken. */
  steps = 0;

  constructor(parameters: readonly Parameter[], options: AdamWOptions = {}) {
    const [beta1, beta2] = options.betas ?? [0.9, 0.95];
    this.settings = { beta1, beta2, eps: options.eps ?? 1e-8, clipNorm: options.clipNorm ?? 1 };
    this.weightDecay = options.weightDecay ?? 0.1;
    const device = deviceOf(parameters);
    const real = parameters[0]?.master.dtype === "f64" ? "f64" : "f32";
    const buffer = (shape: readonly number[], dtype: "f32" | "f64" | "i32"): Tensor =>
      zeros(shape, { dtype, device, tag: "optimizer" });
    const made = owning(() => ({
      moments: new Map(parameters.map((each) => [each, { m: buffer(each.shape, real), v: buffer(each.shape, real) }])),
      norm: buffer([1], real),
      state: buffer([4], real),
      status: buffer([4], "i32"),
    }));
    this.moments = made.moments;
    this.norm = made.norm;
    this.state = made.state;
    this.ownStatus = made.status;
  }

  /**
   * One step with the gradients that are there; parameters without one are left alone. status (4) i32: see `adamw`.
   * The same as `prepare` and then `apply`.
   */
  step(learningRate: number, status: Tensor = this.ownStatus): void {
    this.prepare(learningRate);
    this.apply(status);
  }

  /** Writes what changes from step to step, learning rate and step number, to the device: before a recording's replay. */
  prepare(learningRate: number): void {
    if (!Number.isFinite(learningRate)) {
      const details = { op: "adamw", argument: "learningRate", wanted: "a finite number", got: String(learningRate) };
      throw new ForetokenError("BAD_ARGUMENT", details);
    }
    this.steps++;
    this.state.write([learningRate, this.steps, 0, 0]);
  }

  /** The kernels of a step: what a recording of a training step ends with. */
  apply(status: Tensor = this.ownStatus): void {
    const moved = [...this.moments].filter(([parameter]) => parameter.filled);
    const grads = moved.map(([parameter]) => parameter.tensor);
    gradientNorm(grads, this.norm);
    adamw(
      {
        params: moved.map(([{ master }]) => master),
        grads,
        m: moved.map(([, { m }]) => m),
        v: moved.map(([, { v }]) => v),
        compute: moved.map(([{ master, value }]) => (value === master ? undefined : value)),
        decay: moved.map(([{ shape }]) => (shape.length >= 2 ? this.weightDecay : 0)),
        state: this.state,
        norm: this.norm,
        status,
      },
      this.settings,
    );
  }

  dispose(): void {
    for (const { m, v } of this.moments.values()) {
      m.dispose();
      v.dispose();
    }
    for (const tensor of [this.norm, this.state, this.ownStatus]) tensor.dispose();
  }
}

function deviceOf(parameters: readonly Parameter[]): Device {
  const device = parameters[0]?.master.device;
  if (!device)
    throw new ForetokenError("BAD_ARGUMENT", {
      op: "adamw",
      argument: "parameters",
      wanted: "at least one parameter",
      got: "none",
    });
  return device;
}

/**
 * Scales all gradients so that their global norm is at most maxNorm (arXiv 1211.5063) and resolves to the norm before.
 * For steps written by hand; AdamW clips on the device without waiting.
 */
export async function clipGradNorm(parameters: readonly Parameter[], maxNorm: number): Promise<number> {
  const moved = parameters.filter(({ filled }) => filled);
  const grads = moved.map(({ tensor }) => tensor);
  const norm = owning(() => empty([1], { dtype: grads[0]?.dtype ?? "f32", device: deviceOf(parameters) }));
  try {
    gradientNorm(grads, norm);
    const value = await norm.item();
    const factor = maxNorm / (value + 1e-6);
    if (factor < 1) for (const each of grads) native().scale(each.handle, factor, each.handle);
    return value;
  } finally {
    norm.dispose();
  }
}
