// A mixture of dtypes that a GPU has no kernel for is an error of the op, never silence.
import { expect, it } from "vitest";
import { type DType, openDevice } from "../../lib/device.js";
import { native, type Handle } from "../../lib/native.js";
import { zeros } from "../../lib/tensor.js";

const make = (dtype: DType): Handle => zeros([2, 8], { dtype, device: openDevice("cuda") }).handle;
const row = (dtype: DType): Handle => zeros([8], { dtype, device: openDevice("cuda") }).handle;

it.each<[string, () => void, string]>([
  ["a sum with integers", () => native().add(make("f32"), make("i32"), make("f32")), "add"],
  ["a cast of integers", () => native().cast(make("i32"), make("f32")), "cast"],
  ["a norm into another dtype", () => native().rmsNorm(make("bf16"), row("bf16"), make("f32"), 1e-5), "rms_norm"],
  [
    "a norm's gradient that is coarser than x",
    () => native().rmsNormBackward(make("bf16"), make("f32"), row("f32"), make("f32"), row("f32"), 1e-5, false, false),
    "rms_norm_backward",
  ],
  ["a gate beside another dtype", () => native().swiglu(make("bf16"), make("f32"), make("bf16")), "swiglu"],
  [
    "a gate's gradient that is coarser than the gate",
    () => native().swigluBackward(make("bf16"), make("f32"), make("f32"), make("f32"), make("f32")),
    "swiglu_backward",
  ],
])("refuses %s", (_, call, op) => {
  expect(call).toThrow(expect.objectContaining({ code: "CUDA_ERROR", op }));
  expect(call).toThrow(/dtype|bf16/);
});
