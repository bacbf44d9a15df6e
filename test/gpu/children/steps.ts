// Takes training steps or writes tokens, and prints how many reads that took: node steps.ts <train|decode> <count>.
import { generateTokens, LanguageModel, tokenDataset, Trainer } from "../../../lib/index.js";
import { native } from "../../../lib/native.js";
import { exampleTokens, tinyModel } from "../../train/example.js";

let reads = 0;
const addon = native();
const read = addon.read.bind(addon);
addon.read = (tensor) => {
  reads++;
  return read(tensor);
};

const [what, count] = [process.argv[2], Number(process.argv[3])];
const model = LanguageModel.create(tinyModel, { dtype: "bf16", seed: 7 });
if (what === "train") {
  const data = tokenDataset(exampleTokens(), { vocabSize: 256 });
  await new Trainer(model, { data, steps: count, batchSize: 2 }).run();
} else {
  for await (const _ of generateTokens(model, [5, 6, 7], { maxNewTokens: count, speculate: "off" }));
}
console.log(reads);
