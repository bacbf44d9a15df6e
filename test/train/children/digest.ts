// Trains a few steps and prints a digest of the weights and of the text the model then writes: node digest.ts <dtype>.
import { createHash } from "node:crypto";
import { byteTokenizer, generateTokens, LanguageModel, tokenDataset, Trainer } from "../../../lib/index.js";
import { exampleTokens, tinyModel } from "../example.js";

const dtype = process.argv[2] as "f32" | "bf16";
const model = LanguageModel.create({ ...tinyModel, hiddenSize: 64 }, { dtype, seed: 7, tokenizer: byteTokenizer() });
await new Trainer(model, { data: tokenDataset(exampleTokens(), { vocabSize: 256 }), steps: 4, batchSize: 6 }).run();
const hash = createHash("sha256");
for (const { master } of model.parameters.all) hash.update(await master.data());
for await (const { token, logProbability } of generateTokens(model, [5, 6, 7], { maxNewTokens: 20, temperature: 1 }))
  hash.update(`${token} ${logProbability}`);
console.log(model.device.simd, hash.digest("hex"));
