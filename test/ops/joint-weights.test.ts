// Several weights as one product: each part is what its own product gives, bit for bit.
import { describe, expect, it } from "vitest";
import { openDevice } from "../../lib/device.js";
import { cast } from "../../lib/ops/elementwise.js";
import { linear, packJointly, packWeight } from "../../lib/ops/linear.js";
import { scope } from "../../lib/scope.js";
import { randn, type Tensor } from "../../lib/tensor.js";

const device = openDevice();

describe.each(["f32", "bf16"] as const)("%s", (dtype) => {
  const random = (shape: number[], seed: number): Tensor => scope(() => cast(randn(shape, { seed, device }), dtype));

  // Equal widths; grouped heads; widths that do not end where vectors do.
  it.each([[[64, 64, 64]], [[96, 32, 32]], [[20, 10, 10]]])("widths %j", async (widths) => {
    const { live } = device.memory();
    const weights = widths.map((width, i) => random([width, 48], i));
    const joint = packJointly(weights);
    const packed = weights.map((weight) => packWeight(weight));
    const whole = widths.reduce((sum, width) => sum + width, 0);
    for (const rows of [1, 2, 7, 64, 65]) {
      const x = random([rows, 48], 10 + rows);
      const together = linear(x, joint);
      expect(together.shape).toEqual([rows, whole]);
      const values = await together.data();
      let start = 0;
      for (const [i, width] of widths.entries()) {
        const alone = linear(x, packed[i] as Tensor);
        const part = Array.from({ length: rows }, (_, r) => [
          ...values.subarray(r * whole + start, r * whole + start + width),
        ]);
        expect(part.flat(), `rows ${rows}, part ${i}`).toEqual([...(await alone.data())]);
        alone.dispose();
        start += width;
      }
      for (const each of [x, together]) each.dispose();
    }
    for (const each of [joint, ...packed, ...weights]) each.dispose();
    expect(device.memory().live).toBe(live);
  });
});
