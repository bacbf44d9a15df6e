// Multi-token cross-entropy over any heads: the terminal loss for training steps written by hand.
import { ForetokenError } from "../errors.js";
import { linearCrossEntropyTrain, type LossSettings } from "../ops/cross-entropy.js";
import { METRIC_COLUMNS, multiTokenMetrics } from "../ops/metrics.js";
import { scope } from "../scope.js";
import { gradientBuffer, sumDType, type Parameter, type GradientBuffer } from "../tape.js";
import { empty, tensor, type Tensor } from "../tensor.js";
import { headWeightsAt, type HeadWeights } from "./head-weights.js";
import { sequentialHeadBackward, settled, type Head } from "./heads.js";

/** The trunk's output (B, T, d) and the heads as functions of it, each (B, T, d) → (B, T, d). */
export interface TrunkAndHeads {
  readonly trunkOutput: Tensor;
  readonly heads: readonly ((z: Tensor) => Tensor)[];
}

export interface MultiTokenCrossEntropyOptions extends Omit<LossSettings, "bias"> {
  /** Default "equal": the plain sum of the heads' means (arXiv 2404.19737). */
  headWeights?: HeadWeights | undefined;
  /** (B, T) i32: the last position of each position's document. */
  limit?: Tensor | undefined;
  /** Valid targets of each head, what its loss is divided by. Default: B·T. */
  validTargets?: readonly number[] | undefined;
}

export interface MultiTokenLoss {
  /** (n, B·T) f32: −log P(target), 0 where ignored. */
  readonly loss: Tensor;
  /** (n, B·T) i32. */
  readonly argmax: Tensor;
  /** (n, 8) f32: see `multi_token_metrics` in kernels.h. */
  readonly sums: Tensor;
  /** Gradients with respect to the hidden states given, or the one with respect to the trunk's output. */
  readonly gradients: readonly Tensor[];
}

/**
 * Loss and gradients of n heads in one pass: head i's hidden state at position t predicts tokens[b, t + i]. Terminal: it
 * knows every weight, adds the unembedding's gradient to `unembedding` and returns those of the hidden states. With heads
 * given as functions it is the sequential head backward, and peak memory is that of one head.
 *
 * @param input n hidden states (B, T, d), head 1 first, or the trunk's output and the heads.
 * @param unembedding (V, d), shared, or one per head.
 * @param tokens (B, S) i32 with S ≥ T + n; negative targets are ignored.
 * @example
 * const { loss, gradients: [dz] } = multiTokenCrossEntropy({ trunkOutput: z, heads }, unembedding, tokens);
 */
export function multiTokenCrossEntropy(
  input: readonly Tensor[] | TrunkAndHeads,
  unembedding: Parameter | readonly Parameter[],
  tokens: Tensor,
  options: MultiTokenCrossEntropyOptions = {},
): MultiTokenLoss {
  const { trunkOutput, heads } = "heads" in input ? input : { trunkOutput: undefined, heads: input };
  const like = trunkOutput ?? heads[0];
  if (!like)
    throw new ForetokenError("BAD_ARGUMENT", {
      op: "multi_token_cross_entropy",
      argument: "heads",
      wanted: "at least one head",
      got: "none",
    });
  return scope(() => {
    const n = heads.length;
    const { device } = like;
    const rows = like.size / (like.shape.at(-1) ?? 1);
    const dtype = sumDType(like.dtype) as "f32" | "f64";
    const fresh = (shape: number[], as: "f32" | "f64" | "i32"): Tensor => empty(shape, { dtype: as, device });
    const outputs = {
      loss: fresh([n, rows], dtype),
      argmax: fresh([n, rows], "i32"),
      sums: fresh([n, METRIC_COLUMNS], dtype),
    };
    const counts = options.validTargets ?? heads.map(() => rows);
    const weights = headWeightsAt(options.headWeights ?? "equal", n, 1);
    const scale = tensor(
      weights.map((weight, i) => weight / Math.max(1, counts[i] ?? 1)),
      { dtype, device },
    );
    const lossOf =
      (i: number) =>
      (hidden: Tensor): Tensor => {
        const weight = "name" in unembedding ? unembedding : unembedding[i];
        if (!weight)
          throw new ForetokenError("BAD_ARGUMENT", {
            op: "multi_token_cross_entropy",
            argument: "unembedding",
            wanted: `one, or ${n}`,
            got: String(unembeddingCount(unembedding)),
          });
        return linearCrossEntropyTrain(
          hidden,
          weight,
          weight,
          undefined,
          { tokens, limit: options.limit, shift: i + 1 },
          {
            ...options,
            scale: scale.view([1], i),
            loss: outputs.loss.view([rows], i * rows),
            argmax: outputs.argmax.view([rows], i * rows),
          },
        );
      };
    const gradients = trunkOutput
      ? [
          trunkGradient(
            trunkOutput,
            heads.map((forward, i) => ({
              forward,
              finish: (output) => output,
              loss: lossOf(i),
            })),
          ),
        ]
      : heads.map((hidden, i) => lossOf(i)(hidden));
    multiTokenMetrics(outputs.loss, outputs.argmax, { tokens, limit: options.limit }, outputs.sums, false);
    return { ...outputs, gradients };
  });
}

const unembeddingCount = (unembedding: Parameter | readonly Parameter[]): number =>
  "name" in unembedding ? 1 : unembedding.length;

function trunkGradient(z: Tensor, heads: readonly Head[]): Tensor {
  const dz: GradientBuffer = gradientBuffer(z);
  sequentialHeadBackward(heads, "star", z, dz);
  return settled(dz);
}
