// Opens a device, computes on it, and prints what it is or why not, as JSON: node open.ts <kind> [index].
import { ForetokenError, openDevice, type DeviceKind } from "../../../lib/index.js";
import { add } from "../../../lib/ops/elementwise.js";
import { tensor } from "../../../lib/tensor.js";

const [kind = "auto", index] = process.argv.slice(2);
try {
  const device = openDevice(kind as DeviceKind, index === undefined ? {} : { index: Number(index) });
  const x = tensor(Float32Array.of(1, 2, 3), { dtype: "f32", device });
  const sum = [...(await add(x, x).toFloats())];
  console.log(JSON.stringify({ kind: device.kind, level: device.simd, sum }));
} catch (failure) {
  if (!(failure instanceof ForetokenError)) throw failure;
  console.log(JSON.stringify({ code: failure.code, message: failure.message }));
}
