// Devices: where tensors live and ops run. Each has one stream (per thread of JavaScript) and an exact ledger of bytes.
import { environment } from "./env.js";
import { ForetokenError, checkOptions } from "./errors.js";
import { native } from "./native.js";
import type { Tensor } from "./tensor.js";

export type DeviceKind = "cpu" | "cuda" | "dry";

/** Element types, in the order of the native table. */
export const dtypes = ["f32", "bf16", "f64", "i32", "u8"] as const;
export type DType = (typeof dtypes)[number];

/** What a tensor is for: the ledger counts bytes by it. */
export const tags = [
  "parameter",
  "gradient",
  "optimizer",
  "activation",
  "workspace",
  "cache",
  "data",
  "recording",
  "other",
] as const;
export type Tag = (typeof tags)[number];

/** Bytes on a device: of the blocks that are alive now, and at the most since the start or {@link Device.resetPeak}. */
export interface Memory {
  readonly live: number;
  readonly peak: number;
  /** Bytes asked for by the live blocks, before rounding each up to 64. */
  readonly requested: number;
  /** Bytes held from the system: the pages that were handed out at some time and not given back. */
  readonly reserved: number;
  readonly byTag: Readonly<Record<Tag, { readonly live: number; readonly peak: number }>>;
}

/** Whose kernels a dry device stands for: a {@link Device} is one. */
export interface DeviceModel {
  readonly simd: string;
  readonly multiprocessors: number;
}

export interface DeviceOptions {
  /** SIMD level of the CPU: "generic", "avx2", "avx512", "avx512bf16", "amx". Default: by vendor and flags. */
  simd?: string | undefined;
  /** Which GPU, among those that the process sees. Default 0. */
  index?: number | undefined;
  /**
   * Bytes that may be live; going over is OUT_OF_MEMORY. Default: the machine's memory; of a GPU what is free on it, less
   * a margin; "dry": no limit.
   */
  memoryLimit?: number | undefined;
  /**
   * For "dry": what it stands for. A device, or "cuda": this machine's GPU, or where there is none an H100. Default: the
   * CPU at level `simd`.
   */
  like?: "cuda" | DeviceModel | undefined;
}

/** Ops enqueued by one call of a function, to be enqueued again by one native call. */
export class Recording implements Disposable {
  readonly device: Device;
  readonly #id: number;
  /** What has to be there when it is replayed. */
  readonly #needs: readonly { readonly disposed: boolean }[];
  #disposed = false;

  /** @internal */
  constructor(device: Device, id: number, needs: readonly { readonly disposed: boolean }[] = []) {
    this.device = device;
    this.#id = id;
    this.#needs = needs;
  }

  /**
   * A recording that replays one of several, then others: of `choices` the one whose place index[0] (i32) says when the
   * device gets there, the first or the last beyond the ends. A GPU has to be given what it runs before it can know, and runs
   * the last: that one must do whatever the index. It cannot be replayed any more when one of them has been disposed. Not
   * while the device records. Throws BAD_ARGUMENT without choices, DISPOSED, WRONG_DEVICE, DTYPE_MISMATCH for another index.
   */
  static combine(choices: readonly Recording[], index: Tensor, after: readonly Recording[] = []): Recording {
    const [first] = choices;
    const parts = [...choices, ...after];
    const details = { op: "combine", argument: "choices" };
    if (!first) throw new ForetokenError("BAD_ARGUMENT", { ...details, wanted: "at least one", got: "none" });
    const { device } = first;
    if (parts.some(({ disposed }) => disposed)) {
      throw new ForetokenError("DISPOSED", "a recording was disposed", details);
    }
    if (parts.some((each) => each.device !== device) || index.device !== device) {
      throw new ForetokenError("WRONG_DEVICE", "they are on several devices", details);
    }
    if (index.dtype !== "i32" || index.size < 1) {
      const got = `${index.size} of ${index.dtype}`;
      throw new ForetokenError("DTYPE_MISMATCH", { op: "combine", argument: "index", wanted: "i32", got });
    }
    const ids = (recordings: readonly Recording[]): Uint32Array => Uint32Array.from(recordings, (each) => each.#id);
    return new Recording(device, native().combine(device.id, ids(choices), index.handle, ids(after)), [
      index,
      ...parts,
    ]);
  }

  get disposed(): boolean {
    return this.#disposed || this.device.disposed;
  }

  /** Enqueues the recorded ops once more, or so many times more, on the same tensors. Not while the device records. */
  replay(times = 1): void {
    if (this.#disposed || this.#needs.some(({ disposed }) => disposed)) {
      throw new ForetokenError("DISPOSED", "the recording was disposed, or what it replays", { op: "replay" });
    }
    native().replay(this.device.id, this.#id, times);
  }

  /** Gives back the recording's memory: what its tensors hold is undefined from then on. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (!this.device.disposed) native().freeRecording(this.device.id, this.#id);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Open one with {@link openDevice}. */
export class Device implements Disposable {
  /** @internal */
  readonly id: number;
  /** "cpu" and "cuda" compute; "dry" only keeps the ledger: it allocates and computes nothing and reads back zeros. */
  readonly kind: DeviceKind;
  /** For people: the processor's name. */
  readonly name: string;
  /** Level of the kernels in use: the CPU's SIMD level, or the GPU's architecture, "sm_80" or "sm_90". */
  readonly simd: string;
  /** Of the CPU that compute; 1 on a GPU, which one thread feeds. */
  readonly threads: number;
  /** Of the GPU; 0 on a CPU. */
  readonly multiprocessors: number;
  /** Which GPU. */
  readonly index: number;
  #disposed = false;

  /** @internal */
  constructor(id: number) {
    const info = native().deviceInfo(id);
    this.id = id;
    this.kind = info.kind;
    this.name = info.name;
    this.simd = info.level;
    this.threads = info.threads;
    this.multiprocessors = info.multiprocessors;
    this.index = info.index;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  memory(): Memory {
    this.#check("memory");
    const [live = 0, peak = 0, requested = 0, reserved = 0, ...perTag] = native().memory(this.id);
    const byTag = Object.fromEntries(
      tags.map((tag, i) => [tag, { live: perTag[2 * i] ?? 0, peak: perTag[2 * i + 1] ?? 0 }]),
    ) as Record<Tag, { live: number; peak: number }>;
    return { live, peak, requested, reserved, byTag };
  }

  /** Peaks start again from what is live now. */
  resetPeak(): void {
    this.#check("resetPeak");
    native().resetPeak(this.id);
  }

  /** Resolves when all that was enqueued before has run; rejects with the first failure among it. */
  async sync(): Promise<void> {
    this.#check("sync");
    await native().sync(this.id);
  }

  /**
   * Records the ops that `fn` enqueues, without running them. Shapes, plain numbers and the bytes of writes made inside
   * `fn` are fixed: each replay repeats them. What changes from step to step is written outside, before the replay.
   *
   * `fn` is synchronous (else ASYNC_SCOPE) and neither reads, records nor replays (BAD_ARGUMENT). When it fails, what was
   * recorded is gone.
   *
   * @example
   * using step = device.record(() => trainingStep(model, batch));
   * for (const tokens of batches) { batch.write(tokens); step.replay(); }
   */
  record(fn: () => void): Recording {
    this.#check("record");
    native().beginRecord(this.id);
    try {
      const result: unknown = fn();
      refusePromise(result);
    } catch (failure) {
      if (!this.disposed) native().abandonRecord(this.id);
      throw failure;
    }
    return new Recording(this, native().endRecord(this.id));
  }

  /** Ends the stream, skipping what is queued, and frees all memory; its tensors are disposed with it. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const [key, device] of shared) if (device === this) shared.delete(key);
    native().closeDevice(this.id);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #check(op: string): void {
    if (this.#disposed) throw new ForetokenError("DISPOSED", "the device was disposed", { op, argument: "device" });
  }
}

function refusePromise(result: unknown): void {
  if (typeof result !== "object" || result === null || !("then" in result) || typeof result.then !== "function") return;
  Promise.resolve(result).catch(() => {}); // the recording is about to go: the failure that matters is ours
  throw new ForetokenError("ASYNC_SCOPE", "the function returned a promise", {
    op: "record",
    remedy: "Await outside of record(): ops only enqueue, nothing inside needs await.",
  });
}

const shared = new Map<string, Device>();

function sharedDevice(key: readonly unknown[], open: () => number): Device {
  const name = JSON.stringify(key);
  let device = shared.get(name);
  if (!device) shared.set(name, (device = new Device(open())));
  return device;
}

/**
 * "auto": a GPU if one works, else the CPU; with `simd` the CPU, with `index` that GPU. FORETOKEN_DEVICE makes it take
 * "cpu" or "cuda". Equal options give the same device; "dry" gives a new one, with an empty ledger, each time.
 *
 * @example
 * const device = openDevice();
 * const prediction = openDevice("dry", { like: device }); // the same code on it tells the peak in bytes beforehand
 */
export function openDevice(kind: "auto" | DeviceKind = "auto", options: DeviceOptions = {}): Device {
  checkOptions("openDevice", options, ["simd", "index", "memoryLimit", "like"]);
  const { simd, index = 0, memoryLimit, like } = options;
  if (memoryLimit !== undefined && !(Number.isSafeInteger(memoryLimit) && memoryLimit > 0)) {
    throw badOption("memoryLimit", "bytes, above 0", String(memoryLimit));
  }
  if (!(Number.isSafeInteger(index) && index >= 0)) {
    throw badOption("index", "a GPU's number, 0 or more", String(index));
  }
  switch (kind) {
    case "auto":
      return automatic(options);
    case "cpu":
      return sharedDevice([kind, simd, memoryLimit], () => native().openDevice("cpu", simd, memoryLimit));
    case "cuda":
      return sharedDevice([kind, index, memoryLimit], () => native().openDevice("cuda", index, memoryLimit));
    case "dry": {
      const model = like === "cuda" ? usualGpu() : (like ?? { simd, multiprocessors: 0 });
      return new Device(native().openDevice("dry", model.simd, memoryLimit, model.multiprocessors));
    }
    default:
      throw new ForetokenError("NO_DEVICE", {
        op: "openDevice",
        wanted: '"auto", "cpu", "cuda" or "dry"',
        got: JSON.stringify(kind satisfies never),
      });
  }
}

function badOption(argument: string, wanted: string, got: string): ForetokenError {
  return new ForetokenError("BAD_ARGUMENT", { op: "openDevice", argument, wanted, got });
}

function usualGpu(): DeviceModel {
  const gpu = native()
    .gpus()
    .gpus.find(({ level }) => level !== "");
  return { simd: gpu?.level ?? "sm_90", multiprocessors: gpu?.multiprocessors ?? 0 }; // 0: as many as an H100 has
}

let chosen: "cpu" | "cuda" | undefined;

function automatic({ simd, index, memoryLimit }: DeviceOptions): Device {
  chosen ??= forced();
  if (chosen === "cpu" || simd !== undefined) return openDevice("cpu", { simd, memoryLimit });
  if (chosen === "cuda" || index !== undefined) return openDevice("cuda", { index, memoryLimit });
  const { problem, remedy, expected } = native().gpus();
  if (problem !== "") {
    if (expected) warnOfCpu(problem, remedy);
    chosen = "cpu";
    return openDevice("cpu", { memoryLimit });
  }
  try {
    const device = openDevice("cuda", { memoryLimit });
    chosen = "cuda";
    return device;
  } catch (failure) {
    if (!(failure instanceof ForetokenError)) throw failure;
    warnOfCpu(failure.message, "");
    chosen = "cpu";
    return openDevice("cpu", { memoryLimit });
  }
}

function forced(): "cpu" | "cuda" | undefined {
  const { device } = environment;
  if (device === undefined || device === "cpu" || device === "cuda") return device;
  const details = { op: "openDevice", argument: "FORETOKEN_DEVICE", wanted: '"cpu" or "cuda"', got: device };
  throw new ForetokenError("NO_DEVICE", details);
}

/** Once: what was chosen stays chosen. */
function warnOfCpu(problem: string, remedy: string): void {
  process.emitWarning(`No GPU is used: ${problem}.`, {
    type: "ForetokenDevice",
    detail: `${remedy} FORETOKEN_DEVICE=cpu says that the CPU is meant.`.trim(),
  });
}
