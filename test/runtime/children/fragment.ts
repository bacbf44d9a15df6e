// Uses memory so that it fragments: what is freed is always too small for what comes next. Prints the growth of VmHWM
// and the ledger's peak, in bytes.
import { readFileSync } from "node:fs";
import { openDevice } from "../../../lib/device.js";
import { type Tensor, zeros } from "../../../lib/tensor.js";

function highWater(): number {
  const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"));
  return Number(line?.[1]) * 1024;
}

const device = openDevice();
zeros([1 << 16]).dispose();
await device.sync();
const before = highWater();
const live: Tensor[] = [];
for (let round = 0; round < 200; round++) {
  const hole = zeros([700_000 + round * 10_000]);
  live.push(zeros([200_000 + (round % 17) * 30_000]));
  hole.dispose();
  if (live.length > 150) live.splice(round % 100, 1)[0]?.dispose();
}
await device.sync();
console.log(JSON.stringify({ grown: highWater() - before, peak: device.memory().peak }));
for (const tensor of live) tensor.dispose();
