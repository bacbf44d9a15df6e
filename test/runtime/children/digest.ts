// Prints a digest of what a few kernels computed.
import { createHash } from "node:crypto";
import { native } from "../../../lib/native.js";
import { empty, randn, zeros } from "../../../lib/tensor.js";
import { openDevice } from "../../../lib/device.js";

const device = openDevice();
const [rows, width] = [300, 257];
const x = randn([rows, width], { seed: 1 });
const weight = randn([width], { seed: 2 });
const y = empty([rows, width], { dtype: "f32", device });
native().rmsNorm(x.handle, weight.handle, y.handle, 1e-6);
const dx = zeros([rows, width]);
const dweight = zeros([width]);
native().rmsNormBackward(y.handle, x.handle, weight.handle, dx.handle, dweight.handle, 1e-6, false, false);
const digest = createHash("sha256");
for (const tensor of [y, dx, dweight]) {
  digest.update(new Uint8Array((await tensor.data()).buffer));
  tensor.dispose();
}
console.log(digest.digest("hex"));
