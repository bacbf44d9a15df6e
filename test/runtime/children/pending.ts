// Nothing but a pending read keeps this process alive; once it has settled, nothing does.
import { openDevice } from "../../../lib/device.js";
import { native } from "../../../lib/native.js";
import { zeros } from "../../../lib/tensor.js";

const big = zeros([openDevice().kind === "cpu" ? 1 << 21 : 1 << 12]); // the GPU may be one in software
for (let i = 0; i < 3; i++) native().randomNormal(big.handle, 0, 1, i, 0);
native().fill(big.handle, 3);
void big.data().then((data) => console.log(data[0]));
