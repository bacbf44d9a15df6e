// Opens a device three times, computes on it, and prints what it is or why not, as JSON: node open.ts <kind> [index].
import { ForetokenError, linear, openDevice, type Device, type DeviceKind } from "../../../lib/index.js";
import { tensor } from "../../../lib/tensor.js";

const [kind = "auto", index] = process.argv.slice(2);

/** Ones times rows of one to eight, in bf16: a product that tensor cores take, at places that TMA reaches. */
async function product(device: Device): Promise<number[]> {
  const rows = Float32Array.from({ length: 8 * 64 }, (_, i) => 1 + Math.floor(i / 64));
  const x = tensor(new Float32Array(64).fill(1), { dtype: "bf16", device, shape: [1, 64] });
  const weight = tensor(rows, { dtype: "bf16", device, shape: [8, 64] });
  return [...(await linear(x, weight).toFloats())];
}

try {
  const open = (): Device => openDevice(kind as DeviceKind, index === undefined ? {} : { index: Number(index) });
  const device = open();
  const same = open() === device && open() === device;
  console.log(JSON.stringify({ kind: device.kind, level: device.simd, same, product: await product(device) }));
} catch (failure) {
  if (!(failure instanceof ForetokenError)) throw failure;
  console.log(JSON.stringify({ code: failure.code, message: failure.message }));
}
