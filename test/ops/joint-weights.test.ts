// Several weights as one product: each part is what its own product gives, bit for bit.
import { describe, expect, it } from "vitest";
import { openDevice } from "../../lib/device.js";
import { cast } from "../../lib/ops/elementwise.js";
import { JointWeights, linear, packWeight } from "../../lib/ops/linear.js";
import { scope } from "../../lib/scope.js";
import { randn, type Tensor } from "../../lib/tensor.js";

const device = openDevice();

async function bits(x: Tensor): Promise<string> {
  const values = await x.data();
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString("hex");
}

describe.each(["f32", "bf16"] as const)("%s", (dtype) => {
  const random = (shape: number[], seed: number): Tensor => scope(() => cast(randn(shape, { seed, device }), dtype));

  // Equal widths; grouped heads; widths that do not end where vectors do, so that a part of one row is copied too.
  it.each([[[64, 64, 64]], [[96, 32, 32]], [[20, 10, 10]]])("widths %j", async (widths) => {
    const { live } = device.memory();
    const weights = widths.map((width, i) => random([width, 48], i));
    const joint = new JointWeights(weights);
    const packed = weights.map((weight) => packWeight(weight));
    // One row is taken apart in place, up to 64 by kept places, more by places of their own.
    for (const rows of [1, 2, 7, 64, 65]) {
      const x = random([rows, 48], 10 + rows);
      const parts = scope(() => joint.linear(x));
      expect(parts.map(({ shape }) => shape)).toEqual(widths.map((width) => [rows, width]));
      for (const [i, part] of parts.entries()) {
        const alone = linear(x, packed[i] as Tensor);
        expect(await bits(part), `rows ${rows}, part ${i}`).toBe(await bits(alone));
        alone.dispose();
        part.dispose();
      }
      x.dispose();
    }
    for (const each of [joint, ...packed, ...weights]) each.dispose();
    expect(device.memory().live).toBe(live);
  });
});
