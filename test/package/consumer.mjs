// What a user of the installed package types: train ten steps, generate, save, load. Prints one line of JSON.
import { writeFileSync } from "node:fs";
import { byteTokenizer, generate, LanguageModel, openDevice, textDataset, Trainer } from "foretoken";

const line = "export function add(a, b) { return a + b; }\n";
writeFileSync("corpus.js", Array.from({ length: 200 }, (_, i) => line.replace("add", `add${i}`)).join(""));

const device = openDevice("cpu");
const tokenizer = byteTokenizer();
const model = LanguageModel.create(
  { hiddenSize: 64, trunkLayers: 1, numAttentionHeads: 2, maxPositions: 64, futureTokens: 2 },
  { device, tokenizer, dtype: "f32", seed: 1 },
);
const trainer = new Trainer(model, {
  data: textDataset("corpus.js", tokenizer),
  steps: 10,
  batchSize: 2,
  learningRate: 1e-2,
  out: `run-${process.version}`,
});
const losses = [];
for await (const metrics of trainer) losses.push(metrics.loss);

let text = "";
for await (const piece of generate(model, "export ", { maxNewTokens: 16, temperature: 0 })) text += piece;
console.log(JSON.stringify({ losses, text }));
