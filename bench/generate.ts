// How many tokens per second does plain decoding give, and how far is that from reading the weights once per token?
import { performance } from "node:perf_hooks";
import { openDevice } from "../lib/device.js";
import { generateTokens } from "../lib/decode/generate.js";
import { LanguageModel } from "../lib/mtp/model.js";
import type { Bench } from "./bench.js";
import { readGigabytes } from "./peaks.js";
import { median, quantile, type Figure } from "./report.js";
import { jobs, smokeJob, type ComputeDType, type Job } from "./workload.js";

export const generate: Bench = {
  question: "How many tokens per second does plain decoding give, beside reading the weights once per token?",
  async *run({ smoke, rounds }) {
    const rows: Figure[] = [];
    for (const job of smoke ? [smokeJob] : jobs) {
      for (const dtype of ["bf16", "f32"] as const) rows.push(await decode(job, dtype, smoke ? 4 : 120, rounds));
    }
    yield { title: "Decoding one sequence with head 1, greedy", rows };
  },
};

/** Bytes of the matrices on the way to head 1's logits. */
function weightBytes({ config }: Job, dtype: ComputeDType): number {
  const { hiddenSize: d, intermediateSize: f = 0, vocabSize: V, trunkLayers = 0 } = config;
  return ((trunkLayers + 1) * (4 * d * d + 3 * d * f) + V * d) * (dtype === "bf16" ? 2 : 4);
}

async function decode(job: Job, dtype: ComputeDType, count: number, rounds: number): Promise<Figure> {
  using model = LanguageModel.create(job.config, { device: openDevice(), dtype, seed: 1 });
  const perToken: number[] = [];
  let first: readonly number[] | undefined;
  for (let round = 0; round <= rounds; round++) {
    const tokens: number[] = [];
    let began = performance.now();
    for await (const { token } of generateTokens(model, [1, 2, 3, 4], { maxNewTokens: count })) {
      const now = performance.now();
      if (round > 0 && tokens.length > 0) perToken.push(now - began); // the first token waits for packing and the prompt
      began = now;
      tokens.push(token);
    }
    first ??= tokens;
    if (tokens.length !== count || tokens.join() !== first.join())
      throw new RangeError(`decoding is not repeatable: ${tokens.join()} after ${first.join()}`);
  }
  const ms = median(perToken);
  const bytes = weightBytes(job, dtype);
  const floor = bytes / readGigabytes(bytes) / 1e6;
  return {
    model: job.name,
    dtype,
    "tokens/s": Math.round(1000 / ms),
    "ms per token (median)": ms,
    p99: quantile(perToken, 0.99),
    "weights, MB": bytes / 1e6,
    "floor, ms": floor,
    "of the floor's speed, %": (100 * floor) / ms,
  };
}
