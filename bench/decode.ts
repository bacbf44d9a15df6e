// How fast is decoding: plain beside reading the weights once per token and beside PyTorch, and speculation beside what its
// tokens per forward and the cost of a wider forward allow? All variants write the same text, or nothing is timed.
import { performance } from "node:perf_hooks";
import { openDevice } from "../lib/device.js";
import { generateTokens } from "../lib/decode/generate.js";
import { promptLookup } from "../lib/decode/drafts.js";
import type { GenerateOptions } from "../lib/decode/options.js";
import { DecodeStatistics } from "../lib/decode/statistics.js";
import type { LanguageModel } from "../lib/mtp/model.js";
import type { Bench } from "./bench.js";
import { interleave, type Variant } from "./interleave.js";
import { instructionOf, peaks, readGigabytes } from "./peaks.js";
import { PythonServer, pythonWithTorch } from "./python.js";
import { median, type Figure, type Finding, type Verdict } from "./report.js";
import { folderOf, large, small, tiny, trainedModel, unseenPrompts, type Recipe } from "./trained.js";
import type { ComputeDType } from "./workload.js";

const promptLength = 64;

export const decode: Bench = {
  question: "How fast is decoding, plain and with drafts, beside what the machine allows and beside PyTorch?",
  async *run({ smoke, rounds }) {
    const jobs = smoke
      ? [{ recipe: tiny, prompts: 2, length: 20 }]
      : [
          { recipe: small, prompts: 6, length: 200 },
          { recipe: large, prompts: 3, length: 60 },
        ];
    for (const job of jobs)
      for (const dtype of ["bf16", "f32"] as const)
        if (dtype === "bf16" || job.recipe === small) yield* measure({ ...job, dtype, rounds });
  },
};

interface Job {
  readonly recipe: Recipe;
  readonly prompts: number;
  /** Tokens written after each prompt. */
  readonly length: number;
  readonly dtype: ComputeDType;
  readonly rounds: number;
}

async function* measure(job: Job): AsyncGenerator<Finding> {
  const { recipe, dtype, rounds } = job;
  using model = await trainedModel(recipe, dtype);
  const prompts = unseenPrompts(job.prompts, promptLength);
  const n = model.heads.length;
  const ways: [string, GenerateOptions][] = [
    ["plain", { speculate: "off" }],
    ...[2, 4, 8].filter((k) => k <= n).map((k): [string, GenerateOptions] => [`k = ${k}`, { speculate: k }]),
    ["auto", { speculate: "auto" }],
    ["prompt lookup, 4", { speculate: 4, draft: promptLookup() }],
  ];
  const runs = ways.map(([name, options]) => new Run(name, model, prompts, { ...options, maxNewTokens: job.length }));
  for (const run of runs) await run.once();
  const [plain] = runs;
  for (const { name, text } of runs)
    if (text !== plain?.text) throw new Error(`${name} writes another text than plain decoding`);
  using theirs = await openTheirs(job, prompts, plain?.tokens ?? []);
  const variants: Variant[] = [...runs.map((run) => ({ name: run.name, run: () => run.once() })), ...theirs.variants];
  const timings = await interleave(variants, rounds);
  const plainMs = timings[0]?.median ?? NaN;
  const rows = runs.map((run, i) => {
    const ms = timings[i]?.median ?? NaN;
    const { tokensPerForward, acceptances } = run.statistics;
    const roofline = rooflineRatio(model, run.options, tokensPerForward);
    return {
      variant: run.name,
      "tokens/s": 1000 / ms,
      "ms per token": ms,
      "speed-up": plainMs / ms,
      "tokens/forward": tokensPerForward,
      "of the allowed, %": roofline === null ? null : (100 * plainMs) / ms / (tokensPerForward * roofline),
      "first token, ms": median(run.firstTokenMs),
      acceptance: acceptances.map((share) => share.toFixed(2)).join(" "),
    };
  });
  const title = `${recipe.name}: ${(model.parameters.count / 1e6).toFixed(1)} M parameters, ${dtype}, one sequence, greedy`;
  yield {
    title,
    rows: [...rows, ...theirs.rows(timings.slice(runs.length))],
    verdicts: judge(model, rows, timings.slice(runs.length)),
  };
}

/** One way to write on from the prompts. */
class Run {
  readonly statistics = new DecodeStatistics();
  readonly firstTokenMs: number[] = [];
  readonly tokens: number[][] = [];

  constructor(
    readonly name: string,
    private readonly model: LanguageModel,
    private readonly prompts: readonly Int32Array[],
    readonly options: GenerateOptions,
  ) {}

  get text(): string {
    return this.tokens.map((each) => each.join(" ")).join("\n");
  }

  /** Writes all texts; ms per token after the first of each. */
  async once(): Promise<number> {
    let ms = 0;
    let count = 0;
    for (const [i, prompt] of this.prompts.entries()) {
      const tokens: number[] = [];
      const began = performance.now();
      let first = began;
      const onStep: GenerateOptions["onStep"] = (step) => this.statistics.add(step);
      for await (const { token } of generateTokens(this.model, prompt, { ...this.options, onStep })) {
        if (tokens.length === 0) first = performance.now();
        tokens.push(token);
      }
      this.firstTokenMs.push(first - began);
      ms += performance.now() - first;
      count += tokens.length - 1;
      if (this.tokens[i] && this.tokens[i].join() !== tokens.join()) throw new Error(`${this.name} is not repeatable`);
      this.tokens[i] = tokens;
    }
    return ms / count;
  }
}

// ---- what the machine allows ----------------------------------------------------------------------------------------

/** Products (N, K) of a transformer layer. */
function layerProducts({ config }: LanguageModel): [number, number][] {
  const { hiddenSize: d, numAttentionHeads, numKeyValueHeads, intermediateSize: f } = config;
  const kv = (d / numAttentionHeads) * numKeyValueHeads;
  return [[d, d], [kv, d], [kv, d], [d, d], [f, d], [f, d], [d, f]]; // prettier-ignore
}

/** ms of the products, each M rows: the longer of reading its weights and computing. */
function rooflineMs(model: LanguageModel, products: readonly (readonly [M: number, N: number, K: number])[]): number {
  const { dtype, device } = model;
  const bytesPerWeight = dtype === "bf16" ? 2 : 4;
  const footprint = products.reduce((sum, [, N, K]) => sum + N * K * bytesPerWeight, 0);
  const bandwidth = readGigabytes(footprint) * 1e6; // bytes per ms
  const instruction = instructionOf(device.simd, dtype as ComputeDType);
  const peak = (peaks().find(({ what }) => what === instruction)?.best ?? NaN) * 1e6; // FLOP per ms
  return products.reduce(
    (ms, [M, N, K]) => ms + Math.max((N * K * bytesPerWeight) / bandwidth, (2 * M * N * K) / peak),
    0,
  );
}

/** Trunk and head 1 with k rows; heads 2 to k with the accepted ones, of which one is read out. */
function forwardMs(model: LanguageModel, k: number, accepted: number): number {
  const { trunkLayers, vocabSize: V, hiddenSize: d } = model.config;
  const layer = layerProducts(model);
  const ofLayer = (M: number) => layer.map(([N, K]) => [M, N, K] as const);
  const trunk = Array.from({ length: trunkLayers + 1 }, () => ofLayer(k)).flat();
  const heads = Array.from({ length: k - 1 }, () => ofLayer(accepted)).flat();
  const unembedding = [[k, V, d] as const, ...(k > 1 ? [[k - 1, V, d] as const] : [])];
  return rooflineMs(model, [...trunk, ...heads, ...unembedding]);
}

const floorMs = (model: LanguageModel): number => forwardMs(model, 1, 0);

/** A plain forward's roofline over a speculative one's; null where k is not fixed, or others propose. */
function rooflineRatio(model: LanguageModel, { speculate, draft }: GenerateOptions, accepted: number): number | null {
  if (typeof speculate !== "number" || draft) return null;
  return floorMs(model) / forwardMs(model, speculate, accepted);
}

function judge(model: LanguageModel, rows: readonly Figure[], theirs: readonly { median: number }[]): Verdict[] {
  const number = (row: Figure | undefined, name: string): number => Number(row?.[name] ?? NaN);
  const [plain] = rows;
  const find = (name: string): Figure | undefined => rows.find(({ variant }) => variant === name);
  const floorShare = floorMs(model) / number(plain, "ms per token");
  const fixed = rows.filter(({ variant }) => String(variant).startsWith("k = ")).map((row) => number(row, "speed-up"));
  const auto = number(find("auto"), "speed-up");
  const best = Math.max(1, ...fixed);
  const pyTorch = Math.min(...theirs.map((timing) => timing.median));
  return [
    // Of a GPU no limits are measured.
    ...(Number.isNaN(floorShare)
      ? []
      : [
          {
            claim: "plain decoding runs at 70 % or more of the speed at which the weights can be read",
            holds: floorShare >= 0.7,
            measured: `${(100 * floorShare).toFixed(0)} %`,
          },
        ]),
    ...["k = 4", "k = 8"].flatMap((name) => {
      const share = number(find(name), "of the allowed, %");
      if (Number.isNaN(share)) return [];
      const claim = `${name}: the speed-up is 85 % or more of what tokens per forward and the roofline allow`;
      return [{ claim, holds: share >= 85, measured: `${share.toFixed(0)} %` }];
    }),
    {
      claim: "auto is at most 3 % slower than the better of plain decoding and the best k",
      holds: auto >= 0.97 * best,
      measured: `${auto.toFixed(2)} against ${best.toFixed(2)}`,
    },
    ...(theirs.length === 0
      ? []
      : [
          {
            claim: "plain decoding is faster than PyTorch's with a static cache",
            holds: number(plain, "ms per token") < pyTorch,
            measured: `${number(plain, "ms per token").toFixed(3)} against ${pyTorch.toFixed(3)} ms`,
          },
        ]),
  ];
}

// ---- PyTorch --------------------------------------------------------------------------------------------------------

interface Theirs extends Disposable {
  readonly variants: readonly Variant[];
  rows(timings: readonly { readonly name: string; readonly median: number }[]): Figure[];
}

/** Plain decoding of the same checkpoint, where a Python with PyTorch is named. Its first tokens must be ours. */
async function openTheirs(
  job: Job,
  prompts: readonly Int32Array[],
  ours: readonly (readonly number[])[],
): Promise<Theirs> {
  const path = pythonWithTorch();
  const server = path === undefined ? undefined : new PythonServer(path, "decode.py", openDevice().threads);
  const ways = server ? (["eager", "compile"] as const) : [];
  const request = { folder: folderOf(job.recipe), dtype: job.dtype, length: job.length };
  const variants: Variant[] = [];
  for (const way of ways) {
    await server?.request("open", { ...request, way });
    const write = async (): Promise<{ tokens: number[][]; ms: number }> => {
      const answer = await server?.request<{ tokens: number[][]; ms: number }>("write", {
        way,
        prompts: prompts.map((prompt) => [...prompt]),
      });
      return answer ?? { tokens: [], ms: NaN };
    };
    const { tokens } = await write();
    const agreeing = tokens.map((each, i) => each.findIndex((token, j) => token !== ours[i]?.[j]));
    // bf16 rounds differently on both sides: a near tie may go the other way, and the texts part from there on.
    const first = Math.min(...agreeing.map((at) => (at < 0 ? job.length : at)));
    if (first < 3) throw new Error(`PyTorch (${way}) writes another text from token ${first} on`);
    variants.push({ name: `PyTorch, ${way}`, run: async () => (await write()).ms });
  }
  return {
    variants,
    rows: (timings) =>
      timings.map(({ name, median: ms }) => ({ variant: name, "tokens/s": 1000 / ms, "ms per token": ms })),
    [Symbol.dispose]: () => server?.[Symbol.dispose](),
  };
}
