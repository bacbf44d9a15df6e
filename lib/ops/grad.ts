// Gradients of a function of tensors.
import { ForetokenError, formatShape } from "../errors.js";
import { scope } from "../scope.js";
import { gradientBuffer, tape } from "../tape.js";
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
  return (...inputs) =>
    scope(() =>
      tape((t) => {
        const sinks = inputs.map(gradientBuffer);
        const value = fn(...(inputs.map((x, i) => t.leaf(x, sinks[i])) as Inputs));
        if (value.size !== 1) {
          const got = formatShape(value.shape);
          throw new ForetokenError("SHAPE_MISMATCH", {
            op: "grad",
            argument: "fn's value",
            wanted: "one element",
            got,
          });
        }
        const one = empty(value.shape, { dtype: value.dtype, device: value.device });
        native().fill(one.handle, 1);
        t.backward([[value, one]]);
        for (const sink of sinks) if (!sink.filled) native().fill(sink.tensor.handle, 0);
        return { value, gradients: sinks.map(({ tensor }) => tensor) };
      }),
    );
}
