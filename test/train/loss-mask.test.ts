import { describe, expect, it } from "vitest";
import { tokenDataset, type Dataset, type DatasetItem } from "../../lib/io/dataset.js";
import { validTargets } from "../../lib/io/batch.js";
import { DeviceBatch } from "../../lib/mtp/batch.js";
import type { HeadFamily } from "../../lib/mtp/config.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { PassState, trainPass } from "../../lib/mtp/pass.js";
import { evaluate, score } from "../../lib/train/evaluate.js";
import { Trainer } from "../../lib/train/trainer.js";
import { quickDtype } from "../helpers/levels.js";
import { tinyModel } from "./example.js";

const [T, V, n] = [32, 256, 3];
const newModel = (headFamily: HeadFamily = "parallel", dtype: "f32" | "bf16" = "f32"): LanguageModel =>
  LanguageModel.create({ ...tinyModel, headFamily, initializerRange: 0.2 }, { dtype, seed: 7 });

// Every token occurs once, so that a target tells its place; of each seven, three are no targets, one of them alone.
const length = 6 * T;
const tokens = Array.from({ length }, (_, i) => (i * 7) % 193);
const lossMask = tokens.map((_, i) => (i % 7 === 1 || i % 7 === 4 || i % 7 === 5 ? 0 : 1));
const masked = tokenDataset([{ tokens, lossMask }], { vocabSize: V, crossDocuments: true });

/** −log softmax(logits)[target]. */
function crossEntropy(logits: ArrayLike<number>, target: number): number {
  const values = Array.from(logits);
  const highest = Math.max(...values);
  const sum = values.reduce((total, value) => total + Math.exp(value - highest), 0);
  return highest + Math.log(sum) - (values[target] ?? NaN);
}

/** The mean loss of each head over its unmasked targets, from the whole logits of rows of the stream at these starts. */
async function expectedLosses(model: LanguageModel, starts: readonly number[], wrap: boolean): Promise<number[]> {
  const at = (place: number): number => tokens[place % length] ?? NaN;
  const rows = starts.map((start) => Array.from({ length: T }, (_, t) => at(start + t)));
  const means: number[] = [];
  for (const [i, each] of model.forward(rows).entries()) {
    const logits = await each.toFloats();
    each.dispose();
    let [sum, count] = [0, 0];
    for (const [row, start] of starts.entries()) {
      for (let t = 0; t < T; t++) {
        const place = start + t + i + 1;
        if ((place >= length && !wrap) || lossMask[place % length] === 0) continue;
        const from = (row * T + t) * V;
        sum += crossEntropy(logits.subarray(from, from + V), at(place));
        count++;
      }
    }
    means.push(sum / count);
  }
  return means;
}

describe("reported losses are means over the targets that count", () => {
  it("evaluation, beside the logits", async () => {
    const model = newModel();
    const starts = Array.from({ length: 6 }, (_, window) => window * T);
    const expected = await expectedLosses(model, starts, false);
    const { losses } = await evaluate(model, masked, { batchSize: 4 });
    for (const [i, loss] of losses.entries()) expect(loss).toBeCloseTo(expected[i] ?? NaN, 4);
    const { losses: unmasked } = await evaluate(model, tokenDataset([{ tokens }], { vocabSize: V }), { batchSize: 4 });
    for (const [i, loss] of unmasked.entries()) expect(Math.abs(loss - (losses[i] ?? NaN))).toBeGreaterThan(1e-3);
    model.dispose();
  });

  it("evaluation, beside score", async () => {
    const model = newModel();
    const text = tokens.slice(0, T);
    const mask = lossMask.slice(0, T);
    const scores = (await score(model, text)).filter((_, i) => mask[i + 1] === 1);
    const data = tokenDataset([{ tokens: text, lossMask: mask }], { vocabSize: V });
    const evaluation = await evaluate(model, data, { batchSize: 1 });
    expect(evaluation.tokens).toBe(scores.length);
    expect(evaluation.losses[0]).toBeCloseTo(-scores.reduce((sum, each) => sum + each, 0) / scores.length, 4);
    model.dispose();
  });

  it("training, over two micro-batches", async () => {
    const model = newModel();
    const starts: number[] = [];
    const batches = masked.batches({ batchSize: 1, contextLength: T, lookahead: n, seed: 0 });
    for (const batch of batches) {
      starts.push(tokens.indexOf(batch.tokens[0] ?? NaN));
      if (starts.length === 4) break;
    }
    const expected = await expectedLosses(model, starts, true);
    const trainer = new Trainer(model, { data: masked, steps: 1, batchSize: 2, accumulate: 2 });
    const { losses } = await trainer.run();
    for (const [i, loss] of losses.entries()) expect(loss).toBeCloseTo(expected[i] ?? NaN, 4);
    model.dispose();
  });
});

/** Gradients of one pass over the dataset's only batch; −0 as 0. */
async function gradientsOver(data: Dataset, model: LanguageModel): Promise<Map<string, number[]>> {
  const shape = { batchSize: 2, contextLength: T, lookahead: n };
  const host = data.batches({ ...shape, seed: 0 }).next().value;
  if (!host) throw new Error("the dataset gave no batch");
  const batch = new DeviceBatch(model.device, shape);
  const state = new PassState(model);
  batch.write(host);
  state.scale.write(validTargets(host).map((count) => 1 / count));
  model.parameters.clearGradients();
  trainPass(model, batch, state, true);
  const gradients = new Map<string, number[]>();
  for (const parameter of model.parameters.all)
    gradients.set(
      parameter.name,
      Array.from(await parameter.tensor.toFloats(), (value) => value + 0),
    );
  batch.dispose();
  state.dispose();
  return gradients;
}

describe("tokens under mask 0 behind a document's last target", () => {
  const first = Array.from({ length: 20 }, (_, i) => 3 + i);
  const second = Array.from({ length: 44 }, (_, i) => 60 + i);
  const dataOf = (tokensOfFirst: readonly number[]): Dataset => {
    const items: DatasetItem[] = [
      { tokens: tokensOfFirst, lossMask: tokensOfFirst.map((_, i) => (i === 9 || i >= 16 ? 0 : 1)) },
      { tokens: second },
    ];
    return tokenDataset(items, { vocabSize: V });
  };
  const replaced = (...places: number[]): Dataset =>
    dataOf(first.map((token, i) => (places.includes(i) ? 200 + i : token)));

  it.each([
    ["parallel", "f32"],
    ["parallel", "bf16"],
    ["causal", quickDtype],
    ["anticausal", quickDtype],
    ["linear", quickDtype],
    ["none", quickDtype],
  ] as const)("change no gradient when they change, %s %s", async (family, dtype) => {
    const model = newModel(family, dtype);
    const gradients = await gradientsOver(dataOf(first), model);
    expect(await gradientsOver(replaced(16, 17, 18, 19), model)).toEqual(gradients);
    // A masked token that later targets are predicted from, and the last target itself, do change it.
    expect(await gradientsOver(replaced(9), model)).not.toEqual(gradients);
    expect(await gradientsOver(replaced(15), model)).not.toEqual(gradients);
    model.dispose();
  });
});
