// Uses memory so that it fragments: holes of 4 MB are left, and what comes next is larger. Prints the growth of VmHWM
// and the ledger's peak, in bytes.
import { readFileSync } from "node:fs";
import { openDevice } from "../../../lib/device.js";
import { type Tensor, zeros } from "../../../lib/tensor.js";

function highWater(): number {
  const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"));
  return Number(line?.[1]) * 1024;
}

const mib = 1 << 18; // elements
const device = openDevice();
zeros([1 << 16]).dispose();
await device.sync();
const before = highWater();
const pins: Tensor[] = [];
for (let size = 4; size < 8; size++) {
  const holes: Tensor[] = [];
  for (let i = 0; i < 64 / size; i++) {
    holes.push(zeros([size * mib]));
    pins.push(zeros([mib]));
  }
  for (const hole of holes) hole.dispose();
}
const last = Array.from({ length: 10 }, () => zeros([16 * mib]));
await device.sync();
console.log(JSON.stringify({ grown: highWater() - before, peak: device.memory().peak }));
for (const tensor of [...pins, ...last]) tensor.dispose();
