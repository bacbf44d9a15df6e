// What does TypeScript cost: per kernel call, at the import, in bytes of addon, and to the event loop while a model trains?
import { execFileSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Bench as Tinybench } from "tinybench";
import { openDevice, type Device } from "../lib/device.js";
import { environment } from "../lib/env.js";
import { native } from "../lib/native.js";
import { zeros, type Tensor } from "../lib/tensor.js";
import type { Bench } from "./bench.js";
import { median, quantile, type Figure, type Verdict } from "./report.js";
import { jobs, OurTraining, randomBatch, smokeJob } from "./workload.js";

const root = fileURLToPath(new URL("../", import.meta.url));

export const overhead: Bench = {
  question: "What does TypeScript cost: per kernel call, at the import, in bytes, and to the event loop in training?",
  async *run({ smoke, rounds }) {
    const calls = await callOverhead(smoke);
    const title = "A kernel call with an awake worker, µs (of 256 calls in a row)";
    const slowest = Math.max(...calls.map((row) => Number(row["p50"])));
    yield { title, rows: calls, verdicts: [atMost("a kernel call takes at most 1 µs", slowest, 1, "µs")] };
    yield { title: "A call to a sleeping worker, µs", rows: await wakeUp(smoke ? 3 : 50) };
    const loading = importTime(smoke ? 1 : Math.max(rounds, 9));
    if (loading) {
      const verdicts = [atMost("the import takes at most 50 ms", Number(loading[0]?.["median"]), 50, "ms")];
      yield { title: "Import of the built package in a fresh process, ms", rows: loading, verdicts };
    }
    const megabytes = statSync(addonPath()).size / 1e6;
    const most = native().gpus().built ? 8 : 3;
    const small = atMost(`the addon has at most ${most} MB`, megabytes, most, "MB");
    yield { title: "The addon", rows: [{ MB: megabytes }], verdicts: [small] };
    yield { title: "Event loop delay, ms", rows: await eventLoopDelay(smoke) };
  },
};

const atMost = (claim: string, value: number, limit: number, unit: string): Verdict => ({
  claim,
  holds: value <= limit,
  measured: `${value.toFixed(2)} ${unit}`,
});

/** Calls in a row fewer than the queue holds, so that none waits for room; what they compute is next to nothing. */
async function callOverhead(smoke: boolean): Promise<Figure[]> {
  const inARow = 256;
  const device = openDevice();
  const [x, weight, y] = [zeros([1, 16], { device }), zeros([16, 16], { device }), zeros([1, 16], { device })];
  const kernels = native();
  const calls: Record<string, () => void> = {
    "fill, 1 tensor": () => kernels.fill(y.handle, 1),
    "rmsNorm, 3 tensors": () => kernels.rmsNorm(x.handle, x.handle, y.handle, 1e-5),
    "linear, 5 tensors": () => kernels.linear(x.handle, weight.handle, 0, x.handle, y.handle),
  };
  const bench = new Tinybench({ time: smoke ? 1 : 300, warmupTime: smoke ? 1 : 100 });
  for (const [name, call] of Object.entries(calls)) {
    const all = (): void => {
      for (let i = 0; i < inARow; i++) call();
    };
    bench.add(name, all, { beforeEach: () => wakeWorker(device, y) });
  }
  const rows: Figure[] = [];
  for (const { name, result } of await bench.run()) {
    if (!("latency" in result)) throw new Error(`${name} was not measured: ${result.state}`);
    const { p50, p99 } = result.latency;
    rows.push({
      call: name,
      p50: (1000 * p50) / inARow,
      p99: (1000 * p99) / inARow,
      samples: result.latency.samplesCount,
    });
  }
  if ((await y.toFloats()).some((value) => value !== 0)) throw new RangeError("linear of zeros must give zeros");
  for (const tensor of [x, weight, y]) tensor.dispose();
  return rows;
}

/** Every sample starts with an empty queue and a worker that has just done something and still looks for more. */
async function wakeWorker(device: Device, y: Tensor): Promise<void> {
  await device.sync();
  native().fill(y.handle, 0);
  const began = performance.now();
  while (performance.now() - began < 0.05);
}

/** After a rest the worker sleeps: the call that wakes it, and how long until its work is done and known here. */
async function wakeUp(samples: number): Promise<Figure[]> {
  const device = openDevice();
  const y = zeros([1], { device });
  const [call, roundTrip]: [number[], number[]] = [[], []];
  for (let i = 0; i < samples; i++) {
    await device.sync();
    await setTimeout(5);
    const began = performance.now();
    native().fill(y.handle, i);
    call.push(1000 * (performance.now() - began));
    await device.sync();
    roundTrip.push(1000 * (performance.now() - began));
  }
  if ((await y.item()) !== samples - 1) throw new RangeError("fill did not write its value");
  y.dispose();
  return [spread("call that wakes", call), spread("until the result is known", roundTrip)];
}

const spread = (what: string, values: readonly number[]): Figure => ({
  what,
  median: median(values),
  p99: quantile(values, 0.99),
  best: Math.min(...values),
});

/** A bare import, and one that opens a device and so loads the addon. Undefined where the package is not built. */
function importTime(samples: number): Figure[] | undefined {
  const entry = `${root}dist/index.js`;
  if (!existsSync(entry)) {
    console.log("no dist/: the import is not timed (npm run build:ts)");
    return undefined;
  }
  const timed = (then: string): number => {
    const program = `const began = performance.now(); const library = await import(${JSON.stringify(pathToFileURL(entry).href)}); ${then}; console.log(performance.now() - began);`;
    return Number(execFileSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8" }));
  };
  const ways = { import: "", "import and openDevice()": "library.openDevice()" };
  return Object.entries(ways).map(([what, then]) =>
    spread(
      what,
      Array.from({ length: samples }, () => timed(then)),
    ),
  );
}

function addonPath(): string {
  if (environment.addon) return environment.addon;
  const find = createRequire(import.meta.url)("node-gyp-build") as { resolve(folder: string): string };
  return find.resolve(root);
}

/** How late a timer of 1 ms fires: with nothing to do, and while a model trains. */
async function eventLoopDelay(smoke: boolean): Promise<Figure[]> {
  const job = smoke ? smokeJob : (jobs[1] ?? smokeJob);
  const steps = smoke ? 2 : 30;
  const idle = await delaysDuring(() => setTimeout(smoke ? 50 : 1000));
  using training = new OurTraining(job, "bf16", openDevice());
  const batch = randomBatch(job, 0);
  await training.step(batch);
  const busy = await delaysDuring(async () => {
    for (let i = 0; i < steps; i++) await training.step(batch);
  });
  return [
    { while: "idle", ...idle },
    { while: `training, ${job.name}, bf16`, ...busy },
  ];
}

async function delaysDuring(run: () => Promise<unknown>): Promise<Figure> {
  const delays = monitorEventLoopDelay({ resolution: 1 });
  delays.enable();
  await run();
  delays.disable();
  return { p50: delays.percentile(50) / 1e6, p99: delays.percentile(99) / 1e6, max: delays.max / 1e6 };
}
