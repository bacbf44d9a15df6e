// Prints how many bytes had become resident by the time that filling 128 MiB returned, and a sum computed after it.
import { readFileSync } from "node:fs";
import { native } from "../../../lib/native.js";
import { openDevice } from "../../../lib/device.js";
import { empty, zeros } from "../../../lib/tensor.js";

function resident(): number {
  const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"));
  return Number(line?.[1]) * 1024;
}

const big = empty([1 << 25], { dtype: "f32", device: openDevice() });
const x = zeros([3]);
const before = resident();
native().fill(big.handle, 1);
const written = resident() - before;
native().fill(x.handle, 10);
const sum = (await x.data()).reduce((total, value) => total + value, 0);
console.log(JSON.stringify({ written, sum }));
