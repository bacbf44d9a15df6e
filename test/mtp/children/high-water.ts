// Trains a few steps and prints how far the process's resident memory rose above where it stood before the model.
// Arguments: head family, number of heads, dtype.
import { readFileSync } from "node:fs";
import { LanguageModel, openDevice, tokenDataset, Trainer, type HeadFamily } from "../../../lib/index.js";

const highWater = (): number => Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;

const [family, futureTokens, dtype] = process.argv.slice(2);
const device = openDevice();
const data = tokenDataset([{ tokens: Array.from({ length: 40_000 }, (_, i) => (i * 7919) % 256) }], { vocabSize: 256 });
const config = {
  vocabSize: 256,
  hiddenSize: 256,
  trunkLayers: 3,
  numAttentionHeads: 4,
  maxPositions: 128,
  headFamily: family as HeadFamily,
  futureTokens: Number(futureTokens),
};
await device.sync();
const before = highWater();
const model = LanguageModel.create(config, { device, dtype: dtype as "f32" | "bf16" });
const trainer = new Trainer(model, { data, steps: 3, batchSize: 16 });
const { peakBytes } = await trainer.run();
console.log(JSON.stringify({ grown: highWater() - before, predicted: trainer.predictedPeakBytes, peak: peakBytes }));
