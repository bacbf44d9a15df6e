// Tensors: an integer handle with a shape, a dtype and a device. Values live on the native side.
import { fromBf16, toBf16 } from "./bf16.js";
import { type DType, type Device, type Tag, dtypes, openDevice, tags } from "./device.js";
import { environment } from "./env.js";
import { ForetokenError, checkOptions, formatShape } from "./errors.js";
import { type Handle, native } from "./native.js";
import { track, untrack } from "./scope.js";

export type { DType } from "./device.js";

interface ArrayOf {
  f32: Float32Array<ArrayBuffer>;
  /** Bits: the upper half of a Float32. */
  bf16: Uint16Array<ArrayBuffer>;
  f64: Float64Array<ArrayBuffer>;
  i32: Int32Array<ArrayBuffer>;
  u8: Uint8Array<ArrayBuffer>;
}
/** The typed array that holds elements of a dtype as they are. */
export type DataOf<D extends DType> = ArrayOf[D];

const arrayOf = {
  f32: Float32Array,
  bf16: Uint16Array,
  f64: Float64Array,
  i32: Int32Array,
  u8: Uint8Array,
} as const satisfies { [D in DType]: new (buffer: ArrayBuffer) => DataOf<D> };

export type TypedData = Float32Array | Float64Array | Int32Array | Uint8Array | Uint16Array;
export type NestedNumbers = readonly (number | NestedNumbers)[];

/** "packed": a weight in the order that this device's `linear` reads fastest; only kernels can read it. */
export type Layout = "row_major" | "packed";

function sizeOf(shape: readonly number[]): number {
  let size = 1;
  for (const dimension of shape) size *= dimension;
  return size;
}

// Bytes of any dtype are exact in a number, and products of any dimensions in the native side's 64 bits.
function checkShape(op: string, shape: readonly number[]): void {
  const whole = shape.every((dimension) => Number.isSafeInteger(dimension) && dimension >= 0);
  const elements = sizeOf(shape.map((dimension) => Math.max(dimension, 1)));
  if (shape.length <= 4 && whole && Number.isSafeInteger(elements * 8)) return;
  const wanted = "up to 4 whole numbers, 0 or more, with a product below 2^50";
  throw new ForetokenError("BAD_ARGUMENT", { op, argument: "shape", wanted, got: formatShape(shape) });
}

let warned = false;
// Alarm, not mechanism: tensors are disposed by hand, by `using`, or by a scope.
const leaks = new FinalizationRegistry<readonly [Device, string, readonly number[], Tag]>(
  ([device, dtype, shape, tag]) => {
    if (device.disposed || (warned && environment.debug === 0)) return;
    warned = true;
    process.emitWarning(`A tensor was garbage collected without dispose(); its memory stays taken.`, {
      type: "ForetokenLeak",
      detail:
        environment.debug > 0
          ? `${tag} ${dtype} ${formatShape(shape)}`
          : "Use scope(), `using` or dispose(). FORETOKEN_DEBUG=1 lists every such tensor.",
    });
  },
);

/** An array on a device. Made by {@link tensor}, {@link zeros}, {@link randn} and by ops; disposed explicitly. */
export class Tensor<D extends DType = DType> implements Disposable {
  readonly device: Device;
  readonly dtype: D;
  readonly shape: readonly number[];
  /** Number of elements. */
  readonly size: number;
  readonly layout: Layout;
  readonly #handle: Handle;
  #disposed = false;

  /** @internal */
  constructor(device: Device, dtype: D, shape: readonly number[], layout: Layout, handle: Handle, tag: Tag) {
    this.device = device;
    this.dtype = dtype;
    this.shape = shape;
    this.size = sizeOf(shape);
    this.layout = layout;
    this.#handle = handle;
    leaks.register(this, [device, dtype, shape, tag], this);
    track(this);
  }

  /** What kernels take. Using one after dispose() is a DISPOSED error. */
  get handle(): Handle {
    return this.#handle;
  }

  get disposed(): boolean {
    return this.#disposed || this.device.disposed;
  }

  /** A tensor of its own lifetime on the same memory, from element `offset` on. Row-major tensors only. */
  view(shape: readonly number[], offset = 0): Tensor<D> {
    checkShape("view", shape);
    const handle = native().view(this.handle, offset, ...shape);
    return new Tensor(this.device, this.dtype, [...shape], "row_major", handle, "other");
  }

  /** As `view`, of all of the memory, its bits read as another dtype's. */
  viewAs<E extends DType>(dtype: E, shape: readonly number[]): Tensor<E> {
    checkShape("viewAs", shape);
    checkDtype("viewAs", dtype);
    const handle = native().reinterpret(this.handle, dtypeIndex[dtype], ...shape);
    return new Tensor(this.device, dtype, [...shape], "row_major", handle, "other");
  }

  /** The elements as they are stored, after all ops enqueued so far. */
  async data(): Promise<DataOf<D>> {
    const buffer = await native().read(this.handle);
    const make: new (buffer: ArrayBuffer) => TypedData = arrayOf[this.dtype];
    return new make(buffer) as DataOf<D>;
  }

  /** The elements as numbers that JavaScript can compute with: bf16 widened to Float32, others as they are. */
  async toFloats(): Promise<Exclude<DataOf<DType>, Uint16Array>> {
    const data: DataOf<DType> = await this.data();
    return data instanceof Uint16Array ? fromBf16(data) : data;
  }

  /** The one element of a tensor of size 1. */
  async item(): Promise<number> {
    if (this.size !== 1) {
      const details = { op: "item", argument: "tensor", wanted: "one element", got: formatShape(this.shape) };
      throw new ForetokenError("SHAPE_MISMATCH", details);
    }
    return (await this.toFloats())[0] ?? NaN;
  }

  /** Copies `data` in, from element `offset` on; `data` may change as soon as this returns. */
  write(data: TypedData | readonly number[], offset = 0): void {
    native().write(this.handle, elements(data, this.dtype), offset);
  }

  /** Frees the memory for what is enqueued from now on. Calling it again does nothing. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    leaks.unregister(this);
    untrack(this);
    if (!this.device.disposed) native().free(this.#handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

// The values as elements of dtype: same-typed arrays pass through; numbers are rounded, Uint16Array is bf16 bits.
function elements(data: TypedData | readonly number[], dtype: DType): TypedData {
  const wanted = arrayOf[dtype];
  if (data instanceof wanted) return data;
  if (dtype === "bf16") return toBf16(data instanceof Float32Array ? data : Float32Array.from(data));
  if (data instanceof Uint16Array) {
    throw new ForetokenError("DTYPE_MISMATCH", { op: "write", argument: "data", wanted: dtype, got: "bf16 bits" });
  }
  return wanted.from(data);
}

function naturalDtype(data: TypedData | NestedNumbers | number): DType {
  for (const dtype of dtypes) if (data instanceof arrayOf[dtype]) return dtype;
  return "f32";
}

function isTyped(data: TypedData | NestedNumbers | number): data is TypedData {
  return ArrayBuffer.isView(data);
}

function naturalShape(data: TypedData | NestedNumbers | number): number[] {
  if (typeof data === "number") return [];
  if (isTyped(data)) return [data.length];
  const first = data[0];
  const inner = first === undefined || typeof first === "number" ? [] : naturalShape(first);
  for (const row of data) {
    const got = typeof row === "number" ? [] : naturalShape(row);
    if (got.join() === inner.join()) continue;
    const details = { op: "tensor", argument: "data", wanted: `rows of shape ${formatShape(inner)}` };
    throw new ForetokenError("SHAPE_MISMATCH", { ...details, got: formatShape(got) });
  }
  return [data.length, ...inner];
}

function flatten(data: TypedData | NestedNumbers | number): TypedData | number[] {
  if (typeof data === "number") return [data];
  return isTyped(data) ? data : ((data as unknown[]).flat(Infinity) as number[]);
}

export interface TensorOptions<D extends DType = DType> {
  dtype?: D | undefined;
  /** Default: {@link openDevice}(). */
  device?: Device | undefined;
  /** What the ledger counts it as. */
  tag?: Tag | undefined;
}

const dtypeIndex = Object.fromEntries(dtypes.map((name, i) => [name, i])) as Record<DType, number>;
const tagIndex = Object.fromEntries(tags.map((name, i) => [name, i])) as Record<Tag, number>;

function checkDtype(op: string, dtype: DType): void {
  if (dtypes.includes(dtype)) return;
  throw new ForetokenError("BAD_ARGUMENT", { op, argument: "dtype", wanted: dtypes.join(", "), got: String(dtype) });
}

/** A tensor of undefined contents. */
export function empty<D extends DType>(
  shape: readonly number[],
  { dtype, device = openDevice(), tag = "activation" }: TensorOptions<D> & { dtype: D },
): Tensor<D> {
  checkShape("empty", shape);
  checkDtype("empty", dtype);
  const handle = native().allocate(device.id, dtypeIndex[dtype], tagIndex[tag], ...shape);
  return new Tensor(device, dtype, [...shape], "row_major", handle, tag);
}

/** Room for a weight (N,K) in the order of `pack_weight`; undefined contents. */
export function emptyPacked<D extends DType>(
  n: number,
  k: number,
  { dtype, device = openDevice(), tag = "parameter" }: TensorOptions<D> & { dtype: D },
): Tensor<D> {
  checkShape("emptyPacked", [n, k]);
  checkDtype("emptyPacked", dtype);
  const handle = native().allocatePacked(device.id, dtypeIndex[dtype], tagIndex[tag], n, k);
  return new Tensor(device, dtype, [n, k], "packed", handle, tag);
}

/**
 * A tensor with these values. The shape is that of the nested arrays, or as given; the dtype is that of a typed array,
 * else f32. Numbers are rounded to bf16 where that is asked for; a Uint16Array holds bf16 bits.
 *
 * @example
 * tensor([[1, 2], [3, 4]], { dtype: "bf16" });
 * tensor(new Int32Array(8), { shape: [2, 4] });
 */
export function tensor<D extends DType = "f32">(
  data: NestedNumbers | number | TypedData,
  options?: TensorOptions<D> & { shape?: readonly number[] | undefined },
): Tensor<D>;
export function tensor(
  data: TypedData | NestedNumbers | number,
  options: TensorOptions & { shape?: readonly number[] | undefined } = {},
): Tensor {
  checkOptions("tensor", options, ["dtype", "device", "tag", "shape"]);
  const { dtype = naturalDtype(data), device = openDevice(), tag = "data", shape = naturalShape(data) } = options;
  const values = elements(flatten(data), dtype);
  if (values.length !== sizeOf(shape)) {
    const details = { op: "tensor", argument: "data", wanted: `${sizeOf(shape)} elements for ${formatShape(shape)}` };
    throw new ForetokenError("SHAPE_MISMATCH", { ...details, got: String(values.length) });
  }
  const made = empty(shape, { dtype, device, tag });
  if (made.size > 0) made.write(values);
  return made;
}

/** f32 zeros, unless another dtype is asked for. */
export function zeros<D extends DType = "f32">(shape: readonly number[], options: TensorOptions<D> = {}): Tensor<D> {
  checkOptions("zeros", options, ["dtype", "device", "tag"]);
  const { dtype = "f32" as D, device = openDevice(), tag = "other" } = options;
  const made = empty(shape, { dtype, device, tag });
  if (made.size > 0) native().fill(made.handle, 0);
  return made;
}

export interface RandnOptions<D extends DType = DType> extends TensorOptions<D> {
  seed: number;
  /** Tensors of one seed and different streams are independent. Default 0. */
  stream?: number | undefined;
  mean?: number | undefined;
  std?: number | undefined;
}

/** Normal numbers: element i is a function of (seed, stream, i), equal on every device and number of threads. */
export function randn<D extends DType = "f32">(shape: readonly number[], options: RandnOptions<D>): Tensor<D> {
  checkOptions("randn", options, ["dtype", "device", "tag", "seed", "stream", "mean", "std"]);
  const { dtype = "f32" as D, device = openDevice(), tag = "other", seed, stream = 0, mean = 0, std = 1 } = options;
  const made = empty(shape, { dtype, device, tag });
  if (made.size > 0) native().randomNormal(made.handle, mean, std, seed, stream);
  return made;
}
