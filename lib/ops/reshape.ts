// The same memory in another shape.
import { activeTape } from "../tape.js";
import type { Tensor } from "../tensor.js";

/** x in another shape with as many elements; shares x's memory. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  const y = x.view(shape);
  const tape = activeTape();
  if (tape?.wants(x)) {
    tape.record(y, [], (dy) => {
      const dx = dy.take();
      tape.give(x, dx.view(x.shape));
      dx.dispose();
    });
  }
  return y;
}
