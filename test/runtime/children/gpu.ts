// Prints what openDevice("cuda") and openDevice() give here, and the warnings on the way.
import { setImmediate } from "node:timers/promises";
import { openDevice, type Device } from "../../../lib/device.js";

const warnings: string[] = [];
process.on("warning", ({ name, message }) => warnings.push(`${name}: ${message}`));

function tried(open: () => Device): object {
  try {
    const { kind, simd, index } = open();
    return { kind, simd, index };
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    return { code, message };
  }
}

const cuda = tried(() => openDevice("cuda"));
const auto = [tried(() => openDevice()), tried(() => openDevice())];
await setImmediate();
console.log(JSON.stringify({ cuda, auto, warnings }));
