// Where does a training step spend its time? Every kernel call waits for its end (FORETOKEN_SYNC=1) and is timed from
// TypeScript, by slot and by the shapes of its tensors; what an empty kernel takes so is taken off each call.
import { performance } from "node:perf_hooks";
import { openDevice } from "../lib/device.js";
import { native, type Handle } from "../lib/native.js";
import { zeros } from "../lib/tensor.js";
import { waitForEachKernel } from "./env.js";
import type { Report } from "./report.js";
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
  ms: number;
}

/** Stands between TypeScript and the addon, from construction until it is disposed. */
export class Trace implements Disposable {
  private readonly times = new Map<string, SlotTime>();
  private readonly shapes = new Map<Handle, string>();
  private readonly addon = native() as unknown as Record<string, Entry>;
  private readonly original = new Map<string, Entry>();

  constructor() {
    for (const name of makers) this.replace(name, (call) => (...args) => this.made(name, args, call(...args) as Handle));
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
      const sum = this.times.get(key) ?? { slot, shapes, calls: 0, ms: 0 };
      sum.calls++;
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

/** Per slot and shape: calls in a step, median-like mean ms, and its share of the step. */
export async function traceStep(job: Job, dtype: ComputeDType, steps: number): Promise<Report> {
  waitForEachKernel();
  using device = openDevice("cpu", { memoryLimit: 2 ** 36 });
  using training = new OurTraining(job, dtype, device);
  await training.step(randomBatch(job, 0));
  await training.step(randomBatch(job, 1));
  using trace = new Trace();
  const empty = emptyKernelMs(trace);
  trace.take();
  const began = performance.now();
  for (let i = 0; i < steps; i++) await training.step(randomBatch(job, i));
  const stepMs = (performance.now() - began) / steps;
  const times = trace.take().map((time) => ({ ...time, calls: time.calls / steps, ms: time.ms / steps - (empty * time.calls) / steps }));
  const total = times.reduce((sum, { ms }) => sum + ms, 0);
  const share = (ms: number): string => `${((100 * ms) / total).toFixed(1)} %`;
  const title = `${job.name}, ${dtype}, ${device.simd}: ${total.toFixed(1)} ms in kernels (the step with a wait after each: ${stepMs.toFixed(1)} ms; ${(empty * 1000).toFixed(1)} µs taken off per call)`;
  const rows = times.map(({ slot, shapes, calls, ms }) => ({ slot, shapes, calls, ms, share: share(ms) }));
  return { tables: { [`By slot: ${title}`]: bySlot(times).map((row) => ({ ...row, share: share(row.ms) })), "By slot and shapes": rows }, verdicts: [] };
}

function bySlot(times: readonly SlotTime[]): { slot: string; calls: number; ms: number }[] {
  const sums = new Map<string, { slot: string; calls: number; ms: number }>();
  for (const { slot, calls, ms } of times) {
    const sum = sums.get(slot) ?? { slot, calls: 0, ms: 0 };
    sums.set(slot, { slot, calls: sum.calls + calls, ms: sum.ms + ms });
  }
  return [...sums.values()].sort((a, b) => b.ms - a.ms);
}

/** What enqueueing, waking and waiting take of a call, in ms. */
function emptyKernelMs(trace: Trace): number {
  const one = zeros([1]);
  trace.take();
  for (let i = 0; i < 200; i++) native().fill(one.handle, 0);
  const [{ ms, calls } = { ms: 0, calls: 1 }] = trace.take();
  one.dispose();
  return ms / calls;
}
