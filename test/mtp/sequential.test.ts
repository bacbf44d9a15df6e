import { describe, expect, it } from "vitest";
import { openDevice, type Device } from "../../lib/device.js";
import { emptyBatch, validTargets, type Batch } from "../../lib/io/batch.js";
import { DeviceBatch } from "../../lib/mtp/batch.js";
import type { ModelOptions } from "../../lib/mtp/config.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { PassState, trainPass } from "../../lib/mtp/pass.js";
import { linearCrossEntropy } from "../../lib/ops/cross-entropy.js";
import { scope } from "../../lib/scope.js";
import { Tape } from "../../lib/tape.js";
import { tensor, type Tensor } from "../../lib/tensor.js";
import { relativeError } from "../helpers/golden.js";
import { normals } from "../helpers/gradcheck.js";

const base = {
  vocabSize: 23,
  hiddenSize: 16,
  trunkLayers: 1,
  numAttentionHeads: 2,
  intermediateSize: 24,
  maxPositions: 9,
  futureTokens: 3,
} as const;
const rnn = {
  vocabSize: 23,
  hiddenSize: 16,
  embeddingSize: 12,
  trunk: "rnn",
  maxPositions: 9,
  futureTokens: 3,
} as const;

const models: Record<string, ModelOptions> = {
  parallel: { ...base, headFamily: "parallel" },
  "parallel, replicated with bias": {
    ...base,
    headFamily: "parallel",
    unembedding: "replicated",
    unembeddingBias: true,
  },
  causal: { ...base, headFamily: "causal" },
  "causal, replicated": { ...base, headFamily: "causal", unembedding: "replicated" },
  anticausal: { ...base, headFamily: "anticausal" },
  "anticausal, grouped key/value heads": { ...base, headFamily: "anticausal", numKeyValueHeads: 1 },
  linear: { ...base, headFamily: "linear" },
  "linear, tied": { ...base, headFamily: "linear", tieWordEmbeddings: true },
  none: { ...base, headFamily: "none" },
  "one head": { ...base, futureTokens: 1 },
  "heads without a trunk layer": { ...base, trunkLayers: 0 },
  "rnn, none": { ...rnn, unembeddingBias: true },
  "rnn, linear with final norm": { ...rnn, headFamily: "linear", finalNorm: true },
};

/** Two rows with documents that end inside them and some masked targets. */
function someBatch(): Batch {
  const batch = emptyBatch({ batchSize: 2, contextLength: 9, lookahead: 3 }, 0);
  const next = normals(5);
  for (let i = 0; i < batch.tokens.length; i++)
    batch.targets[i] = batch.tokens[i] = Math.abs(Math.round(next() * 8)) % 23;
  batch.targets[4] = -100;
  for (let row = 0; row < 2; row++) {
    const end = row === 0 ? 5 : 20; // the first row's first document ends at column 5
    for (let t = 0; t < 9; t++) {
      batch.limit[row * 9 + t] = t <= end ? Math.min(end, 11) : 11;
      batch.firstKey[row * 9 + t] = t <= end ? 0 : end + 1;
    }
  }
  return batch;
}

/** The naive graph: every head's loss on one tape, backward once from their weighted sum. */
function naiveGradients(model: LanguageModel, host: Batch, batch: DeviceBatch, weights: readonly number[]): void {
  const tape = new Tape();
  scope(() => {
    const { batchSize, contextLength: length, lookahead } = host;
    const seeds = tape.run(() => {
      const z = model.trunk.forward(batch.tokens, length, { firstKey: batch.firstKey });
      const losses: [Tensor, Tensor][] = [];
      let input = z;
      for (const head of model.headsInOrder) {
        const output = head.module.forward(input, { firstKey: batch.firstKey });
        const shifted = Int32Array.from({ length: batchSize * length }, (_, i) => {
          const [row, t] = [Math.floor(i / length), i % length];
          const column = t + head.ahead;
          return column <= (host.limit[i] ?? -1) ? (host.targets[row * (length + lookahead) + column] ?? -100) : -100;
        });
        const targets = tensor(shifted, { dtype: "i32", device: model.device, shape: [batchSize, length] });
        const loss = linearCrossEntropy(model.finish(output), head.unembedding.weight, targets, {
          bias: head.unembedding.bias,
        });
        const weight = tensor([weights[head.ahead - 1] ?? 0], { dtype: loss.dtype, device: model.device, shape: [1] });
        losses.push([loss, weight]);
        if (model.topology === "chain") input = output;
      }
      return losses;
    });
    tape.backward(seeds);
  });
  tape.dispose();
}

async function gradientsOf(model: LanguageModel): Promise<Map<string, ArrayLike<number>>> {
  const gradients = new Map<string, ArrayLike<number>>();
  for (const parameter of model.parameters.all) {
    expect(parameter.filled, `${parameter.name} has a gradient`).toBe(true);
    gradients.set(parameter.name, Float64Array.from(await parameter.tensor.toFloats()));
  }
  return gradients;
}

async function compare(options: ModelOptions, device: Device, dtype: "f32" | "f64"): Promise<number> {
  const weights = [1, 0.5, 0.25].slice(0, options.futureTokens);
  const model = LanguageModel.create(options, { device, dtype, seed: 3 });
  const full = someBatch();
  const host = { ...full, ...trimmed(full, options.futureTokens ?? 3) };
  const batch = new DeviceBatch(device, host);
  batch.write(host);
  const state = new PassState(model);
  const counts = validTargets(host);
  state.scale.write(weights.map((weight, i) => weight / (counts[i] ?? 1)));
  trainPass(model, batch, state, true);
  const sequential = await gradientsOf(model);
  model.parameters.clearGradients();
  naiveGradients(model, host, batch, weights);
  const naive = await gradientsOf(model);
  batch.dispose();
  state.dispose();
  model.dispose();
  return Math.max(...[...sequential].map(([name, gradient]) => relativeError(gradient, naive.get(name) ?? [])));
}

/** The batch with only n tokens of lookahead. */
function trimmed(batch: Batch, n: number): Partial<Batch> {
  const columns = batch.contextLength + n;
  const cut = (from: Int32Array): Int32Array =>
    Int32Array.from({ length: 2 * columns }, (_, i) => from[Math.floor(i / columns) * 12 + (i % columns)] ?? 0);
  return {
    lookahead: n,
    tokens: cut(batch.tokens),
    targets: cut(batch.targets),
    limit: batch.limit.map((last) => Math.min(last, columns - 1)),
  };
}

describe("the sequential head backward equals the naive graph, gradient for gradient", () => {
  const oracle = openDevice("cpu", { simd: "generic" });

  it.each(Object.entries(models))("%s, f64", async (_name, options) => {
    expect(await compare(options, oracle, "f64")).toBeLessThan(1e-12);
  });

  it.each(Object.entries(models))("%s, f32 at the machine's own level", async (_name, options) => {
    expect(await compare(options, openDevice(), "f32")).toBeLessThan(2e-6);
  });

  it("leaves nothing behind", async () => {
    const before = oracle.memory().live;
    await compare(models["causal"] ?? base, oracle, "f64");
    expect(oracle.memory().live).toBe(before);
  });
});
