// Root-mean-square norm (arXiv 1910.07467).
import { native } from "../native.js";
import { activeTape, begin, gradientBuffer, sumDType, untaped, valueOf, type Weight } from "../tape.js";
import { empty, type Tensor } from "../tensor.js";
import { checkDType, checkFloat, checkShape, dimension } from "./check.js";

function forward(x: Tensor, weight: Tensor, eps: number): Tensor {
  const y = empty(x.shape, { dtype: x.dtype, device: x.device });
  native().rmsNorm(x.handle, weight.handle, y.handle, eps);
  return y;
}

/**
 * y = x / sqrt(mean(x²) + eps) · weight over the last dimension. x (…, d), weight (d).
 * Only x is kept for the backward pass; y is made again. x's gradient is summed in f32: x is the residual stream.
 */
export function rmsNorm(x: Tensor, weight: Weight, eps = 1e-5): Tensor {
  const w = valueOf(weight);
  checkFloat("rms_norm", "x", x);
  checkShape("rms_norm", "weight", w, [dimension("rms_norm", "x", x, 1)]);
  checkDType("rms_norm", "weight", w, x.dtype);
  const y = forward(x, w, eps);
  const tape = activeTape();
  if (tape && (tape.wants(x) || tape.wantsWeight(weight))) {
    const saved = tape.save(x);
    tape.record(
      y,
      [saved],
      (dy) => {
        const dx = tape.wants(x) ? tape.sink(x, sumDType(x.dtype)) : gradientBuffer(x);
        const dw = tape.weightSink(weight);
        native().rmsNormBackward(
          dy.tensor.handle,
          saved.tensor.handle,
          w.handle,
          dx.tensor.handle,
          dw.tensor.handle,
          eps,
          begin(dx),
          begin(dw),
        );
      },
      { recompute: () => untaped(() => forward(saved.tensor, w, eps)) },
    );
  }
  return y;
}
