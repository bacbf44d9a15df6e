// The heart: the sequential head backward (arXiv 2404.19737, section 2). Each head in turn runs forward, its fused loss,
// and backward into one accumulator at the trunk's output, and is freed before the next begins: peak memory is that of
// one head, whatever n.
import { native } from "../native.js";
import { scope } from "../scope.js";
import { gradientBuffer, tape, type GradientBuffer } from "../tape.js";
import type { Tensor } from "../tensor.js";

/** A prediction head as the backward pass sees it. */
export interface Head {
  /** Input of the head (B, T, d) → its output, which the next head of a chain reads. */
  forward(input: Tensor): Tensor;
  /** Output of the head → the hidden states that the unembedding reads: the shared final norm. */
  finish(output: Tensor): Tensor;
  /** Terminal: loss of the hidden states, its gradient with respect to them returned, the unembedding's added in place. */
  loss(hidden: Tensor): Tensor;
}

/** star: every head reads the trunk's output; chain: each reads the output of the one before it in the list. */
export type Topology = "star" | "chain";

/**
 * Loss and gradients of all heads, one at a time. z (B, T, d) is the trunk's output; its gradient is summed into dz, the
 * gradients of all parameters into theirs. A chain first runs forward keeping only its boundaries, then backward from
 * the head furthest from the trunk, recomputing each head in its turn.
 */
export function sequentialHeadBackward(
  heads: readonly Head[],
  topology: Topology,
  z: Tensor,
  dz: GradientBuffer,
): void {
  if (topology === "star") for (const head of heads) headBackward(head, z, dz);
  else scope(() => chainBackward(heads, z, dz));
}

function chainBackward(heads: readonly Head[], z: Tensor, dz: GradientBuffer): void {
  const inputs = chainInputs(heads, z);
  let upstream: Tensor | undefined;
  for (const [i, head] of [...heads.entries()].reverse()) {
    const input = inputs[i] ?? z;
    const dinput = i === 0 ? dz : gradientBuffer(input);
    headBackward(head, input, dinput, upstream);
    if (i > 0) input.dispose();
    upstream = dinput.tensor;
  }
}

/** One head: forward, loss, backward, free. upstream is the gradient that the next head of a chain sends to its output. */
function headBackward(head: Head, input: Tensor, dinput: GradientBuffer, upstream?: Tensor): void {
  scope(() =>
    tape((t) => {
      const output = head.forward(t.leaf(input, dinput));
      const hidden = head.finish(output);
      if (upstream) t.give(output, upstream);
      t.backward([[hidden, head.loss(hidden)]]);
    }),
  );
}

/** What each head of a chain reads: z, then every output but the last. */
function chainInputs(heads: readonly Head[], z: Tensor): Tensor[] {
  const inputs = [z];
  for (const head of heads.slice(0, -1)) {
    const input = inputs.at(-1) ?? z;
    inputs.push(scope(() => head.forward(input)));
  }
  return inputs;
}

/** The buffer's value; zeros where nothing was summed. */
export function settled(buffer: GradientBuffer): Tensor {
  if (!buffer.filled) native().fill(buffer.tensor.handle, 0);
  buffer.filled = true;
  return buffer.tensor;
}
