// Trains three steps of a model with three heads and prints how many lines the software GPU's report has after each:
// node step-launches.ts <report>.
import { readFileSync } from "node:fs";
import { openDevice } from "../../../lib/device.js";
import { LanguageModel } from "../../../lib/mtp/model.js";
import { TrainingState } from "../../../lib/train/step.js";
import { fullBatch } from "../../helpers/golden.js";
import { tinyModel } from "../../train/example.js";

const [report = ""] = process.argv.slice(2);
const shape = { batchSize: 2, contextLength: 16, lookahead: 3 };
const tokens = Int32Array.from({ length: 2 * (16 + 3) }, (_, i) => (i * 7) % 256);
const device = openDevice("cuda");
const model = LanguageModel.create(
  { ...tinyModel, hiddenSize: 64, trunkLayers: 2 },
  { device, dtype: "bf16", seed: 1 },
);
const state = new TrainingState(model, shape, {});

const lines: number[] = [];
const count = async (): Promise<void> => {
  await device.sync();
  lines.push(readFileSync(report, "utf8").split("\n").length - 1);
};
await count();
for (let step = 0; step < 3; step++) {
  state.enqueue([fullBatch(shape, tokens)], [1, 1, 1], 1e-3);
  await state.report();
  await count();
}
console.log(JSON.stringify(lines));
