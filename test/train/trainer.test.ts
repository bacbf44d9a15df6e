import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { openDevice } from "../../lib/device.js";
import { diskFileSystem, type FileSystem } from "../../lib/io/files.js";
import { byteTokenizer } from "../../lib/io/tokenizer.js";
import type { Batch } from "../../lib/io/batch.js";
import { tokenDataset, type BatchOptions, type Dataset } from "../../lib/io/dataset.js";
import { openSafetensors, writeSafetensors, type SavedTensor } from "../../lib/io/safetensors.js";
import { LanguageModel, type ModelSettings } from "../../lib/mtp/model.js";
import { refreshValue } from "../../lib/nn/parameters.js";
import { evaluate, score } from "../../lib/train/evaluate.js";
import type { EvalMetrics, StepMetrics } from "../../lib/train/metrics.js";
import type { TrainerOptions } from "../../lib/train/settings.js";
import { Trainer } from "../../lib/train/trainer.js";
import { runChild } from "../helpers/child.js";
import { levels, onSoftwareGpu, openLevel, quickDtype, quickDtypes } from "../helpers/levels.js";
import { exampleTokens, tinyModel } from "./example.js";

const data = tokenDataset(exampleTokens(), { vocabSize: 256 });
const heldOut = tokenDataset(exampleTokens(onSoftwareGpu ? 2 : 6), { vocabSize: 256 });

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "foretoken-train-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

// A step of a software GPU takes a third of a second for each row.
const batchSize = onSoftwareGpu ? 1 : 4;

const newModel = (settings: ModelSettings = {}): LanguageModel =>
  LanguageModel.create(tinyModel, { dtype: quickDtype, seed: 7, tokenizer: byteTokenizer(), ...settings });

async function train(options: Partial<TrainerOptions> = {}, model = newModel()): Promise<StepMetrics[]> {
  const all: StepMetrics[] = [];
  for await (const metrics of new Trainer(model, { data, steps: 5, batchSize, ...options })) all.push(metrics);
  return all;
}

async function weightsOf(model: LanguageModel): Promise<Map<string, ArrayLike<number>>> {
  const weights = new Map<string, ArrayLike<number>>();
  for (const { name, master } of model.parameters.all) weights.set(name, await master.data());
  return weights;
}

/** Rewrites a file of a checkpoint. The person who edits one removes the sums, as the error says. */
async function editJson(path: string, name: string, edit: (content: Record<string, unknown>) => object): Promise<void> {
  const file = join(path, name);
  await writeFile(file, JSON.stringify(edit(JSON.parse(await readFile(file, "utf8")) as Record<string, unknown>)));
  await rm(join(path, "SHA256SUMS"));
}

async function truncate(file: string): Promise<void> {
  await writeFile(file, (await readFile(file)).subarray(0, 5000));
}

async function flipBit(file: string): Promise<void> {
  const bytes = await readFile(file);
  bytes[bytes.length - 7] = (bytes.at(-7) ?? 0) ^ 4;
  await writeFile(file, bytes);
}

describe("learning", () => {
  // Too many steps for a software GPU, on which test/gpu/training.test.ts learns.
  it.skipIf(onSoftwareGpu).each(["f32", "bf16"] as const)("brings the loss of every head down, %s", async (dtype) => {
    const metrics = await train({ steps: 120, learningRate: 1e-2 }, newModel({ dtype }));
    const [first, last] = [metrics[0], metrics.at(-1)];
    expect(metrics.map(({ step }) => step)).toEqual(Array.from({ length: 120 }, (_, i) => i + 1));
    for (const i of [0, 1, 2]) {
      expect(first?.losses[i]).toBeGreaterThan(5);
      expect(last?.losses[i]).toBeLessThan(3);
    }
    expect(last?.accuracies[0]).toBeGreaterThan(0.5);
    expect(last?.loss).toBeCloseTo(last?.losses.reduce((a, b) => a + b) ?? NaN, 5);
    expect(last?.peakBytes).toBeGreaterThan(0);
    expect(last?.tokens).toBe(120 * batchSize * 32);
  });

  it("gives the same gradients for one batch and for two micro-batches of half of it", async () => {
    const [whole, halves] = [newModel({ dtype: "f32" }), newModel({ dtype: "f32" })];
    const a = await train({ steps: 1, batchSize: 2 * batchSize, learningRate: 1e-2 }, whole);
    const b = await train({ steps: 1, accumulate: 2, learningRate: 1e-2 }, halves);
    expect(b[0]?.gradientNorm).toBeCloseTo(a[0]?.gradientNorm ?? NaN, 4);
    for (const i of [0, 1, 2]) expect(b[0]?.losses[i]).toBeCloseTo(a[0]?.losses[i] ?? NaN, 5);
  });

  // A software GPU's bits are held by test/gpu/determinism.test.ts.
  it.skipIf(onSoftwareGpu).each(levels())("is bit-identical from run to run at level %s", async (simd) => {
    const device = openLevel(simd);
    const [a, b] = [newModel({ device, dtype: "bf16" }), newModel({ device, dtype: "bf16" })];
    await train({ steps: 4 }, a);
    await train({ steps: 4 }, b);
    expect(await weightsOf(a)).toEqual(await weightsOf(b));
  });

  // Of what the data gives: the device plays no part.
  it.skipIf(onSoftwareGpu).each([
    [4, 1, 3],
    [3, 2, 2],
    [6, 1, 2],
    [12, 1, 1],
  ])("reads every token twice in two epochs, batches of %i × %i: %i steps", async (batchSize, accumulate, steps) => {
    const inner = tokenDataset([{ tokens: Array.from({ length: 192 }, (_, i) => i) }], { vocabSize: 256 });
    const reads = new Array<number>(192).fill(0);
    const counting = Object.create(inner, {
      batches: {
        *value(options: BatchOptions): Generator<Batch> {
          for (const batch of inner.batches(options)) {
            for (let row = 0; row < batch.batchSize; row++)
              for (const token of batch.tokens.subarray(row * 35, row * 35 + 32))
                reads[token] = (reads[token] ?? 0) + 1;
            yield batch;
          }
        },
      },
    }) as Dataset;
    const metrics = await train({ data: counting, steps: undefined, epochs: 2, batchSize, accumulate });
    expect(metrics).toHaveLength(steps);
    expect(reads).toEqual(new Array<number>(192).fill(2));
  });

  it("takes one more step for the rest of an epoch", () => {
    const small = tokenDataset([{ tokens: Array.from({ length: 192 }, (_, i) => i) }], { vocabSize: 256 });
    const stepsOf = (batchSize: number): number =>
      new Trainer(newModel(), { data: small, epochs: 2, batchSize }).settings.steps;
    expect([5, 7, 11, 13].map(stepsOf)).toEqual([3, 2, 2, 1]);
  });

  it("scales the heads' losses by their weights", async () => {
    const only = newModel();
    const before = await weightsOf(only);
    await train({ steps: 1, headWeights: [1, 0, 0], weightDecay: 0, warmupSteps: 0 }, only);
    const after = await weightsOf(only);
    expect(after.get("extra_heads.0.mlp.up_proj.weight")).toEqual(before.get("extra_heads.0.mlp.up_proj.weight"));
    expect(after.get("model.layers.1.mlp.up_proj.weight")).not.toEqual(before.get("model.layers.1.mlp.up_proj.weight"));
  });
});

describe("resuming", () => {
  const half = onSoftwareGpu ? 1 : 10;
  const last = `step-${String(2 * half).padStart(8, "0")}`;

  it.each(quickDtypes)("all steps = half + a new process + the other half, as bytes, %s", async (dtype) => {
    const run = async (...args: string[]): Promise<string> => {
      const child = await runChild("train/children/train.ts", { args });
      expect(child.stderr).toBe("");
      expect(child.code).toBe(0);
      return child.stdout;
    };
    const [whole, halves] = [join(folder, "whole"), join(folder, "halves")];
    const straight = await run(whole, String(2 * half), dtype);
    const resumed = (await run(halves, String(half), dtype)) + (await run(halves, String(2 * half), dtype, "resume"));
    expect(resumed).toBe(straight);
    const files = (await readdir(join(whole, "checkpoints", last))).sort();
    expect(files).toEqual([
      "SHA256SUMS",
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "optimizer.safetensors",
      "state.json",
      "tokenizer.json",
    ]);
    for (const file of files) {
      const read = (from: string): Promise<Buffer> => readFile(join(from, "checkpoints", last, file));
      expect((await read(halves)).equals(await read(whole)), file).toBe(true);
    }
    const steps = (await readFile(join(halves, "metrics.jsonl"), "utf8")).trim().split("\n");
    expect(steps.map((line) => (JSON.parse(line) as StepMetrics).step)).toEqual(
      Array.from({ length: 2 * half }, (_, i) => i + 1),
    );
  });

  // One run, which every test below spoils or goes on from in a copy of its own.
  let trained = "";
  beforeAll(async () => {
    trained = await mkdtemp(join(tmpdir(), "foretoken-trained-"));
    await train({ out: trained });
  });
  afterAll(() => rm(trained, { recursive: true }));

  async function copyOfRun(): Promise<string> {
    const out = join(folder, "run");
    await cp(trained, out, { recursive: true });
    return out;
  }

  it.each([
    [
      "another config",
      {},
      { futureTokens: 2 },
      "BAD_CHECKPOINT",
      /futureTokens: expected 3 as in the checkpoint, got 2/,
    ],
    ["another seed", { seed: 1 }, {}, "BAD_CHECKPOINT", /seed: expected 0/],
    ["other data", { data: heldOut }, {}, "BAD_DATA", /data changed since the checkpoint/],
  ] as const)("refuses %s", async (_name, options, config, code, message) => {
    const out = await copyOfRun();
    const other = LanguageModel.create({ ...tinyModel, ...config }, { dtype: quickDtype, seed: 7 });
    await expect(train({ out, resume: true, steps: 8, ...options }, other)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    });
  });

  it("goes on with changed data when allowed", async () => {
    const out = await copyOfRun();
    const more = await train({ out, resume: true, steps: 6, data: heldOut, allowChangedData: true });
    expect(more.map(({ step }) => step)).toEqual([6]);
  });

  it.each([
    ["truncated moments", (path) => truncate(join(path, "optimizer.safetensors")), /optimizer\.safetensors.*SHA-256/],
    [
      "truncated moments without sums",
      async (path) => {
        await truncate(join(path, "optimizer.safetensors"));
        await rm(join(path, "SHA256SUMS"));
      },
      /optimizer\.safetensors/,
    ],
    ["bit-flipped moments", (path) => flipBit(join(path, "optimizer.safetensors")), /optimizer\.safetensors.*SHA-256/],
    ["no moments", (path) => rm(join(path, "optimizer.safetensors")), /optimizer\.safetensors.*no such file/],
    ["no state", (path) => rm(join(path, "state.json")), /state\.json/],
    [
      "a state without its step",
      (path) => editJson(path, "state.json", (state) => ({ ...state, step: undefined })),
      /state\.json: step: expected a number, got nothing/,
    ],
  ] as [string, (path: string) => Promise<void>, RegExp][])(
    "refuses a checkpoint with %s, and loses nothing",
    async (_name, spoil, message) => {
      const out = await copyOfRun();
      await spoil(join(out, "checkpoints", "step-00000005"));
      const model = newModel();
      const [before, weights] = [model.device.memory().live, await weightsOf(model)];
      await expect(train({ out, resume: true, steps: 8 }, model)).rejects.toMatchObject({
        code: "BAD_CHECKPOINT",
        message: expect.stringMatching(message) as string,
      });
      expect(model.device.memory().live).toBe(before);
      expect(await weightsOf(model)).toEqual(weights);
    },
  );

  it("refuses a model of another dtype, and loses nothing", async () => {
    const out = await copyOfRun();
    const [was, is] = quickDtype === "f32" ? (["f32", "bf16"] as const) : (["bf16", "f32"] as const);
    const model = newModel({ dtype: is });
    const before = model.device.memory().live;
    await expect(train({ out, resume: true, steps: 8 }, model)).rejects.toMatchObject({
      code: "BAD_CHECKPOINT",
      message: expect.stringContaining(`dtype: expected ${was} as in the checkpoint, got ${is}`) as string,
    });
    expect(model.device.memory().live).toBe(before);
  });

  it("warns where the checkpoint was made at another SIMD level, and goes on", async () => {
    const out = await copyOfRun();
    await editJson(join(out, "checkpoints", "step-00000005"), "state.json", (state) => ({ ...state, simd: "other" }));
    const trainer = new Trainer(newModel(), { data, steps: 7, batchSize, out, resume: true });
    const { step } = await trainer.run();
    expect(step).toBe(7);
    expect(trainer.warnings).toEqual([
      expect.stringMatching(/SIMD level other, this machine runs \w+: resuming is not bit-exact/),
    ]);
  });

  it("refuses to overwrite a run", async () => {
    const out = await copyOfRun();
    await expect(train({ out })).rejects.toMatchObject({ code: "BAD_OPTION", argument: "out" });
  });
});

describe("stopping", () => {
  it("saves and rejects with ABORTED when told to, and can be resumed", async () => {
    const out = join(folder, "run");
    const controller = new AbortController();
    const stopped = train({
      out,
      steps: 50,
      signal: controller.signal,
      onStep: ({ step }) => step === 3 && controller.abort(),
    });
    await expect(stopped).rejects.toMatchObject({ code: "ABORTED" });
    expect((await readFile(join(out, "latest"), "utf8")).trim()).toBe("step-00000003");
    expect(await train({ out, resume: true, steps: 5 })).toHaveLength(2);
  });

  it("stops at a loss that is no number, names the step, and keeps weights and the last checkpoint", async () => {
    const out = join(folder, "run");
    const model = newModel();
    let good: Map<string, ArrayLike<number>> | undefined;
    const broken = (async () => {
      for await (const { step } of new Trainer(model, { data, steps: 9, batchSize, out, saveEvery: 2 })) {
        if (step !== 5) continue;
        const norm = model.parameters.get("model.norm.weight");
        norm?.master.write([NaN]); // one bad number, as a broken memory would leave it
        if (norm) refreshValue(norm);
        good = await weightsOf(model);
      }
    })();
    await expect(broken).rejects.toMatchObject({
      code: "NOT_FINITE",
      message: expect.stringContaining("step 6") as string,
    });
    expect(await weightsOf(model)).toEqual(good);
    expect((await readFile(join(out, "latest"), "utf8")).trim()).toBe("step-00000004");
    expect(await train({ out, resume: true, steps: 6 })).toHaveLength(2);
  });

  it("refuses a folder that cannot be written before the first step", async () => {
    const file = join(folder, "file");
    await writeFile(file, "");
    await expect(train({ out: join(file, "run") })).rejects.toMatchObject({ code: "SAVE_FAILED" });
  });

  it("keeps the last checkpoint when the disk is full while saving", async () => {
    const out = join(folder, "run");
    let full = false;
    const disk: FileSystem = {
      ...diskFileSystem,
      write: async (path, chunks) => {
        if (full) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC", syscall: "write" });
        await diskFileSystem.write(path, chunks);
      },
    };
    const onStep = ({ step }: StepMetrics): void => {
      full = step === 4;
    };
    const training = train({ out, steps: 6, saveEvery: 2, fileSystem: disk, onStep });
    await expect(training).rejects.toMatchObject({
      code: "SAVE_FAILED",
      remedy: expect.stringContaining("space") as string,
    });
    expect((await readdir(join(out, "checkpoints"))).sort()).toEqual(["step-00000002"]);
    expect(await train({ out, resume: true, steps: 3 })).toHaveLength(1);
  });

  it("gives everything back", async () => {
    const model = newModel();
    const before = model.device.memory().live;
    await train({ steps: 2 }, model);
    expect(model.device.memory().live).toBe(before);
  });
});

describe("evaluation", () => {
  it("runs when due and at the end, and is written to the log", async () => {
    const out = join(folder, "run");
    const seen: EvalMetrics[] = [];
    const model = newModel();
    await train({ out, steps: 5, evalData: heldOut, evalEvery: 2, onEval: (metrics) => seen.push(metrics) }, model);
    expect(seen.map(({ step }) => step)).toEqual([2, 4, 5]);
    const again = await evaluate(model, heldOut, { batchSize });
    expect(again.losses).toEqual(seen.at(-1)?.losses);
    const lines = (await readFile(join(out, "metrics.jsonl"), "utf8"))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { split?: string });
    expect(lines.filter(({ split }) => split === "eval")).toHaveLength(3);
  });

  it("does not depend on the batch size, and agrees with score", async () => {
    const model = newModel({ dtype: "f32" });
    const document = exampleTokens(1)[0]?.tokens ?? [];
    const text = Array.from(document).slice(0, 32);
    const single = tokenDataset([{ tokens: [...text, 1, 2, 3] }], { vocabSize: 256 });
    const [a, b] = [await evaluate(model, heldOut, { batchSize: 1 }), await evaluate(model, heldOut, { batchSize: 7 })];
    for (const i of [0, 1, 2]) expect(a.losses[i]).toBeCloseTo(b.losses[i] ?? NaN, 5);
    const scores = await score(model, text);
    expect(scores).toHaveLength(31);
    const whole = await evaluate(model, tokenDataset([{ tokens: text }], { vocabSize: 256 }), {
      batchSize: 1,
      contextLength: 32,
    });
    expect(-scores.reduce((sum, each) => sum + each, 0) / 31).toBeCloseTo(whole.losses[0] ?? NaN, 4);
    expect(single.tokenCount).toBe(35);
  });
});

describe("checkpoints", () => {
  it("load as the same model", async () => {
    const out = join(folder, "run");
    const model = newModel();
    await train({ out }, model);
    for (const path of [out, join(out, "checkpoints", "step-00000005")]) {
      const loaded = await LanguageModel.load(path);
      expect(await weightsOf(loaded)).toEqual(await weightsOf(model));
      expect(loaded.config).toEqual(model.config);
      expect(loaded.tokenizer?.vocabSize).toBe(256);
      loaded.dispose();
    }
  });

  it("are plain Llama checkpoints with extra heads", async () => {
    const path = join(folder, "model");
    await newModel().save(path);
    const config = JSON.parse(await readFile(join(path, "config.json"), "utf8")) as Record<string, unknown>;
    expect(config).toMatchObject({
      architectures: ["LlamaForCausalLM"],
      model_type: "llama",
      num_hidden_layers: 2,
      bos_token_id: null,
      eos_token_id: 0,
      rope_theta: 10000,
      foretoken: { futureTokens: 3, extraTensors: 18 },
    });
  });

  const damage: [string, (path: string) => Promise<void>, RegExp][] = [
    ["truncated", (path) => truncate(join(path, "model.safetensors")), /model\.safetensors/],
    ["bit-flipped", (path) => flipBit(join(path, "model.safetensors")), /SHA-256/],
    ["of another dtype", halveFirstTensor, /model\.embed_tokens\.weight in F32, got F16/],
    [
      "of another shape",
      async (path) => {
        await editJson(path, "config.json", (config) => ({
          ...config,
          hidden_size: 64,
          intermediate_size: 192,
          foretoken: { ...(config["foretoken"] as object), hiddenSize: 64, intermediateSize: 192, embeddingSize: 64 },
        }));
      },
      /of shape \(256, 64\), got \(256, 32\)/,
    ],
    [
      "that disagrees with itself",
      async (path) => editJson(path, "config.json", (config) => ({ ...config, num_hidden_layers: 7 })),
      /num_hidden_layers/,
    ],
    [
      "that lost its extra heads' count",
      async (path) =>
        editJson(path, "config.json", (config) => ({
          ...config,
          foretoken: { ...(config["foretoken"] as object), extraTensors: 9 },
        })),
      /9 tensors of extra heads.*got 18/,
    ],
    [
      "foreign",
      async (path) => editJson(path, "config.json", (config) => ({ ...config, foretoken: undefined })),
      /without our settings/,
    ],
    ["missing", async (path) => rm(path, { recursive: true }), /no such folder/],
  ];

  /** Writes the weights anew with the embedding as half floats, as other programs may. */
  async function halveFirstTensor(path: string): Promise<void> {
    const file = join(path, "model.safetensors");
    await using saved = await openSafetensors(file);
    const tensors: SavedTensor[] = [];
    for (const [name, info] of saved.tensors) {
      const bytes = await saved.read(name);
      if (name === "model.embed_tokens.weight")
        tensors.push({ name, dtype: "F16", shape: info.shape, data: () => bytes.subarray(0, bytes.length / 2) });
      else tensors.push({ name, dtype: info.dtype, shape: info.shape, data: () => bytes });
    }
    await writeSafetensors(file, tensors);
    await rm(join(path, "SHA256SUMS"));
  }

  it.each(damage)("refuse one that is %s", async (_name, spoil, message) => {
    const path = join(folder, "model");
    await newModel().save(path);
    await spoil(path);
    const before = openDevice().memory().live;
    await expect(LanguageModel.load(path)).rejects.toMatchObject({
      code: "BAD_CHECKPOINT",
      message: expect.stringMatching(message) as string,
    });
    expect(openDevice().memory().live).toBe(before);
  });
});

describe("options that are refused before anything runs", () => {
  it.each([
    ["an unknown one", { learningRat: 1 }, "BAD_OPTION", /Did you mean "learningRate"/],
    ["a negative rate", { learningRate: -1 }, "BAD_OPTION", /learningRate: expected a number > 0, got -1/],
    ["half a step", { steps: 2.5 }, "BAD_OPTION", /steps: expected a whole number, got 2.5/],
    ["steps and epochs", { steps: 2, epochs: 1 }, "BAD_OPTION", /either steps or epochs/],
    ["no dataset", { data: "src/**" }, "BAD_OPTION", /data: .*dataset/],
    ["a context beyond the model's", { contextLength: 64 }, "BAD_OPTION", /at most the model's maxPositions 32/],
    [
      "data shorter than the context",
      { data: tokenDataset([{ tokens: [1, 2, 3] }], { vocabSize: 256 }) },
      "BAD_DATA",
      /at least 35 tokens/,
    ],
    [
      "a vocabulary beyond the model's",
      { data: tokenDataset(exampleTokens(), { vocabSize: 300 }) },
      "BAD_DATA",
      /at most the model's 256/,
    ],
    ["a budget too small", { memoryBudget: 1e5 }, "MEMORY_BUDGET", /bytes predicted.*smaller batchSize/],
    ["resume without out", { resume: true }, "BAD_OPTION", /resume/],
  ] as const)("%s", (_name, options, code, message) => {
    const create = (): Trainer =>
      new Trainer(newModel(), { data, steps: undefined, ...options } as unknown as TrainerOptions);
    expect(create).toThrowError(
      expect.objectContaining({ code, message: expect.stringMatching(message) as string }) as Error,
    );
  });

  it("head weights of another count, at the first step", async () => {
    await expect(train({ headWeights: [1, 2] })).rejects.toMatchObject({ code: "BAD_OPTION", argument: "headWeights" });
  });
});
