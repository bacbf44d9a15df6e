// The four ways over the heads that the memory study compares: all heads' graphs at once or one head at a time, logits
// stored or the loss fused. Losses and gradients are the same; what is alive when is not.
import { sequentialHeadBackward, settled } from "../mtp/heads.js";
import type { PredictionHead } from "../mtp/model.js";
import { targetsOf, trainedHead, trainHeads, type HeadsRun } from "../mtp/pass.js";
import { linear } from "../ops/linear.js";
import { crossEntropy } from "../ops/plain-cross-entropy.js";
import { native } from "../native.js";
import { scope } from "../scope.js";
import { gradientBuffer, tape } from "../tape.js";
import { empty, type Tensor } from "../tensor.js";

export const arms = ["naive", "sequential", "fused", "sequential + fused"] as const;
export type Arm = (typeof arms)[number];

/** An output of the heads' graph and the gradient that arrives there. */
type Seed = readonly [output: Tensor, gradient: Tensor];

/** Loss of a head whose hidden states (B, T, d) are on a tape. */
type HeadLoss = (run: HeadsRun, head: PredictionHead, hidden: Tensor) => Seed;

export const headsOf: Readonly<Record<Arm, (run: HeadsRun) => void>> = {
  naive: (run) => together(run, storedLoss),
  sequential: (run) => {
    const heads = run.model.headsInOrder.map((head) => ({
      ...trainedHead(run, head),
      loss: (hidden: Tensor) => storedGradient(run, head, hidden),
    }));
    sequentialHeadBackward(heads, run.model.topology, run.z, run.dz);
  },
  fused: (run) => together(run, fusedLoss),
  "sequential + fused": trainHeads,
};

/** Forward of all heads, then one backward over everything: what autograd does with the sum of the losses. */
function together(run: HeadsRun, lossOf: HeadLoss): void {
  scope(() =>
    tape((t) => {
      const z = t.leaf(run.z, run.dz);
      const seeds = run.model.heads.map((head) =>
        scope(() => {
          const each = trainedHead(run, head);
          return lossOf(run, head, each.finish(each.forward(z)));
        }),
      );
      t.backward(seeds);
    }),
  );
}

/** Nothing of (T, V): the gradient of the hidden states comes with the loss. */
const fusedLoss: HeadLoss = (run, head, hidden) => [hidden, trainedHead(run, head).loss(hidden)];

/** The logits (B, T, V) stay until the backward pass, which makes their gradient beside them. */
const storedLoss: HeadLoss = ({ model, batch, state, rows }, head, hidden) => {
  const logits = linear(hidden, head.unembedding.weight, { bias: head.unembedding.bias });
  const into = { loss: rows.lossOf(head), argmax: rows.argmaxOf(head) };
  const { loss } = crossEntropy(logits, targetsOf(head, batch), into);
  const upstream = empty(loss.shape, { dtype: loss.dtype, device: model.device });
  native().fill(upstream.handle, 1);
  native().multiply(upstream.handle, state.scale.view([1], head.ahead - 1).handle, upstream.handle);
  return [loss, upstream];
};

const storedGradient = (run: HeadsRun, head: PredictionHead, hidden: Tensor): Tensor =>
  scope(() =>
    tape((t) => {
      const dhidden = gradientBuffer(hidden);
      const leaf = t.leaf(hidden, dhidden);
      t.backward([scope(() => storedLoss(run, head, leaf))]); // the tape alone keeps the logits
      return settled(dhidden);
    }),
  );
