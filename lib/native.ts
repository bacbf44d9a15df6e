// Finds and loads the addon, and says what to do when it cannot. Types the part of it that is not a kernel.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { environment } from "./env.js";
import { type ErrorCode, ForetokenError } from "./errors.js";
import type { Handle, Kernels } from "./native.generated.js";

export type { Handle } from "./native.generated.js";

/** What the processor offers and which SIMD level is chosen on it. */
export interface Machine {
  readonly vendor: string;
  readonly model: string;
  /** Levels that this processor can run, slowest first. */
  readonly levels: readonly string[];
  /** Levels among them that no full test pass has been recorded for: only taken when asked for. */
  readonly unrecorded: readonly string[];
  readonly defaultLevel: string;
  readonly reason: string;
  readonly threads: number;
}

/** A GPU that this process sees. */
export interface GpuInfo {
  readonly index: number;
  readonly name: string;
  /** Compute capability, "9.0". */
  readonly capability: string;
  readonly multiprocessors: number;
  /** Bytes. */
  readonly memory: number;
  /** Of the kernels that run on it, "sm_80" or "sm_90"; "" when it is too old for any. */
  readonly level: string;
}

/** What there is to compute on beside the CPU. */
export interface GpuReport {
  /** Whether this build has the CUDA backend. */
  readonly built: boolean;
  /** CUDA versions, 13000 for 13.0: the newest that the driver has (0: there is no driver), and the one built with. */
  readonly driver: number;
  readonly runtime: number;
  readonly gpus: readonly GpuInfo[];
  /** Why none of them can be used, and what to do; "" when one can. */
  readonly problem: string;
  readonly remedy: string;
  /** Whether this machine looks as if a GPU was meant to work. */
  readonly expected: boolean;
}

export interface DeviceInfo {
  readonly kind: "cpu" | "cuda" | "dry";
  readonly name: string;
  readonly level: string;
  readonly threads: number;
  readonly multiprocessors: number;
  readonly index: number;
}

type Typed = ArrayBufferView<ArrayBufferLike>;

interface Runtime {
  /** Element types and ledger tags, in the order of their indices. */
  readonly dtypes: readonly string[];
  readonly tags: readonly string[];
  setErrorFactory(
    make: (
      code: ErrorCode,
      op: string,
      argument: string,
      text: string,
      wanted: string,
      got: string,
      remedy: string,
    ) => Error,
  ): void;
  machine(): Machine;
  gpus(): GpuReport;
  declarations(): string;

  openDevice(kind: "cpu", level?: string, memoryLimit?: number): number;
  openDevice(kind: "cuda", index: number, memoryLimit?: number): number;
  openDevice(kind: "dry", level?: string, memoryLimit?: number, multiprocessors?: number): number;
  closeDevice(device: number): void;
  deviceInfo(device: number): DeviceInfo;
  /** live, peak, requested, reserved, then live and peak of each tag. */
  memory(device: number): number[];
  resetPeak(device: number): void;
  sync(device: number): Promise<void>;

  allocate(device: number, dtype: number, tag: number, ...shape: readonly number[]): Handle;
  allocatePacked(device: number, dtype: number, tag: number, n: number, k: number): Handle;
  view(of: Handle, offset: number, ...shape: readonly number[]): Handle;
  reinterpret(of: Handle, dtype: number, ...shape: readonly number[]): Handle;
  free(tensor: Handle): void;
  write(tensor: Handle, data: Typed, offset: number): void;
  read(tensor: Handle): Promise<ArrayBuffer>;

  beginRecord(device: number): void;
  endRecord(device: number): number;
  abandonRecord(device: number): void;
  replay(device: number, recording: number, times: number): void;
  combine(device: number, choices: Uint32Array, index: Handle, after: Uint32Array): number;
  freeRecording(device: number, recording: number): void;
}

export type Native = Runtime & Kernels;

let loaded: Native | undefined;

/** The addon: its kernels (`native().rmsNorm(x.handle, …)`) and its runtime. Throws NO_ADDON when it cannot be loaded. */
export function native(): Native {
  return (loaded ??= load());
}

/** Runs fn, with `after` behind every call of the addon in it: for looking at what a training step does. */
export function observed<T>(fn: () => T, after: (call: string) => void): T {
  const plain = native();
  const wrapped =
    (call: string, target: (...given: unknown[]) => unknown) =>
    (...given: unknown[]) => {
      const result = target(...given);
      loaded = plain; // `after` may call the addon too
      try {
        after(call);
      } finally {
        loaded = observing;
      }
      return result;
    };
  const observing = new Proxy(plain, {
    get: (addon, call) => {
      const target: unknown = Reflect.get(addon, call);
      return typeof target === "function" && typeof call === "string"
        ? wrapped(call, target as (...given: unknown[]) => unknown)
        : target;
    },
  });
  loaded = observing;
  try {
    return fn();
  } finally {
    loaded = plain;
  }
}

function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json")) && dirname(folder) !== folder) folder = dirname(folder);
  return folder;
}

function load(): Native {
  const require = createRequire(import.meta.url);
  const root = packageRoot();
  let addon: Native;
  try {
    if (environment.addon) addon = require(environment.addon) as Native;
    else addon = (require("node-gyp-build") as (folder: string) => Native)(root);
  } catch (cause) {
    throw new ForetokenError("NO_ADDON", explain(root, cause), { cause });
  }
  addon.setErrorFactory(
    (code, op, argument, text, wanted, got, remedy) =>
      new ForetokenError(code, text, {
        op: op || undefined,
        argument: argument || undefined,
        wanted: wanted || undefined,
        got: got || undefined,
        remedy: remedy || undefined,
      }),
  );
  return addon;
}

function explain(root: string, cause: unknown): string {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const here = `${process.platform}-${process.arch}, Node ${process.versions.node}`;
  return [
    `the native addon of foretoken could not be loaded on ${here}: ${reason.split("\n")[0] ?? ""}`,
    "Possible causes and what to do:",
    `  - it is not built yet (a clone of the repository): run "npm run build:native" in ${root}; needs a C++20 compiler`,
    "  - the package carries no binary for this platform: Linux on x64 with glibc 2.34 or newer has one",
    `  - the installation is incomplete: remove ${join(root, "node_modules")} and install again`,
  ].join("\n");
}
