// A small tape over layer-sized ops. An entry is {op, inputs, output, saved, backward}; backward walks the entries in
// reverse, sums gradients in place and drops each saved tensor right after its use. The derivatives themselves are
// native *_backward kernels; the tape only orders them. Without an active tape nothing is saved.
import { ForetokenError } from "./errors.js";
import { native } from "./native.js";
import { detach, scope, track } from "./scope.js";
import { empty, type Tensor } from "./tensor.js";
import type { DType } from "./device.js";

/** Where a gradient is summed: the first contribution stores, later ones add. */
export interface GradientBuffer {
  readonly tensor: Tensor;
  filled: boolean;
}

/** dtype in which gradients of weights and of the residual stream are summed: f32, or f64 beside f64 values. */
export const sumDType = (dtype: DType): DType => (dtype === "f64" ? "f64" : "f32");

/**
 * A trained tensor: the master copy that the optimizer updates, the value that kernels read (the same tensor, or its
 * bf16 copy), and the gradient summed over everything that used it.
 */
export class Parameter implements GradientBuffer {
  filled = false;
  private gradient: Tensor | undefined;

  constructor(
    readonly name: string,
    readonly master: Tensor,
    readonly value: Tensor,
  ) {}

  get shape(): readonly number[] {
    return this.master.shape;
  }

  /** The gradient's storage, allocated at first use, f32 (f64 for an f64 master). */
  get tensor(): Tensor {
    if (!this.gradient || this.gradient.disposed) {
      const { dtype, device, shape } = this.master;
      this.gradient = detach(empty(shape, { dtype: sumDType(dtype), device, tag: "gradient" }));
      this.filled = false;
    }
    return this.gradient;
  }

  /** The gradient of the last backward passes, or undefined before the first. */
  get grad(): Tensor | undefined {
    return this.filled ? this.gradient : undefined;
  }

  /** Forgets the gradient's value and keeps its storage. */
  clearGradient(): void {
    this.filled = false;
  }

  /** Gives the gradient's storage back. */
  releaseGradient(): void {
    this.gradient?.dispose();
    this.gradient = undefined;
    this.filled = false;
  }

  dispose(): void {
    this.releaseGradient();
    if (this.value !== this.master) this.value.dispose();
    this.master.dispose();
  }
}

export type Weight = Parameter | Tensor;

/**
 * For kernels that take one flag for several sums: whether to add or to store. Where one sum has begun and another has
 * not, the latter begins with zeros. Call right before the kernel.
 */
export function begin(...sinks: readonly (GradientBuffer | undefined)[]): boolean {
  const given = sinks.filter((sink) => sink !== undefined);
  const tensors = given.map(({ tensor }) => tensor); // a parameter's storage is made when it is first asked for
  const accumulate = given.some(({ filled }) => filled);
  for (const [i, sink] of given.entries()) {
    if (accumulate && !sink.filled) native().fill(tensors[i]?.handle ?? 0, 0);
    sink.filled = true;
  }
  return accumulate;
}

/** Room for the gradient of x, summed in f32; freed with the scope around. */
export const gradientBuffer = ({ shape, dtype, device }: Tensor): GradientBuffer => ({
  tensor: empty(shape, { dtype: sumDType(dtype), device, tag: "activation" }),
  filled: false,
});

/** The tensor that kernels read of a weight. */
export const valueOf = (weight: Weight): Tensor => (weight instanceof Parameter ? weight.value : weight);

/** A tensor kept for the backward pass: held, or made again when it is needed. */
export interface Saved {
  readonly tensor: Tensor;
  release(): void;
}

class Held implements Saved {
  readonly tensor: Tensor;
  constructor(tensor: Tensor) {
    this.tensor = detach(tensor.view(tensor.shape));
  }
  release(): void {
    this.tensor.dispose();
  }
}

/** Shared by all that saved the same cheap output: made once, freed when the last of them has used it. */
class Recipe {
  private made: Tensor | undefined;
  private users = 0;
  constructor(private readonly make: () => Tensor) {}

  save(): Saved {
    this.users++;
    const value = (): Tensor => (this.made ??= detach(this.make()));
    return {
      get tensor() {
        return value();
      },
      release: () => {
        if (--this.users === 0) {
          this.made?.dispose();
          this.made = undefined;
        }
      },
    };
  }
}

/** The gradient arriving at an op's output. */
export interface Upstream {
  readonly tensor: Tensor;
  /** The tensor, now the caller's to overwrite or dispose of: the buffer itself, or a copy when somebody else owns it. */
  take(): Tensor;
}

interface Buffer extends GradientBuffer {
  readonly owned: boolean;
}

interface Entry {
  readonly output: Tensor;
  readonly saved: readonly Saved[];
  readonly backward: (upstream: Upstream) => void;
}

export interface RecordOptions {
  /** Makes the output again: whoever saves it saves this instead. */
  recompute?: () => Tensor;
}

const active: (Tape | undefined)[] = [];

/** The tape that ops record on now, or undefined. */
export const activeTape = (): Tape | undefined => active.at(-1);

/** Runs fn without recording. */
export function untaped<T>(fn: () => T): T {
  active.push(undefined);
  try {
    return fn();
  } finally {
    active.pop();
  }
}

export class Tape {
  private readonly entries: Entry[] = [];
  private readonly buffers = new Map<Tensor, Buffer>();
  private readonly tracked = new Set<Tensor>();
  private readonly recipes = new Map<Tensor, Recipe>();
  private readonly leaves = new Map<Tensor, GradientBuffer>();
  private ran = false;

  /** Runs fn with this tape recording. fn is synchronous: ops only enqueue. */
  run<T>(fn: () => T): T {
    active.push(this);
    try {
      const result = fn();
      if (result instanceof Promise) {
        throw new ForetokenError("ASYNC_SCOPE", {
          op: "tape",
          argument: "fn",
          wanted: "a synchronous function",
          got: "one that returns a promise",
        });
      }
      return result;
    } finally {
      active.pop();
    }
  }

  /** x as the start of this tape: a tensor that shares x's memory and whose gradient is wanted, summed into `into` if given. */
  leaf(x: Tensor, into?: GradientBuffer): Tensor {
    const leaf = x.view(x.shape);
    this.tracked.add(leaf);
    if (into) this.leaves.set(leaf, into);
    return leaf;
  }

  /** Whether a gradient is to be computed for x. */
  wants(x: Tensor | undefined): x is Tensor {
    return x !== undefined && this.tracked.has(x);
  }

  /** Whether a gradient is to be computed for a weight: always for a parameter. */
  wantsWeight(weight: Weight | undefined): boolean {
    return weight instanceof Parameter || this.wants(weight);
  }

  /** The gradient of a leaf after backward, handed to the scope around this call; undefined when nothing reached it. */
  gradient(leaf: Tensor): Tensor | undefined {
    const into = this.leaves.get(leaf);
    if (into) return into.filled ? into.tensor : undefined;
    const buffer = this.buffers.get(leaf);
    if (!buffer?.filled) return undefined;
    this.buffers.delete(leaf);
    if (buffer.owned) track(buffer.tensor);
    return buffer.tensor;
  }

  /** Keeps x for the backward pass. */
  save(x: Tensor): Saved {
    return this.recipes.get(x)?.save() ?? new Held(x);
  }

  record(
    output: Tensor,
    saved: readonly Saved[],
    backward: (upstream: Upstream) => void,
    options: RecordOptions = {},
  ): void {
    this.tracked.add(output);
    this.entries.push({ output, saved, backward });
    if (options.recompute) this.recipes.set(output, new Recipe(options.recompute));
  }

  /** Where to sum x's gradient: an existing buffer (add) or a new one of this dtype (store). */
  sink(x: Tensor, dtype: DType = x.dtype): GradientBuffer {
    const existing = this.existing(x);
    if (existing) return existing;
    const tensor = detach(empty(x.shape, { dtype, device: x.device, tag: "activation" }));
    const buffer = { tensor, filled: false, owned: true };
    this.buffers.set(x, buffer);
    return buffer;
  }

  /** Where to sum a weight's gradient. */
  weightSink(weight: Weight): GradientBuffer {
    return weight instanceof Parameter ? weight : this.sink(weight, sumDType(weight.dtype));
  }

  /** Adds `contribution`, which this call takes over, to x's gradient. */
  give(x: Tensor, contribution: Tensor): void {
    const existing = this.existing(x);
    if (!existing) {
      this.buffers.set(x, { tensor: detach(contribution), filled: true, owned: true });
      return;
    }
    if (existing.filled) native().accumulate(contribution.handle, 1, existing.tensor.handle);
    else native().cast(contribution.handle, existing.tensor.handle);
    existing.filled = true;
    contribution.dispose();
  }

  /**
   * Sums gradients backward from these outputs, given the gradient arriving at each. Frees what was saved as it goes, so
   * it runs once, unless the graph is retained for another call, which adds to the same gradients.
   */
  backward(
    seeds: readonly (readonly [output: Tensor, gradient: Tensor])[],
    { retainGraph = false }: { retainGraph?: boolean } = {},
  ): void {
    if (this.ran) {
      const wanted = "a tape that has not run backward, or one whose graph was retained";
      throw new ForetokenError("BAD_ARGUMENT", { op: "tape", argument: "backward", wanted, got: "a second call" });
    }
    this.ran = !retainGraph;
    for (const [output, gradient] of seeds) {
      if (this.existing(output)) this.give(output, gradient.view(gradient.shape));
      else this.buffers.set(output, { tensor: gradient, filled: true, owned: false });
    }
    untaped(() => {
      if (retainGraph) for (const entry of [...this.entries].reverse()) this.backwardEntry(entry);
      else for (let entry = this.entries.pop(); entry; entry = this.entries.pop()) this.backwardLast(entry);
    });
  }

  /** Frees what is saved and every gradient that is not handed out. */
  dispose(): void {
    for (const entry of this.entries) for (const saved of entry.saved) saved.release();
    this.entries.length = 0;
    for (const buffer of this.buffers.values()) if (buffer.owned) buffer.tensor.dispose();
    this.buffers.clear();
    this.recipes.clear();
  }

  /** x's buffer, ready to be added to: a seed that the caller owns is copied first. */
  private existing(x: Tensor): GradientBuffer | undefined {
    const leaf = this.leaves.get(x);
    if (leaf) return leaf;
    const buffer = this.buffers.get(x);
    if (!buffer || buffer.owned) return buffer;
    const copy = { tensor: detach(copyOf(buffer.tensor)), filled: true, owned: true };
    this.buffers.set(x, copy);
    return copy;
  }

  private backwardLast(entry: Entry): void {
    try {
      this.backwardEntry(entry);
    } finally {
      for (const tensor of entry.saved) tensor.release();
      this.recipes.delete(entry.output);
    }
  }

  private backwardEntry({ output, backward }: Entry): void {
    const buffer = this.buffers.get(output);
    if (!buffer?.filled) return;
    this.buffers.delete(output);
    let taken = false;
    const take = (): Tensor => {
      if (!buffer.owned) return copyOf(buffer.tensor);
      taken = true;
      track(buffer.tensor); // freed with the scope below unless it is given on
      return buffer.tensor;
    };
    try {
      scope(() => {
        backward({ tensor: buffer.tensor, take });
      });
    } finally {
      if (buffer.owned && !taken) buffer.tensor.dispose();
    }
  }
}

/** A tensor of its own with x's values. */
export function copyOf(x: Tensor): Tensor {
  const copy = empty(x.shape, { dtype: x.dtype, device: x.device, tag: "activation" });
  native().cast(x.handle, copy.handle);
  return copy;
}

/**
 * Runs fn with a fresh tape and gives the tape's memory back afterwards.
 *
 * @example
 * tape((t) => {
 *   const x = t.leaf(input);
 *   const loss = linearCrossEntropy(mlp(x), unembedding, targets);
 *   t.backward([[loss, ones]]);
 *   return t.gradient(x);
 * });
 */
export function tape<T>(fn: (tape: Tape) => T): T {
  const fresh = new Tape();
  try {
    return fresh.run(() => fn(fresh));
  } finally {
    fresh.dispose();
  }
}

/**
 * fn(x), keeping only x for the backward pass, which runs fn again. fn depends on nothing that wants a gradient but x
 * and parameters. (arXiv 1604.06174)
 */
export function checkpoint(fn: (x: Tensor) => Tensor, x: Tensor): Tensor {
  const outer = activeTape();
  if (!outer) return fn(x);
  const y = untaped(() => scope(() => fn(x)));
  const saved = outer.save(x);
  outer.record(y, [saved], (dy) => {
    tape((inner) => {
      const leaf = inner.leaf(saved.tensor, outer.wants(x) ? outer.sink(x, sumDType(x.dtype)) : undefined);
      inner.backward([[fn(leaf), dy.tensor]]);
    });
  });
  return y;
}
