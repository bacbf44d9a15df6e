// A process that trains three steps and prints how far its VmHWM rose over its parameters; for step.ts.
import { readFileSync, writeFileSync } from "node:fs";
import { openDevice } from "../lib/device.js";
import { OurTraining, randomBatch, smokeJob, type ComputeDType, type Job } from "./workload.js";

export interface MemoryFigures {
  /** Bytes. */
  readonly grown: number;
  /** Of gradients and Adam's two moments, in f32. */
  readonly stateBytes: number;
  readonly parameters: number;
}

const highWater = (): number => Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;

/** VmHWM starts again from what is resident now, where the system allows it. */
function forgetHighWater(): void {
  try {
    writeFileSync("/proc/self/clear_refs", "5");
  } catch {
    // then it counts from the highest point so far
  }
}

const [job, dtype] = [JSON.parse(process.argv[2] ?? "") as Job, process.argv[3] as ComputeDType];
const device = openDevice();
const warm = new OurTraining(smokeJob, dtype, device);
for (let i = 0; i < 2; i++) await warm.step(randomBatch(smokeJob, i));
warm[Symbol.dispose]();

const training = new OurTraining(job, dtype, device);
const batch = randomBatch(job, 0);
await device.sync();
forgetHighWater();
const before = highWater();
for (let i = 0; i < 3; i++) await training.step(batch);
const parameters = training.model.parameters.count;
const figures: MemoryFigures = { grown: highWater() - before, stateBytes: 3 * 4 * parameters, parameters };
console.log(JSON.stringify(figures));
