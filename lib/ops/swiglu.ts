// The gated feed-forward's product (arXiv 2002.05202).
import { native } from "../native.js";
import { activeTape, untaped } from "../tape.js";
import { empty, type Tensor } from "../tensor.js";
import { checkDType, checkFloat, checkSameShape } from "./check.js";

function forward(gate: Tensor, up: Tensor): Tensor {
  const y = empty(gate.shape, { dtype: gate.dtype, device: gate.device });
  native().swiglu(gate.handle, up.handle, y.handle);
  return y;
}

/** y = silu(gate)·up. Equal shapes. gate and up are kept for the backward pass; y is made again. */
export function swiglu(gate: Tensor, up: Tensor): Tensor {
  checkFloat("swiglu", "gate", gate);
  checkSameShape("swiglu", "up", up, gate);
  checkDType("swiglu", "up", up, gate.dtype);
  const y = forward(gate, up);
  const tape = activeTape();
  if (tape && (tape.wants(gate) || tape.wants(up))) {
    const savedGate = tape.save(gate);
    const savedUp = tape.save(up);
    tape.record(
      y,
      [savedGate, savedUp],
      (dy) => {
        const dgate = dy.take();
        const dup = empty(up.shape, { dtype: dgate.dtype, device: up.device });
        native().swigluBackward(dgate.handle, savedGate.tensor.handle, savedUp.tensor.handle, dgate.handle, dup.handle);
        if (tape.wants(gate)) tape.give(gate, dgate);
        else dgate.dispose();
        if (tape.wants(up)) tape.give(up, dup);
      },
      { recompute: () => untaped(() => forward(savedGate.tensor, savedUp.tensor)) },
    );
  }
  return y;
}
