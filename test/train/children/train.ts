// Trains a tiny model: node train.ts <out> <steps> <dtype> [resume] [save every]. Prints the last step's metrics.
import { byteTokenizer, LanguageModel, tokenDataset, Trainer } from "../../../lib/index.js";
import { exampleTokens, tinyModel } from "../example.js";

const [out = "", steps = "", dtype = "f32", resume = "", saveEvery = "10"] = process.argv.slice(2);
const model = LanguageModel.create(tinyModel, { dtype: dtype as "f32" | "bf16", seed: 7, tokenizer: byteTokenizer() });
const trainer = new Trainer(model, {
  data: tokenDataset(exampleTokens(), { vocabSize: 256 }),
  steps: Number(steps),
  batchSize: 4,
  warmupSteps: 3,
  schedule: "constant",
  saveEvery: Number(saveEvery),
  keep: 3,
  out,
  resume: resume === "resume",
  onStep: ({ step, loss }) => process.stdout.write(`${JSON.stringify({ step, loss })}\n`),
});
await trainer.run();
