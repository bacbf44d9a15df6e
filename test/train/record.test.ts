import { describe, expect, it } from "vitest";
import { openDevice } from "../../lib/device.js";
import { tokenDataset } from "../../lib/io/dataset.js";
import { DeviceBatch } from "../../lib/mtp/batch.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { PassState, trainPass } from "../../lib/mtp/pass.js";
import { AdamW } from "../../lib/train/optimizer.js";
import { onSoftwareGpu, quickDtypes } from "../helpers/levels.js";
import { exampleTokens, tinyModel } from "./example.js";

const shape = { batchSize: onSoftwareGpu ? 1 : 4, contextLength: 32, lookahead: 3 };
const batches = [...tokenDataset(exampleTokens(), { vocabSize: 256 }).batches({ ...shape, epochs: 1 })].slice(0, 6);

/** Weights after six steps, the last five of them run directly or replayed from a recording of the kernels. */
async function train(recorded: boolean, dtype: "f32" | "bf16"): Promise<ArrayLike<number>[]> {
  const device = openDevice();
  const before = device.memory().live;
  const model = LanguageModel.create(tinyModel, { dtype, seed: 7, device });
  const batch = new DeviceBatch(device, shape);
  const state = new PassState(model);
  const optimizer = new AdamW(model.parameters.all);
  const kernels = (): void => {
    model.parameters.clearGradients();
    trainPass(model, batch, state, true);
    optimizer.apply(state.status);
  };
  const prepare = (step: number): void => {
    const next = batches[step];
    if (!next) throw new Error("no batch");
    batch.write(next);
    state.scale.write([1 / 100, 1 / (90 + step), 1 / 80]);
    optimizer.prepare(1e-2 / (step + 1));
  };
  prepare(0);
  kernels(); // gradients get their storage
  const recording = recorded ? device.record(kernels) : undefined;
  for (let step = 1; step < batches.length; step++) {
    prepare(step);
    if (recording) recording.replay();
    else kernels();
  }
  const weights = await Promise.all(model.parameters.all.map(({ master }) => master.data()));
  recording?.dispose();
  for (const each of [optimizer, state, batch, model]) each.dispose();
  expect(device.memory().live).toBe(before);
  return weights;
}

describe("a recorded training step", () => {
  it.each(quickDtypes)("replayed with new batches and rates gives the same bytes as running it, %s", async (dtype) => {
    const direct = await train(false, dtype);
    expect(await train(true, dtype)).toEqual(direct);
  });
});
