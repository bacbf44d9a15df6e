// Leaves in the way named by its argument while a lot of work is queued.
import { openDevice } from "../../../lib/device.js";
import { native } from "../../../lib/native.js";
import { zeros } from "../../../lib/tensor.js";

const device = openDevice();
const big = zeros([device.kind === "cpu" ? 1 << 24 : 1 << 12]); // the GPU may be one in software
for (let i = 0; i < 900; i++) native().randomNormal(big.handle, 0, 1, i, 0);
console.log("queued");
if (process.argv[2] === "exit") {
  void device.sync();
  process.exit(7);
}
if (process.argv[2] === "throw") throw new Error("leaving");
