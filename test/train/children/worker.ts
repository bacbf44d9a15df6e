// Trains in a worker and posts every step's loss.
import { parentPort, workerData } from "node:worker_threads";
import { LanguageModel, tokenDataset, Trainer } from "../../../lib/index.js";
import { exampleTokens, tinyModel } from "../example.js";

const model = LanguageModel.create(tinyModel, { dtype: "bf16", seed: 7 });
const data = tokenDataset(exampleTokens(), { vocabSize: 256 });
for await (const { step, loss } of new Trainer(model, { data, steps: workerData as number, batchSize: 2 })) {
  parentPort?.postMessage({ step, loss });
}
