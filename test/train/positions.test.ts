// Positions: their figures add up to the evaluation's, and to a count by hand from the logits.
import { expect, test } from "vitest";
import { SequenceDataset } from "../../lib/io/sequence-dataset.js";
import type { ModelOptions } from "../../lib/mtp/config.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { evaluate } from "../../lib/train/evaluate.js";
import { evaluatePositions } from "../../lib/train/positions.js";
import { openDevice } from "../../lib/device.js";

const rows = [
  [3, 1, 4, 1, 5],
  [9, 2, 6],
  [5, 3, 5, 8],
];
const lossMask = [1, 1, 0, 1, 1];
const data = new SequenceDataset(
  rows.map((tokens, i) => (i === 0 ? { tokens, lossMask } : { tokens })),
  { vocabSize: 10 },
);
const models: Record<string, ModelOptions> = {
  rnn: { trunk: "rnn", vocabSize: 10, hiddenSize: 8, futureTokens: 2, unembeddingBias: true, maxPositions: 6 },
  parallel: { vocabSize: 10, hiddenSize: 8, trunkLayers: 1, futureTokens: 2, maxPositions: 6 },
  anticausal: { vocabSize: 10, hiddenSize: 8, headFamily: "anticausal", futureTokens: 2, maxPositions: 6 },
};

test.each(Object.keys(models))("%s: means over all positions are those of evaluate", async (name) => {
  using model = LanguageModel.create(models[name] ?? { hiddenSize: 0 }, { seed: 3 });
  const shape = { batchSize: 2, contextLength: 6 };
  const { losses, accuracies } = await evaluate(model, data, shape);
  const positions = await evaluatePositions(model, data, shape);
  expect(positions).toHaveLength(2);
  for (const [i, head] of positions.entries()) {
    const total = head.targets.reduce((sum, count) => sum + count, 0);
    const mean = (values: readonly (number | null)[]): number =>
      values.reduce<number>((sum, value, t) => sum + (value ?? 0) * (head.targets[t] ?? 0), 0) / total;
    expect(mean(head.losses)).toBeCloseTo(losses[i] ?? NaN, 6);
    expect(mean(head.accuracies)).toBeCloseTo(accuracies[i] ?? NaN, 9);
  }
});

test.each(Object.keys(models))("%s: each position is −ln softmax of its logits and their argmax", async (name) => {
  using model = LanguageModel.create(models[name] ?? { hiddenSize: 0 }, { seed: 3 });
  const positions = await evaluatePositions(model, data, { batchSize: 2, contextLength: 6 });
  const wanted = [1, 2].map((ahead) => ({
    ahead,
    nats: new Array<number>(6).fill(0),
    right: new Array<number>(6).fill(0),
  }));
  const targets = [1, 2].map(() => new Array<number>(6).fill(0));
  for (const [row, tokens] of rows.entries()) {
    const logits = model.forward([tokens]);
    for (const { ahead, nats, right } of wanted) {
      const values = (await logits[ahead - 1]?.toFloats()) ?? [];
      for (let t = 0; t + ahead < tokens.length; t++) {
        if (row === 0 && lossMask[t + ahead] === 0) continue;
        const own = Array.from({ length: 10 }, (_, token) => values[t * 10 + token] ?? NaN);
        const target = tokens[t + ahead] ?? NaN;
        nats[t] = (nats[t] ?? 0) + Math.log(own.reduce((sum, x) => sum + Math.exp(x), 0)) - (own[target] ?? NaN);
        right[t] = (right[t] ?? 0) + (own.indexOf(Math.max(...own)) === target ? 1 : 0);
        targets[ahead - 1]![t]!++;
      }
    }
    for (const tensor of logits) tensor.dispose();
  }
  for (const [i, { nats, right }] of wanted.entries()) {
    expect(positions[i]?.targets).toEqual(targets[i]);
    for (let t = 0; t < 6; t++) {
      const count = targets[i]?.[t] ?? 0;
      const [loss, accuracy] = [positions[i]?.losses[t], positions[i]?.accuracies[t]];
      if (count === 0) expect([loss, accuracy]).toEqual([null, null]);
      else {
        expect(loss).toBeCloseTo((nats[t] ?? NaN) / count, 5);
        expect(accuracy).toBe((right[t] ?? NaN) / count);
      }
    }
  }
});

test("nothing stays on the device", async () => {
  const device = openDevice();
  using model = LanguageModel.create({ vocabSize: 10, hiddenSize: 8, futureTokens: 2, maxPositions: 6 }, { device });
  await evaluatePositions(model, data);
  await device.sync();
  const before = device.memory().live;
  await evaluatePositions(model, data);
  await device.sync();
  expect(device.memory().live).toBe(before);
});
