// A Llama layer: causal attention with rotary positions and a gated feed-forward, each behind a norm and added to the
// residual stream. Parameter names are Hugging Face's.
import { attention, attentionCached, rope_, ropeAppend, type CacheRows } from "../ops/attention.js";
import { gatherRows } from "../ops/elementwise.js";
import { linear, packJointly, packWeight } from "../ops/linear.js";
import { reshape } from "../ops/reshape.js";
import { rmsNorm } from "../ops/rms-norm.js";
import { swiglu } from "../ops/swiglu.js";
import { scope } from "../scope.js";
import type { Parameter, Weight } from "../tape.js";
import { zeros, type Tensor } from "../tensor.js";
import { moveRows, type Module, type ModuleCache, type SequenceContext, type SomeRows } from "./module.js";
import type { ParameterStore } from "./parameters.js";

export interface TransformerSize {
  readonly hiddenSize: number;
  readonly numAttentionHeads: number;
  readonly numKeyValueHeads: number;
  readonly intermediateSize: number;
  readonly ropeTheta: number;
  readonly rmsNormEps: number;
  /** Standard deviation of a weight at the start. */
  readonly initializerRange: number;
  /** Layers on the longest path through the model: the start of what is added to the residual stream shrinks with it. */
  readonly depth: number;
}

type Matrices = Record<"query" | "key" | "value" | "output" | "gate" | "up" | "down", Weight>;

/** Packed; inputs: for queries, keys and values. */
type CachedWeights = Record<"inputs" | "output" | "gate" | "up" | "down", Tensor>;

export class TransformerLayer implements Module {
  private readonly inputNorm: Parameter;
  private readonly postNorm: Parameter;
  private readonly matrices: Record<keyof Matrices, Parameter>;
  private readonly headWidth: number;

  constructor(
    store: ParameterStore,
    name: string,
    private readonly size: TransformerSize,
  ) {
    const { hiddenSize: d, numAttentionHeads: heads, numKeyValueHeads: groups, intermediateSize: f } = size;
    this.headWidth = d / heads;
    const std = size.initializerRange;
    const residualStd = std / Math.sqrt(2 * size.depth);
    const matrix = (part: string, rows: number, columns: number, spread = std): Parameter =>
      store.create(`${name}.${part}.weight`, [rows, columns], { std: spread });
    this.inputNorm = store.create(`${name}.input_layernorm.weight`, [d], "ones");
    const query = matrix("self_attn.q_proj", d, d);
    const key = matrix("self_attn.k_proj", groups * this.headWidth, d);
    const value = matrix("self_attn.v_proj", groups * this.headWidth, d);
    const output = matrix("self_attn.o_proj", d, d, residualStd);
    this.postNorm = store.create(`${name}.post_attention_layernorm.weight`, [d], "ones");
    const gate = matrix("mlp.gate_proj", f, d);
    const up = matrix("mlp.up_proj", f, d);
    const down = matrix("mlp.down_proj", d, f, residualStd);
    this.matrices = { query, key, value, output, gate, up, down };
  }

  /** x (B, T, d) → (B, T, d). */
  forward(x: Tensor, context: SequenceContext): Tensor {
    const { ropeTheta: theta, rmsNormEps } = this.size;
    const period = x.shape[1];
    return scope(() => {
      const middle = scope(() => {
        const [q, k, v] = scope(() => {
          const normed = rmsNorm(x, this.inputNorm, rmsNormEps);
          const { query, key, value } = this.matrices;
          const perHead = (w: Weight): Tensor => splitHeads(linear(normed, w), this.headWidth);
          return [
            rope_(perHead(query), { theta, period }),
            rope_(perHead(key), { theta, period }),
            perHead(value),
          ] as const;
        });
        const mixed = attention(q, k, v, { firstKey: context.firstKey });
        return linear(mergeHeads(mixed), this.matrices.output, { residual: x });
      });
      return this.feedForward(middle, this.matrices);
    });
  }

  newCache(slots: number, capacity: number): ModuleCache {
    const { numKeyValueHeads } = this.size;
    const { value } = this.inputNorm;
    const shape = [slots, numKeyValueHeads, capacity, this.headWidth];
    const cache = (): Tensor => zeros(shape, { dtype: value.dtype, device: value.device, tag: "cache" });
    const [keys, values] = [cache(), cache()];
    const { query, key, value: valueMatrix, ...others } = this.matrices;
    const weights: CachedWeights = {
      inputs: packJointly([query, key, valueMatrix]),
      output: packWeight(others.output),
      gate: packWeight(others.gate),
      up: packWeight(others.up),
      down: packWeight(others.down),
    };
    return {
      forward: (x, rows, some) => this.forwardCached(x, rows, some, { keys, values, weights }),
      remember: (x, rows) => {
        scope(() => {
          this.remember(x, rows, keys, values, weights);
        });
      },
      move: (moves) => moveRows(moves, keys, values),
      dispose: () => {
        for (const each of [keys, values, ...Object.values(weights)]) each.dispose();
      },
    };
  }

  private forwardCached(
    x: Tensor,
    all: CacheRows,
    some: SomeRows | undefined,
    { keys, values, weights }: { readonly keys: Tensor; readonly values: Tensor; readonly weights: CachedWeights },
  ): Tensor {
    return scope(() => {
      const wanted = (of: Tensor): Tensor => (some ? gatherRows(of, some.index) : of);
      const q = splitHeads(wanted(mergeHeads(this.remember(x, all, keys, values, weights))), this.headWidth);
      const mixed = mergeHeads(attentionCached(q, keys, values, some?.rows ?? all));
      return this.feedForward(linear(mixed, weights.output, { residual: wanted(x) }), weights);
    });
  }

  /** Writes keys and values of the rows to the cache; returns the queries (R, H, D). */
  private remember(x: Tensor, rows: CacheRows, keys: Tensor, values: Tensor, { inputs }: CachedWeights): Tensor {
    return scope(() => {
      const qkv = linear(rmsNorm(x, this.inputNorm, this.size.rmsNormEps), inputs);
      return ropeAppend(qkv, this.size.ropeTheta, rows, keys, values);
    });
  }

  /** gate and up are half of what a layer would keep for a tenth of its products: they are computed again. */
  private feedForward(x: Tensor, { gate, up, down }: Pick<Matrices, "gate" | "up" | "down">): Tensor {
    return scope(() => {
      const product = scope(() => {
        const [gated, raised] = scope(() => {
          const normed = rmsNorm(x, this.postNorm, this.size.rmsNormEps);
          return [linear(normed, gate, { recompute: true }), linear(normed, up, { recompute: true })] as const;
        });
        return swiglu(gated, raised);
      });
      return linear(product, down, { residual: x });
    });
  }
}

/** (…, H·D) → (…, H, D), the same memory. */
const splitHeads = (x: Tensor, width: number): Tensor =>
  reshape(x, [...x.shape.slice(0, -1), (x.shape.at(-1) ?? 0) / width, width]);
/** (…, H, D) → (…, H·D), the same memory. */
const mergeHeads = (x: Tensor): Tensor =>
  reshape(x, [...x.shape.slice(0, -2), (x.shape.at(-2) ?? 0) * (x.shape.at(-1) ?? 0)]);
