import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { tokenDataset } from "../../lib/io/dataset.js";
import { generateTokens } from "../../lib/decode/generate.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { Trainer } from "../../lib/train/trainer.js";
import { onSoftwareGpu, quickDtype } from "../helpers/levels.js";
import { exampleTokens, tinyModel } from "./example.js";

interface Step {
  readonly step: number;
  readonly loss: number;
}

const script = JSON.stringify(new URL("./children/worker.ts", import.meta.url));
const entry = `import("tsx/esm/api").then(({ register }) => { register(); return import(${script}); });`;

/** Trains in a worker; resolves to its steps when it ends, and calls onStep for each. */
function train(steps: number, onStep: (step: Step, worker: Worker) => void = () => undefined): Promise<Step[]> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(entry, { eval: true, workerData: steps });
    const seen: Step[] = [];
    worker.on("message", (step: Step) => {
      seen.push(step);
      onStep(step, worker);
    });
    worker.once("error", reject);
    worker.once("exit", () => {
      resolve(seen);
    });
  });
}

describe("two trainings in two workers", () => {
  it("do not touch each other, also when one is terminated in the middle", async () => {
    const [steps, cutAfter] = onSoftwareGpu ? [4, 2] : [12, 4];
    const upTo = (last: number): number[] => Array.from({ length: last }, (_, i) => i + 1);
    const alone = await train(steps);
    expect(alone.map(({ step }) => step)).toEqual(upTo(steps));
    const [whole, cut] = await Promise.all([
      train(steps),
      train(1_000_000, ({ step }, worker) => {
        if (step === cutAfter) void worker.terminate();
      }),
    ]);
    expect(whole).toEqual(alone);
    expect(cut.slice(0, cutAfter).map(({ step }) => step)).toEqual(upTo(cutAfter));
    expect(cut.length).toBeLessThan(1000);
  });
});

describe("training leaves the event loop free", () => {
  const model = LanguageModel.create({ ...tinyModel, hiddenSize: 64 }, { dtype: quickDtype, seed: 1 });
  const data = tokenDataset(exampleTokens(), { vocabSize: 256 });

  it("timers and file reads make progress between any two steps", async () => {
    const progress = { timers: 0, files: 0 };
    let running = true;
    const timer = setInterval(() => progress.timers++, 0);
    const reading = (async () => {
      while (running) {
        await readFile(fileURLToPath(import.meta.url));
        progress.files++;
      }
    })();
    let last = { ...progress };
    // Steps long enough (16,384 positions; 64 in software) that a loop held up by them would show.
    const size = onSoftwareGpu ? { steps: 3, batchSize: 2 } : { steps: 5, batchSize: 64, accumulate: 8 };
    for await (const { step } of new Trainer(model, { data, ...size })) {
      expect(progress.timers, `timers before step ${step}`).toBeGreaterThan(last.timers);
      expect(progress.files, `files before step ${step}`).toBeGreaterThan(last.files);
      last = { ...progress };
    }
    running = false;
    clearInterval(timer);
    await reading;
  });

  it("and a model writes the same text while another is trained in the same process", async () => {
    const [maxNewTokens, steps] = onSoftwareGpu ? [8, 3] : [25, 20];
    const write = async (): Promise<number[]> => {
      const tokens: number[] = [];
      for await (const { token } of generateTokens(model, [5, 6], { maxNewTokens })) tokens.push(token);
      return tokens;
    };
    const alone = await write();
    const other = LanguageModel.create(tinyModel, { dtype: "bf16", seed: 2 });
    const training = new Trainer(other, { data, steps, batchSize: 4 }).run();
    expect(await write()).toEqual(alone);
    await training;
    other.dispose();
  });
});
