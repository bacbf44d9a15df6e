// How long is a training step, and how much memory does it take, against n and beside PyTorch?
// Both sides start from the same weights and must report the same losses before anything is timed; then they take turns,
// each with the same number of threads. Memory is each side's growth of VmHWM over its parameters in a process of its
// own, less gradients and Adam's moments.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { openDevice } from "../lib/device.js";
import { writeSafetensors } from "../lib/io/index.js";
import { resolveConfig } from "../lib/mtp/config.js";
import type { LanguageModel } from "../lib/mtp/model.js";
import { savedTensor } from "../lib/mtp/files.js";
import { estimateMemory } from "../lib/train/memory.js";
import type { Bench, BenchOptions } from "./bench.js";
import { interleave, type Timing, type Variant } from "./interleave.js";
import type { MemoryFigures } from "./memory-child.js";
import { percentOfPeak, stepFlop } from "./peaks.js";
import { PythonFailure, PythonServer, pythonWithTorch } from "./python.js";
import type { Figure, Verdict } from "./report.js";
import { traceStep } from "./trace.js";
import {
  jobs,
  optimizer,
  OurTraining,
  randomBatch,
  smokeJob,
  withHeads,
  type ComputeDType,
  type Job,
} from "./workload.js";

const ways = ["naive", "sequential", "compile"] as const;
type Way = (typeof ways)[number];
const dtypes: readonly ComputeDType[] = ["bf16", "f32"];

/** Relative difference of losses over the first steps: rounding of bf16 products, then Adam's amplification of it. */
const tolerance = { f32: 1e-4, bf16: 5e-3 } as const;
const comparedSteps = 5;

export const step: Bench = {
  question: "How long is a training step, and how much memory does it take, against n and beside PyTorch?",
  async *run(options) {
    const main = options.smoke ? [smokeJob] : jobs;
    if (options.trace) {
      for (const job of main) for (const dtype of dtypes) yield* traceStep(job, dtype, options.rounds);
      return;
    }
    using python = openPython();
    for (const job of main) {
      // torch.compile takes a minute per job: not for a look whether the bench works.
      const speed = await compare(job, dtypes, options.smoke ? ["naive", "sequential"] : ways, python, options);
      yield {
        title: `Step: ${job.name}, ${job.batchSize * job.contextLength} tokens`,
        rows: speed.map(figure),
        verdicts: judgeSpeed(speed),
      };
      const memory = await memoryOf(job, speed);
      yield { title: `Memory: ${job.name}`, rows: memory, verdicts: judgeMemory(speed, memory) };
    }
    const job = main.at(-1) ?? smokeJob;
    for (const trunk of ["same size", "same trunk"] as const) {
      const rows = await againstN(job, options.smoke ? [1, 2] : [1, 2, 4, 8], trunk, python, options);
      yield { title: `Against n, ${trunk}: ${job.name}`, rows };
    }
  },
};

function openPython(): PythonServer | undefined {
  const path = pythonWithTorch();
  return path === undefined ? undefined : new PythonServer(path, "step.py", openDevice().threads);
}

// ---- speed ----------------------------------------------------------------------------------------------------------

interface Speed extends Timing {
  readonly job: Job;
  readonly side: "ours" | "PyTorch";
  readonly dtype: ComputeDType;
  readonly way: Way | "ours";
}

/** What Python is told of a job. */
const pythonJob = (job: Job): object => ({ config: resolveConfig(job.config), batchSize: job.batchSize, optimizer });

/** Checks that both sides learn alike, then times them in turn. */
async function compare(
  job: Job,
  dtypes: readonly ComputeDType[],
  ways: readonly Way[],
  python: PythonServer | undefined,
  options: BenchOptions,
): Promise<Speed[]> {
  const variants: (Variant & Omit<Speed, keyof Timing>)[] = [];
  const trainings: OurTraining[] = [];
  const folder = mkdtempSync(join(tmpdir(), "foretoken-bench-"));
  try {
    for (const dtype of dtypes) {
      const training = new OurTraining(job, dtype, openDevice());
      trainings.push(training);
      const weights = join(folder, `${dtype}.safetensors`);
      await exportWeights(training.model, weights);
      const losses = await lossesOf((number) => training.step(randomBatch(job, number)));
      variants.push({ name: `ours, ${dtype}`, side: "ours", way: "ours", dtype, job, run: ours(training, job) });
      for (const way of python ? ways : []) {
        const name = `PyTorch ${way}, ${dtype}${dtype === "bf16" ? " autocast" : ""}`;
        const theirs = python && (await openTheirs(python, name, job, dtype, way, weights, losses));
        if (theirs) variants.push({ name, side: "PyTorch", way, dtype, job, run: theirs });
      }
    }
    const timings = await interleave(variants, options.rounds);
    for (const { name, side } of variants) if (side === "PyTorch") await python?.request("close", { name });
    return variants.map(({ run: _, ...variant }, i) => ({ ...variant, ...(timings[i] as Timing) }));
  } finally {
    for (const training of trainings) training[Symbol.dispose]();
    rmSync(folder, { recursive: true });
  }
}

const exportWeights = (model: LanguageModel, path: string): Promise<void> =>
  writeSafetensors(
    path,
    model.parameters.all.map(({ name, master }) => savedTensor(name, master)),
  );

async function lossesOf(run: (number: number) => Promise<number>): Promise<number[]> {
  const losses: number[] = [];
  for (let number = 0; number < comparedSteps; number++) losses.push(await run(number));
  return losses;
}

function ours(training: OurTraining, job: Job): () => Promise<number> {
  const batch = randomBatch(job, 0);
  return async () => {
    const began = performance.now();
    await training.step(batch);
    return performance.now() - began;
  };
}

const tokensOf = (job: Job, number: number): object => ({
  tokens: [...randomBatch(job, number).tokens],
  batchSize: job.batchSize,
});

/** A way to run the job in PyTorch, once its losses agree with ours; undefined, and a line that says why, where it does not run here. */
async function openTheirs(
  python: PythonServer,
  name: string,
  job: Job,
  dtype: ComputeDType,
  way: Way,
  weights: string,
  ours: readonly number[],
): Promise<(() => Promise<number>) | undefined> {
  const request = (number: number): object => ({ name, ...tokensOf(job, number) });
  try {
    await python.request("open", { name, way, dtype, weights, ...pythonJob(job) });
    const theirs = await lossesOf(
      async (number) => (await python.request<{ loss: number }>("step", request(number))).loss,
    );
    const worst = Math.max(...ours.map((loss, i) => Math.abs(loss - (theirs[i] ?? NaN)) / Math.abs(loss)));
    if (!(worst <= tolerance[dtype])) {
      throw new RangeError(
        `${name}: losses ${theirs.join(", ")}, ours ${ours.join(", ")}; apart by ${worst}, allowed ${tolerance[dtype]}`,
      );
    }
  } catch (failure) {
    if (!(failure instanceof PythonFailure)) throw failure;
    console.log(`${name} does not run here: ${failure.message.split("\n")[0] ?? ""}`);
    return undefined;
  }
  const batch = request(0);
  return async () => (await python.request<{ ms: number }>("step", batch)).ms;
}

function figure({ name, job, dtype, median, p99, best, samples }: Speed): Figure {
  const gflops = stepFlop(job) / median / 1e6;
  return {
    variant: name,
    "ms (median)": median,
    p99,
    best,
    "tokens/s": Math.round((job.batchSize * job.contextLength * 1000) / median),
    "GFLOP/s": Math.round(gflops),
    "of the peak, %": percentOfPeak(gflops, openDevice().simd, dtype),
    rounds: samples.length,
  };
}

// ---- memory ---------------------------------------------------------------------------------------------------------

const beyondState = "beyond both, MB";

/** Each variant in a process of its own; compiled ones, which take a minute each, only where they are the fastest. */
async function memoryOf(job: Job, speed: readonly Speed[]): Promise<Figure[]> {
  const rows: Figure[] = [];
  const rivals = dtypes.map((dtype) => fastestRival(speed, dtype)?.name);
  for (const { name, side, dtype, way } of speed) {
    if (way === "compile" && !rivals.includes(name)) continue;
    const { grown, stateBytes } = side === "ours" ? ourMemory(job, dtype) : await theirMemory(job, dtype, way);
    rows.push({
      variant: name,
      "grown, MB": grown / 1e6,
      "gradients and Adam, MB": stateBytes / 1e6,
      [beyondState]: (grown - stateBytes) / 1e6,
    });
  }
  return rows;
}

function ourMemory(job: Job, dtype: ComputeDType): MemoryFigures {
  const child = fileURLToPath(new URL("memory-child.ts", import.meta.url));
  const output = execFileSync(process.execPath, ["--import", "tsx", child, JSON.stringify(job), dtype], {
    encoding: "utf8",
  });
  return JSON.parse(output) as MemoryFigures;
}

async function theirMemory(job: Job, dtype: ComputeDType, way: string): Promise<MemoryFigures> {
  using python = openPython();
  if (!python) throw new RangeError("PyTorch's memory is asked for without PyTorch");
  const warmConfig = resolveConfig(smokeJob.config);
  return await python.request("memory", { way, dtype, ...pythonJob(job), ...tokensOf(job, 0), warmConfig });
}

// ---- judgement ------------------------------------------------------------------------------------------------------

/** Whom our dtype is judged against: bf16 the fastest that PyTorch does in any dtype, f32 its fastest in f32. */
function fastestRival(speed: readonly Speed[], dtype: ComputeDType): Speed | undefined {
  const theirs = speed.filter((each) => each.side === "PyTorch" && (dtype === "bf16" || each.dtype === dtype));
  return theirs.sort((a, b) => a.median - b.median)[0];
}

/** Ours and whom it is judged against, for each dtype that has both. */
function pairs(speed: readonly Speed[]): { dtype: ComputeDType; mine: Speed; rival: Speed }[] {
  return dtypes.flatMap((dtype) => {
    const mine = speed.find((each) => each.side === "ours" && each.dtype === dtype);
    const rival = fastestRival(speed, dtype);
    return mine && rival ? [{ dtype, mine, rival }] : [];
  });
}

function judgeSpeed(speed: readonly Speed[]): Verdict[] {
  return pairs(speed).map(({ dtype, mine, rival }) => {
    const ratio = mine.median / rival.median;
    const measured = `${mine.median.toFixed(0)} ms, ${ratio.toFixed(2)} × the ${rival.median.toFixed(0)} ms of ${rival.name}`;
    return { claim: `${dtype}: no slower than PyTorch's best mode`, holds: ratio <= 1, measured };
  });
}

function judgeMemory(speed: readonly Speed[], memory: readonly Figure[]): Verdict[] {
  const beyond = (name: string): number => Number(memory.find(({ variant }) => variant === name)?.[beyondState]);
  return pairs(speed).map(({ dtype, mine, rival }) => {
    const share = beyond(mine.name) / beyond(rival.name);
    const measured = `${beyond(mine.name).toFixed(0)} MB, ${share.toFixed(2)} × the ${beyond(rival.name).toFixed(0)} MB of ${rival.name}`;
    return { claim: `${dtype}: at most a third of that mode's memory`, holds: share <= 1 / 3, measured };
  });
}

// ---- against n ------------------------------------------------------------------------------------------------------

async function againstN(
  job: Job,
  counts: readonly number[],
  trunk: "same size" | "same trunk",
  python: PythonServer | undefined,
  options: BenchOptions,
): Promise<Figure[]> {
  const rows: Figure[] = [];
  for (const n of counts) {
    const sized = withHeads(job, n, trunk);
    const { peakBytes, activationBytes } = estimateMemory(sized.config, {
      batchSize: job.batchSize,
      contextLength: job.contextLength,
      dtype: "bf16",
    });
    const speed = await compare(sized, ["bf16"], ["naive", "sequential"], python, options);
    for (const each of speed) {
      const memory =
        each.side === "ours"
          ? { "peak, MB": peakBytes / 1e6, "beyond weights, gradients, Adam, MB": activationBytes / 1e6 }
          : {};
      rows.push({ n, "trunk layers": sized.config.trunkLayers ?? 0, ...figure(each), ...memory });
    }
  }
  return rows;
}
