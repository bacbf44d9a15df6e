// The main thread never loads the addon; workers do, queue more work than they wait for, and end in three ways, twice:
// the addon is unloaded with each of them.
import { Worker } from "node:worker_threads";

const tensorFile = JSON.stringify(new URL("../../../lib/tensor.ts", import.meta.url));
const deviceFile = JSON.stringify(new URL("../../../lib/device.ts", import.meta.url));
const nativeFile = JSON.stringify(new URL("../../../lib/native.ts", import.meta.url));

const work = (ending: string): string => `
  const { parentPort } = require("node:worker_threads");
  import("tsx/esm/api").then(async ({ register }) => {
    register();
    const { zeros } = await import(${tensorFile});
    const { native } = await import(${nativeFile});
    const { openDevice } = await import(${deviceFile});
    const big = zeros([openDevice().kind === "cpu" ? 1 << 22 : 1 << 10]);
    for (let i = 0; i < 500; i++) native().randomNormal(big.handle, 0, 1, i, 0);
    parentPort.postMessage("queued");
    ${ending};
  });`;

const endings = { terminate: "setInterval(() => {}, 1000)", exit: "process.exit(0)", end: "" };
const seen: string[] = [];
for (let round = 0; round < 2; round++) {
  for (const [name, ending] of Object.entries(endings)) {
    const worker = new Worker(work(ending), { eval: true });
    const ended = new Promise((resolve, reject) => worker.once("exit", resolve).once("error", reject));
    await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
    if (name === "terminate") await worker.terminate();
    await ended;
    seen.push(name);
  }
}
console.log(seen.join(" "));
