// Where does a training step spend its time? Every kernel call waits for its end (FORETOKEN_SYNC=1) and is timed from
// TypeScript, by slot and by the shapes of its tensors; what an empty kernel takes so is taken off each call.
import { performance } from "node:perf_hooks";
import { openDevice, type Device } from "../lib/device.js";
import { native, type Handle } from "../lib/native.js";
import { zeros } from "../lib/tensor.js";
import { waitingForEachKernel } from "./env.js";
import type { Finding } from "./report.js";
import { OurTraining, randomBatch, type ComputeDType, type Job } from "./workload.js";

type Entry = (...args: readonly unknown[]) => unknown;

const makers = ["allocate", "allocatePacked", "view"];
/** Entries of the addon that enqueue nothing, or are not kernels. */
const runtime = [
  ...["setErrorFactory", "declarations", "machine", "openDevice", "closeDevice", "deviceInfo", "memory", "resetPeak"],
  ...["sync", "free", "write", "read", "beginRecord", "endRecord", "replay", "freeRecording", ...makers],
];

export interface SlotTime {
  readonly slot: string;
  /** Of the tensors, in the order of the slot's arguments. */
  readonly shapes: string;
  calls: number;
  /** Of all calls together. */
  ms: number;
  /** The shortest call. */
  best: number;
}

/** Stands between TypeScript and the addon, from construction until it is disposed. */
export class Trace implements Disposable {
  private readonly times = new Map<string, SlotTime>();
  private readonly shapes = new Map<Handle, string>();
  private readonly addon = native() as unknown as Record<string, Entry>;
  private readonly original = new Map<string, Entry>();

  constructor() {
    for (const name of makers)
      this.replace(
        name,
        (call) =>
          (...args) =>
            this.made(name, args, call(...args) as Handle),
      );
    for (const [name, entry] of Object.entries(this.addon)) {
      if (typeof entry === "function" && !runtime.includes(name)) this.replace(name, (call) => this.timed(name, call));
    }
  }

  private replace(name: string, wrap: (call: Entry) => Entry): void {
    const call = this.addon[name];
    if (!call) throw new Error(`the addon has no ${name}`);
    this.original.set(name, call);
    this.addon[name] = wrap(call);
  }

  /** The shape is what follows the fixed arguments of the three calls that make a handle. */
  private made(name: string, args: readonly unknown[], handle: Handle): Handle {
    this.shapes.set(handle, args.slice(name === "view" ? 2 : 3).join("×"));
    return handle;
  }

  private timed(slot: string, call: Entry): Entry {
    return (...args) => {
      const shapes = this.shapesOf(args);
      const began = performance.now();
      const result = call(...args);
      const took = performance.now() - began;
      const key = `${slot} ${shapes}`;
      const sum = this.times.get(key) ?? { slot, shapes, calls: 0, ms: 0, best: Infinity };
      sum.calls++;
      sum.best = Math.min(sum.best, took);
      sum.ms += took;
      this.times.set(key, sum);
      return result;
    };
  }

  /** Of the leading arguments that are tensors; 0 stands for one that is absent. */
  private shapesOf(args: readonly unknown[]): string {
    const end = args.findIndex((each) => each !== 0 && !this.shapes.has(each as Handle));
    return args
      .slice(0, end < 0 ? args.length : end)
      .map((handle) => this.shapes.get(handle as Handle) ?? "–")
      .join(" ");
  }

  /** Forgets what was timed so far and hands it over, the longest first. */
  take(): SlotTime[] {
    const taken = [...this.times.values()].sort((a, b) => b.ms - a.ms);
    this.times.clear();
    return taken;
  }

  [Symbol.dispose](): void {
    for (const [name, entry] of this.original) this.addon[name] = entry;
  }
}

/** Calls of a step with their mean time (ms) and the time if every call were as short as the shortest of its shape. */
export async function* traceStep(job: Job, dtype: ComputeDType, steps: number): AsyncGenerator<Finding> {
  // The limit, never reached, makes it a device of its own.
  using device = waitingForEachKernel(() => openDevice("cpu", { memoryLimit: 2 ** 40 }));
  using trace = new Trace();
  using training = new OurTraining(job, dtype, device);
  for (let i = 0; i < 2; i++) await training.step(randomBatch(job, i));
  const empty = emptyKernelMs(trace, device);
  const began = performance.now();
  for (let i = 0; i < steps; i++) await training.step(randomBatch(job, i));
  const stepMs = (performance.now() - began) / steps;
  const times = trace.take().map(({ slot, shapes, calls, ms, best }) => ({
    slot,
    shapes,
    calls: calls / steps,
    ms: (ms - empty.ms * calls) / steps,
    best: Math.max(0, best - empty.best) * (calls / steps),
  }));
  const title = `${job.name}, ${dtype}, ${device.simd}: ${stepMs.toFixed(1)} ms with a wait after each kernel`;
  yield { title: `By slot; ${title}`, rows: withShares(bySlot(times)) };
  yield { title: "By slot and shapes", rows: withShares(times) };
}

function withShares<Time extends { ms: number; best: number }>(times: readonly Time[]): (Time & { share: string })[] {
  const total = times.reduce((sum, { best }) => sum + best, 0);
  return [...times]
    .sort((a, b) => b.best - a.best)
    .map((time) => ({ ...time, share: `${((100 * time.best) / total).toFixed(1)} %` }));
}

function bySlot(times: readonly SlotTime[]): Omit<SlotTime, "shapes">[] {
  const sums = new Map<string, Omit<SlotTime, "shapes">>();
  for (const { slot, calls, ms, best } of times) {
    const sum = sums.get(slot) ?? { slot, calls: 0, ms: 0, best: 0 };
    sums.set(slot, { slot, calls: sum.calls + calls, ms: sum.ms + ms, best: sum.best + best });
  }
  return [...sums.values()];
}

/** What enqueueing, waking and waiting take of a call, in ms: mean and least. */
function emptyKernelMs(trace: Trace, device: Device): { ms: number; best: number } {
  const one = zeros([1], { device });
  trace.take();
  for (let i = 0; i < 300; i++) native().fill(one.handle, 0);
  const [{ ms, calls, best } = { ms: 0, calls: 1, best: 0 }] = trace.take();
  one.dispose();
  return { ms: ms / calls, best };
}
