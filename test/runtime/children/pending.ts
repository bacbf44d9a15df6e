// Nothing but a pending read keeps this process alive; once it has settled, nothing does.
import { native } from "../../../lib/native.js";
import { zeros } from "../../../lib/tensor.js";

const big = zeros([1 << 21]);
for (let i = 0; i < 3; i++) native().randomNormal(big.handle, 0, 1, i, 0);
native().fill(big.handle, 3);
void big.data().then((data) => console.log(data[0]));
