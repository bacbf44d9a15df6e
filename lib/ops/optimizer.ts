// Gradient norm and AdamW (arXiv 1711.05101), each over all tensors in one call.
import { native } from "../native.js";
import type { Tensor } from "../tensor.js";

const handles = (tensors: readonly (Tensor | undefined)[]): number[] => tensors.map((t) => t?.handle ?? 0);

/** norm[0] = sqrt(Σ grads²), summed in a fixed order. norm (1) f32. */
export function gradientNorm(grads: readonly Tensor[], norm: Tensor): void {
  native().gradientNorm(handles(grads), norm.handle);
}

export interface AdamWTensors {
  readonly params: readonly Tensor[];
  readonly grads: readonly Tensor[];
  readonly m: readonly Tensor[];
  readonly v: readonly Tensor[];
  /** bf16 copies, written where given. */
  readonly compute: readonly (Tensor | undefined)[];
  /** Decoupled weight decay per tensor. */
  readonly decay: readonly number[];
  /** (4) f32: learning rate, step counted from 1. */
  readonly state: Tensor;
  /** (1) f32: the gradient norm. */
  readonly norm: Tensor;
  /** (4) i32: nothing is written when the norm is not finite or status[0] is set; status[1] then becomes 1. */
  readonly status: Tensor;
}

export interface AdamWSettings {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  /** Largest gradient norm; 0: no clipping. */
  readonly clipNorm: number;
}

/** One AdamW step over all tensors; see kernels.h for the formula. */
export function adamw(t: AdamWTensors, s: AdamWSettings): void {
  native().adamw(
    handles(t.params),
    handles(t.grads),
    handles(t.m),
    handles(t.v),
    handles(t.compute),
    Float32Array.from(t.decay),
    t.state.handle,
    t.norm.handle,
    t.status.handle,
    s.beta1,
    s.beta2,
    s.eps,
    s.clipNorm,
  );
}
