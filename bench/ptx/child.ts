// The process that runs workloads on the software GPU: node child.ts <report> <requests as JSON>. Prints, as JSON, which
// lines of the report (the file that PTX_REPORT names) are whose. PTX_DEVICE sets the card.
import { existsSync, readFileSync } from "node:fs";
import { openDevice } from "../../lib/device.js";
import { Inputs } from "./inputs.js";
import type { Sizes } from "./workload.js";
import { workloads } from "./workloads.js";

export interface Request {
  /** Of the workload. */
  readonly name: string;
  readonly sizes: Sizes;
}
/** Lines [first, end) of the report. */
export type Lines = readonly [first: number, end: number];

const [report = "", requests = "[]"] = process.argv.slice(2);
const device = openDevice("cuda");

async function linesSoFar(): Promise<number> {
  await device.sync();
  return existsSync(report) ? readFileSync(report, "utf8").split("\n").length - 1 : 0;
}

async function run({ name, sizes }: Request): Promise<Lines> {
  const workload = workloads.find((each) => each.name === name);
  if (!workload) throw new Error(`bench:ptx has no workload ${name}`);
  using inputs = new Inputs(device);
  const call = workload.prepare(inputs, sizes);
  const first = await linesSoFar();
  call();
  return [first, await linesSoFar()];
}

const lines: Lines[] = [];
for (const request of JSON.parse(requests) as Request[]) lines.push(await run(request));
console.log(JSON.stringify(lines));
