// Token embedding.
import { native } from "../native.js";
import { activeTape, begin, valueOf, type Weight } from "../tape.js";
import { empty, type Tensor } from "../tensor.js";
import { checkDType, checkFloat, checkNumber, checkShape, dimension } from "./check.js";

export interface EmbeddingOptions {
  /** T: how many columns of tokens are read (default all); the rest are targets. */
  length?: number | undefined;
  /** (4) i32: status[0] becomes 1 when a token lies outside the vocabulary. */
  status?: Tensor | undefined;
}

/** y[b,t] = weight[tokens[b,t]]. tokens (B, S) i32, weight (V, d), y (B, T, d). */
export function embedding(tokens: Tensor, weight: Weight, options: EmbeddingOptions = {}): Tensor {
  const w = valueOf(weight);
  checkDType("embedding", "tokens", tokens, "i32");
  checkShape("embedding", "tokens", tokens, ["B", "S"]);
  checkFloat("embedding", "weight", w);
  checkShape("embedding", "weight", w, ["V", "d"]);
  const stored = dimension("embedding", "tokens", tokens, 1);
  const length = options.length ?? stored;
  checkNumber("embedding", "length", length, length >= 1 && length <= stored, `1 to ${stored}`);
  const y = empty([dimension("embedding", "tokens", tokens, 2), length, dimension("embedding", "weight", w, 1)], {
    dtype: w.dtype,
    device: w.device,
  });
  native().embedding(tokens.handle, w.handle, y.handle, options.status?.handle ?? 0);
  const tape = activeTape();
  if (tape?.wantsWeight(weight)) {
    const saved = tape.save(tokens);
    tape.record(y, [saved], (dy) => {
      const dw = tape.weightSink(weight);
      native().embeddingBackward(dy.tensor.handle, saved.tensor.handle, dw.tensor.handle, begin(dw));
    });
  }
  return y;
}
