// Prints the default device, and one opened with a level of its own.
import { openDevice } from "../../../lib/device.js";

const device = openDevice();
const again = openDevice("cpu", { simd: "generic" });
console.log(JSON.stringify({ simd: device.simd, threads: device.threads, again: again.simd }));
