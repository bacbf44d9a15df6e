// Trains a few steps and prints a digest of the weights and of the text the model then writes:
// node digest.ts <dtype> [steps] [tokens].
import { createHash } from "node:crypto";
import { byteTokenizer, generateTokens, LanguageModel, tokenDataset, Trainer } from "../../../lib/index.js";
import { exampleTokens, tinyModel } from "../example.js";

const [dtype = "bf16", steps = "4", tokens = "20"] = process.argv.slice(2);
const settings = { dtype: dtype as "f32" | "bf16", seed: 7, tokenizer: byteTokenizer() };
const model = LanguageModel.create({ ...tinyModel, hiddenSize: 64 }, settings);
const data = tokenDataset(exampleTokens(), { vocabSize: 256 });
await new Trainer(model, { data, steps: Number(steps), batchSize: 6 }).run();
const hash = createHash("sha256");
for (const { master } of model.parameters.all) hash.update(await master.data());
const text = generateTokens(model, [5, 6, 7], { maxNewTokens: Number(tokens), temperature: 1 });
for await (const { token, logProbability } of text) hash.update(`${token} ${logProbability}`);
console.log(model.device.simd, hash.digest("hex"));
