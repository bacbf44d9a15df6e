import { describe, expect, it } from "vitest";
import { openDevice } from "../../lib/device.js";
import { attention, rope_ } from "../../lib/ops/attention.js";
import { linearCrossEntropy, type LinearCrossEntropyOptions } from "../../lib/ops/cross-entropy.js";
import { add, cast, scale } from "../../lib/ops/elementwise.js";
import { embedding } from "../../lib/ops/embedding.js";
import { linear } from "../../lib/ops/linear.js";
import { crossEntropy } from "../../lib/ops/plain-cross-entropy.js";
import { reshape } from "../../lib/ops/reshape.js";
import { rmsNorm } from "../../lib/ops/rms-norm.js";
import { rnn } from "../../lib/ops/rnn.js";
import { swiglu } from "../../lib/ops/swiglu.js";
import { checkpoint } from "../../lib/tape.js";
import { tensor, type Tensor } from "../../lib/tensor.js";
import { gradientDifference, gradientError, normalArray, placeOn, type Place } from "../helpers/gradcheck.js";
import { levels, openLevel } from "../helpers/levels.js";

type Case = [fn: (...inputs: Tensor[]) => Tensor, shapes: readonly (readonly number[])[]];

/** Every differentiable op, and what combines them, on tensors of this device and dtype. */
function casesOn(place: Place): Record<string, Case> {
  const { device, dtype } = place;
  const integers = (values: number[], shape: number[]): Tensor =>
    tensor(Int32Array.from(values), { dtype: "i32", device, shape });
  const targets = integers([3, 0, -100, 6, 2, 5], [2, 3]);
  const fixed = place(normalArray(16, 3), [4, 4]);
  const ones = place(new Float64Array(4).fill(1), [4]);
  const firstKey = integers([0, 0, 2, 2, 2, 0, 0, 0, 0, 4], [2, 5]);
  const sums = dtype === "f64" ? "f64" : "f32";
  const weights = placeOn(device, sums)(Float64Array.from(normalArray(6, 9), Math.abs), [6]);

  const loss =
    (options: LinearCrossEntropyOptions = {}) =>
    (hidden: Tensor, w: Tensor): Tensor =>
      linearCrossEntropy(hidden, w, targets, options);
  const unembedding: readonly (readonly number[])[] = [
    [2, 3, 4],
    [7, 4],
  ];

  return {
    add: [
      (a, b) => add(a, b),
      [
        [3, 5],
        [3, 5],
      ],
    ],
    "add of one tensor to itself": [(a) => add(a, a), [[3, 5]]],
    scale: [(a) => scale(a, -2.5), [[7]]],
    "scale of a sum, one of its terms scaled": [
      (x, z) => scale(add(scale(x, 10), z), 1),
      [
        [3, 5],
        [3, 5],
      ],
    ],
    "scale of a sum, both of its terms scaled": [
      (x, z) => scale(add(scale(x, 10), scale(z, 3)), 1),
      [
        [3, 5],
        [3, 5],
      ],
    ],
    cast: [(a) => cast(a, dtype), [[7]]],
    reshape: [(a) => scale(reshape(a, [6]), 2), [[2, 3]]],
    linear: [
      (x, w) => linear(x, w),
      [
        [2, 3, 5],
        [4, 5],
      ],
    ],
    "linear with bias and residual": [
      (x, w, b, r) => linear(x, w, { bias: b, residual: r }),
      [[3, 5], [4, 5], [4], [3, 4]],
    ],
    "linear, residual is its input": [
      (x, w) => linear(x, w, { residual: x }),
      [
        [3, 4],
        [4, 4],
      ],
    ],
    "linear, computed again": [
      (x, v, w) => linear(swiglu(linear(x, v, { recompute: true }), linear(x, w, { recompute: true })), fixed),
      [
        [3, 5],
        [4, 5],
        [4, 5],
      ],
    ],
    "linear, weight used twice": [
      (x, w) => linear(linear(x, w), w),
      [
        [3, 4],
        [4, 4],
      ],
    ],
    rmsNorm: [(x, w) => rmsNorm(x, w, 1e-5), [[3, 2, 6], [6]]],
    "rmsNorm recomputed for two consumers": [
      (x, n, w) => {
        const y = rmsNorm(x, n);
        return add(linear(y, w), linear(y, w));
      },
      [[3, 6], [6], [6, 6]],
    ],
    swiglu: [
      (g, u) => swiglu(g, u),
      [
        [3, 5],
        [3, 5],
      ],
    ],
    "swiglu recomputed": [
      (g, u, w) => linear(swiglu(g, u), w),
      [
        [3, 5],
        [3, 5],
        [2, 5],
      ],
    ],
    embedding: [(w) => embedding(integers([1, 4, 1, 0, 2, 3, 3, 3], [2, 4]), w, { length: 3 }), [[5, 3]]],
    rope: [(x) => rope_(scale(x, 1), { theta: 100, period: 3 }), [[2, 3, 2, 4]]],
    attention: [
      (q, k, v) => attention(q, k, v),
      [
        [2, 5, 4, 6],
        [2, 5, 2, 6],
        [2, 5, 2, 6],
      ],
    ],
    "attention within documents": [
      (q, k, v) => attention(q, k, v, { firstKey, scale: 0.7 }),
      [
        [2, 5, 2, 4],
        [2, 5, 2, 4],
        [2, 5, 2, 4],
      ],
    ],
    "attention, one tensor as q, k and v": [(x) => attention(x, x, x), [[1, 4, 2, 4]]],
    rnn: [
      (a, w) => rnn(a, w),
      [
        [2, 4, 3],
        [3, 3],
      ],
    ],
    "rnn behind a linear": [
      (x, w, u) => rnn(linear(x, w), u),
      [
        [2, 4, 5],
        [3, 5],
        [3, 3],
      ],
    ],
    checkpoint: [
      (x, w) => checkpoint((z) => swiglu(linear(z, fixed), z), linear(x, w)),
      [
        [3, 4],
        [4, 4],
      ],
    ],
    "checkpoint beside another use": [
      (x) =>
        add(
          checkpoint((z) => rmsNorm(linear(z, fixed), ones), x),
          x,
        ),
      [[3, 4]],
    ],
    "loss, mean": [loss(), unembedding],
    "loss, sum": [loss({ reduction: "sum" }), unembedding],
    "loss, none": [loss({ reduction: "none" }), unembedding],
    "loss, half of it": [(h, w) => scale(loss()(h, w), 0.5), unembedding],
    "loss, weighted mean": [loss({ weight: weights }), unembedding],
    "loss, weighted none": [loss({ weight: weights, reduction: "none" }), unembedding],
    "loss, label smoothing": [loss({ labelSmoothing: 0.2 }), unembedding],
    "loss, z-loss": [loss({ zLoss: 0.3 }), unembedding],
    "loss, logit scale": [loss({ logitScale: 0.4 }), unembedding],
    "loss, softcap": [loss({ softcap: 1.5 }), unembedding],
    "loss, bias": [(h, w, b) => linearCrossEntropy(h, w, targets, { bias: b }), [...unembedding, [7]]],
    "loss of stored logits": [(z) => crossEntropy(z, { tokens: targets.view([1, 6]), shift: 0 }).loss, [[2, 3, 7]]],
    "loss of stored logits, shifted, within documents": [
      (z) => crossEntropy(z, { tokens: targets, limit: integers([1, 1, 2, 1], [2, 2]), shift: 1 }).loss,
      [[4, 7]],
    ],
    "loss of logits made by a product": [
      (h, w) => scale(crossEntropy(linear(h, w), { tokens: targets, shift: 0 }).loss, 3),
      unembedding,
    ],
    "two losses through one unembedding, a bias each": [
      (h, w, b1, b2) =>
        add(linearCrossEntropy(h, w, targets, { bias: b1 }), linearCrossEntropy(h, w, targets, { bias: b2 })),
      [...unembedding, [7], [7]],
    ],
    "loss, everything": [
      (h, w, b) =>
        linearCrossEntropy(h, w, targets, {
          bias: b,
          labelSmoothing: 0.1,
          zLoss: 0.1,
          logitScale: 1.3,
          softcap: 4,
          weight: weights,
        }),
      [...unembedding, [7]],
    ],
  };
}

// Central differences at step 1e-5 in float64 are good to about 1e-9 relative.
const oracle = placeOn(openDevice("cpu", { simd: "generic" }), "f64");
const exact = casesOn(oracle);

describe("gradients against finite differences in float64", () => {
  it.each(Object.entries(exact))("%s", async (_name, [fn, shapes]) => {
    expect(await gradientError(fn, shapes)).toBeLessThan(1e-6);
  });
});

// The oracle's gradients stand for the finite differences that f32 and bf16 are too coarse for. A dozen roundings each:
// 2⁻²⁴ in f32, 2⁻⁹ where bf16 is stored between the ops.
describe.each(levels())("gradients against the float64 ones, %s", (level) => {
  const device = openLevel(level);
  it.each(Object.entries(casesOn(placeOn(device, "f32"))))("%s, f32", async (name, [fn, shapes]) => {
    expect(await gradientDifference(fn, exact[name]?.[0], shapes, placeOn(device, "f32"), oracle)).toBeLessThan(2e-6);
  });
  it.each(Object.entries(casesOn(placeOn(device, "bf16"))))("%s, bf16", async (name, [fn, shapes]) => {
    expect(await gradientDifference(fn, exact[name]?.[0], shapes, placeOn(device, "bf16"), oracle)).toBeLessThan(4e-2);
  });
});
