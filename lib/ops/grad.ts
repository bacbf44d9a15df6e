// Gradients of a function of tensors.
import { ForetokenError, formatShape } from "../errors.js";
import { detach, scope, track } from "../scope.js";
import { sumDType, tape } from "../tape.js";
import { empty, type Tensor } from "../tensor.js";
import { native } from "../native.js";

export interface ValueAndGradients {
  /** What the function returned: one element. */
  readonly value: Tensor;
  /** One per input, of its shape; zeros where the value does not depend on it. */
  readonly gradients: readonly Tensor[];
}

/**
 * A function that computes fn's value and its gradient with respect to each of its inputs.
 *
 * @example
 * const { value, gradients } = grad((x, w) => linearCrossEntropy(x, w, targets))(hidden, unembedding);
 */
export function grad<Inputs extends Tensor[]>(
  fn: (...inputs: Inputs) => Tensor,
): (...inputs: Inputs) => ValueAndGradients {
  return (...inputs) => {
    const result = scope(() =>
      tape((t) => {
        const sinks = inputs.map((x) => ({
          tensor: detach(empty(x.shape, { dtype: sumDType(x.dtype), device: x.device, tag: "gradient" })),
          filled: false,
        }));
        const leaves = inputs.map((x, i) => t.leaf(x, sinks[i])) as Inputs;
        const value = fn(...leaves);
        if (value.size !== 1) {
          for (const sink of sinks) sink.tensor.dispose();
          throw new ForetokenError("SHAPE_MISMATCH", {
            op: "grad",
            argument: "fn's value",
            wanted: "one element",
            got: formatShape(value.shape),
          });
        }
        const one = empty(value.shape, { dtype: value.dtype, device: value.device });
        native().fill(one.handle, 1);
        const result = detach(value.view(value.shape));
        t.backward([[value, one]]);
        for (const sink of sinks) if (!sink.filled) native().fill(sink.tensor.handle, 0);
        return { value: result, gradients: sinks.map((sink) => sink.tensor) };
      }),
    );
    for (const tensor of [result.value, ...result.gradients]) track(tensor);
    return result;
  };
}
