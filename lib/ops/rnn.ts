// The tanh recurrent network.
import { ForetokenError } from "../errors.js";
import { native } from "../native.js";
import { activeTape, begin, valueOf, type Weight } from "../tape.js";
import { empty, type Tensor } from "../tensor.js";
import { cast } from "./elementwise.js";
import { checkDType, checkFloat, checkShape } from "./check.js";

/** h[b,t] = tanh(a[b,t] + weight·h[b,t−1]). a (B, T, d), weight (d, d), h0 (B, d) or absent: zeros; result (B, T, d). */
export function rnn(a: Tensor, weight: Weight, h0?: Tensor): Tensor {
  const w = valueOf(weight);
  checkFloat("rnn", "a", a);
  checkShape("rnn", "a", a, ["B", "T", "d"]);
  const [batch = 0, , width = 0] = a.shape;
  checkShape("rnn", "weight", w, [width, width]);
  checkDType("rnn", "weight", w, a.dtype);
  if (h0) {
    checkShape("rnn", "h0", h0, [batch, width]);
    checkDType("rnn", "h0", h0, a.dtype);
  }
  const tape = activeTape();
  if (tape?.wants(h0)) {
    const details = { op: "rnn", argument: "h0", wanted: "a state that wants no gradient", got: "one that does" };
    throw new ForetokenError("BAD_ARGUMENT", details);
  }
  const h = empty(a.shape, { dtype: a.dtype, device: a.device });
  native().rnn(a.handle, w.handle, h0?.handle ?? 0, h.handle);
  if (tape && (tape.wants(a) || tape.wantsWeight(weight))) {
    const saved = tape.save(h);
    const start = h0 && tape.save(h0);
    tape.record(h, start ? [saved, start] : [saved], (dy) => {
      const da = dy.tensor.dtype === a.dtype ? dy.take() : cast(dy.tensor, a.dtype);
      const dw = tape.weightSink(weight);
      native().rnnBackward(
        da.handle,
        saved.tensor.handle,
        w.handle,
        start?.tensor.handle ?? 0,
        da.handle,
        dw.tensor.handle,
        begin(dw),
      );
      if (tape.wants(a)) tape.give(a, da);
    });
  }
  return h;
}
