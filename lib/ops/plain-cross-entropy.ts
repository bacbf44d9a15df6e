// Cross-entropy of logits that are stored, as plain autograd has it: what the fused form is measured against.
import { native } from "../native.js";
import { activeTape, sumDType } from "../tape.js";
import { empty, type Tensor } from "../tensor.js";
import { checkDType, checkFloat, checkShape, dimension } from "./check.js";
import { checkTargets, type Targets } from "./cross-entropy.js";

export interface CrossEntropyOutputs {
  /** (R) f32: −log P(target), 0 where ignored. */
  readonly loss: Tensor;
  /** (R) i32: the likeliest token. */
  readonly argmax: Tensor;
}

/**
 * loss[r] = lse(logits[r]) − logits[r, target], differentiable; logits (…, V) are kept for the backward pass, which makes
 * as large an array again: `linearCrossEntropy` needs neither.
 *
 * @param into where loss and argmax of every row go. Default: new tensors.
 * @example
 * const { loss } = crossEntropy(linear(hidden, unembedding, { dtype: "f32" }), { tokens, shift: 1 });
 */
export function crossEntropy(logits: Tensor, targets: Targets, into?: CrossEntropyOutputs): CrossEntropyOutputs {
  const rows = check(logits, targets, into);
  const { device } = logits;
  const sums = sumDType(logits.dtype);
  const { loss, argmax } = into ?? { loss: empty([rows], { dtype: sums, device }), argmax: argmaxOf(rows, logits) };
  const lse = empty([rows], { dtype: sums, device });
  const [tokens, limit, shift] = [targets.tokens.handle, targets.limit?.handle ?? 0, targets.shift];
  native().crossEntropy(logits.handle, tokens, limit, shift, loss.handle, lse.handle, argmax.handle);
  const tape = activeTape();
  if (tape?.wants(logits)) {
    const saved = [logits, lse, targets.tokens, ...(targets.limit ? [targets.limit] : [])].map((x) => tape.save(x));
    tape.record(loss, saved, (dy) => {
      const [logits_ = 0, lse_ = 0, tokens_ = 0, limit_ = 0] = saved.map(({ tensor }) => tensor.handle);
      const dlogits = empty(logits.shape, { dtype: logits.dtype, device });
      native().crossEntropyBackward(logits_, tokens_, limit_, shift, lse_, dy.tensor.handle, dlogits.handle);
      tape.give(logits, dlogits);
    });
  }
  lse.dispose();
  return { loss, argmax };
}

const argmaxOf = (rows: number, { device }: Tensor): Tensor => empty([rows], { dtype: "i32", device });

function check(logits: Tensor, targets: Targets, into: CrossEntropyOutputs | undefined): number {
  const op = "cross_entropy";
  checkFloat(op, "logits", logits);
  const rows = logits.size / dimension(op, "logits", logits, 1);
  checkTargets(op, rows, targets);
  if (into) {
    checkShape(op, "loss", into.loss, [rows]);
    checkDType(op, "loss", into.loss, sumDType(logits.dtype));
    checkShape(op, "argmax", into.argmax, [rows]);
    checkDType(op, "argmax", into.argmax, "i32");
  }
  return rows;
}
