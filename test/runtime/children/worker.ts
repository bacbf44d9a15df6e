// A worker with a stream of its own: works until it is terminated, or sums random numbers once.
import { parentPort, workerData } from "node:worker_threads";
import { openDevice } from "../../../lib/device.js";
import { native } from "../../../lib/native.js";
import { randn, zeros } from "../../../lib/tensor.js";

if (workerData === "forever") {
  const x = zeros([openDevice().kind === "cpu" ? 1 << 20 : 1 << 10]); // the GPU may be one in software
  parentPort?.postMessage("started");
  for (let i = 0; ; i++) {
    native().randomNormal(x.handle, 0, 1, i, 0);
    if (i % 50 === 0) await openDevice().sync();
  }
} else {
  const x = randn([4096], { seed: 5 });
  parentPort?.postMessage((await x.data()).reduce((sum, value) => sum + value, 0));
  x.dispose();
}
