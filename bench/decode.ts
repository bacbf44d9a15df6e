// How fast is decoding: plain beside reading the weights once per token and beside PyTorch, with drafts beside what their
// tokens per forward and the cost of a wider forward allow, by "auto" beside the best fixed length, drawn by each rule of
// verification? Ways that must write the same text do so, or nothing is timed.
import { draftModel, promptLookup } from "../lib/decode/drafts.js";
import type { GenerateOptions } from "../lib/decode/options.js";
import type { LanguageModel } from "../lib/mtp/model.js";
import { evaluate } from "../lib/train/evaluate.js";
import type { Bench } from "./bench.js";
import { autoAgainstFixed } from "./decode/auto.js";
import { limits } from "./decode/limits.js";
import { openTheirs, type TheirJob } from "./decode/pytorch.js";
import { readableAcceptances, Run } from "./decode/runs.js";
import { beams, trees } from "./decode/trees.js";
import { verification } from "./decode/verification.js";
import { interleave } from "./interleave.js";
import { median, type Figure, type Finding, type Verdict } from "./report.js";
import {
  drafter,
  folderOf,
  large,
  small,
  tiny,
  trainedModel,
  unseenPrompts,
  unseenText,
  type Recipe,
} from "./trained.js";
import type { ComputeDType } from "./workload.js";

/** Prompt and text stay within the 256 positions that the models were trained on: behind them they guess nothing. */
const promptLength = 64;

interface Job {
  readonly recipe: Recipe;
  readonly dtype: ComputeDType;
  readonly prompts: number;
  /** Tokens written after each prompt. */
  readonly length: number;
  readonly rounds: number;
  /** Compiled forwards lose to eager ones: 3.2 against 1.9 ms (10M, bf16), 3.8 against 1.2 (f32), 136 against 32 (347M). */
  readonly theirWays: TheirJob["ways"];
  /** A small model of the same vocabulary. */
  readonly drafter?: Recipe;
  readonly more: readonly (typeof questions)[number][];
}

const questions = ["auto", "verification", "trees", "held out"] as const;

export const decode: Bench = {
  question: "How fast is decoding, plain and with drafts, beside what the machine allows and beside PyTorch?",
  async *run({ smoke, rounds }) {
    for (const job of smoke ? smokeJobs : jobs) yield* answer({ ...job, rounds: Math.min(rounds, job.rounds) }, smoke);
  },
};

const smokeJobs: readonly Job[] = [
  {
    ...{ recipe: tiny, dtype: "bf16", prompts: 2, length: 20, rounds: 1 },
    ...{ theirWays: ["eager"], drafter: tiny, more: questions },
  },
];

const jobs: readonly Job[] = [
  {
    ...{ recipe: small, dtype: "bf16", prompts: 6, length: 190, rounds: Infinity },
    ...{ theirWays: ["eager", "compile"], drafter, more: questions },
  },
  { recipe: small, dtype: "f32", prompts: 6, length: 190, rounds: Infinity, theirWays: ["eager"], more: [] },
  // A token takes a hundred times as long.
  { recipe: large, dtype: "bf16", prompts: 2, length: 60, rounds: 3, theirWays: ["eager"], more: [] },
];

async function* answer(job: Job, smoke: boolean): AsyncGenerator<Finding> {
  const { recipe, dtype, rounds } = job;
  using model = await trainedModel(recipe, dtype);
  const title = `${recipe.name}: ${(model.parameters.count / 1e6).toFixed(1)} M parameters, ${dtype}`;
  yield* speeds(`${title}, one sequence, greedy`, model, job);
  const prompts = unseenPrompts(job.prompts, promptLength);
  const sizes = smoke ? { pool: 4, inSet: 2, length: 20 } : { pool: 48, inSet: 12, length: 190 };
  const drawn = { prompts, length: job.length, rounds };
  const batches = smoke ? 1 : 8;
  for (const question of job.more) {
    if (question === "auto") {
      yield await autoAgainstFixed(`${title}: auto against every fixed k`, model, { ...sizes, promptLength, rounds });
    } else if (question === "verification") {
      yield await verification(`${title}: drawn texts; log p under head 1, untempered`, model, drawn);
    } else if (question === "trees") {
      yield await trees(`${title}: chains and trees of drafts, greedy`, model, { ...drawn, batches });
      yield await beams(`${title}: beam search`, model, { ...drawn, prompts: prompts.slice(0, 2), batches });
    } else {
      yield await heldOut(`${title}: on text held out, every position`, model, batches);
    }
  }
}

async function* speeds(title: string, model: LanguageModel, job: Job): AsyncGenerator<Finding> {
  const { recipe, dtype, length, rounds, theirWays: ways } = job;
  using other = job.drafter && (await trainedModel(job.drafter, dtype));
  const prompts = unseenPrompts(job.prompts, promptLength);
  const runs = waysToDecode(model, other).map(
    ([name, options]) => new Run(name, model, prompts, { ...options, maxNewTokens: length }),
  );
  for (const run of runs) await run.write();
  for (const run of runs) if (runs[0]) run.mustEqual(runs[0]);
  const alone = await interleave(
    runs.map(({ aloneVariant }) => aloneVariant),
    Math.min(rounds, 5),
    1,
  );
  // A plain forward costs the same whatever the text is: two prompts do for PyTorch.
  const theirJob = { folder: folderOf(recipe), dtype, length, ways };
  using theirs = await openTheirs(theirJob, prompts.slice(0, 2), runs[0]?.tokens ?? []);
  const timings = await interleave([...runs.map((run) => run.variant()), ...theirs.variants], rounds, 0);
  const plainMs = timings[0]?.median ?? NaN;
  const rows = timings.map(({ name, median: ms }, i): Figure => {
    const run = runs[i];
    return {
      ...{ variant: name, "tokens/s": 1000 / ms, "ms per token": ms, "speed-up": plainMs / ms },
      ...(run && {
        "tokens/forward": run.statistics.tokensPerForward,
        "ms per token, a call for each text": alone[i]?.median ?? NaN,
        "first token, ms": median(run.firstTokenMs),
        acceptance: readableAcceptances(run.statistics),
      }),
    };
  });
  yield { title, rows, verdicts: judge(rows, job) };
  const measured = runs.map(({ name, options, statistics: { tokensPerForward } }, i) => {
    return { name, options, tokensPerForward, msPerToken: timings[i]?.median ?? NaN };
  });
  const allowed = limits(`${title}: what the machine allows`, model, measured);
  if (allowed) yield allowed;
}

/** Plain decoding first. */
function waysToDecode(model: LanguageModel, other: LanguageModel | undefined): [string, GenerateOptions][] {
  const n = model.heads.length;
  const k = Math.min(4, n);
  return [
    ["plain", { speculate: "off" }],
    ...[2, 4, 8]
      .filter((each) => each <= n)
      .map((each): [string, GenerateOptions] => [`k = ${each}`, { speculate: each }]),
    ["auto", { speculate: "auto" }],
    [`prompt lookup, ${k}`, { speculate: k, draft: promptLookup() }],
    ...(other
      ? [[`draft model, ${k}`, { speculate: k, draft: draftModel(other) }] satisfies [string, GenerateOptions]]
      : []),
  ];
}

function judge(rows: readonly Figure[], { more }: Job): Verdict[] {
  const find = (name: string): Figure | undefined => rows.find(({ variant }) => variant === name);
  const number = (row: Figure | undefined, column: string): number => Number(row?.[column] ?? NaN);
  const fixed = rows.filter(({ variant }) => /^(plain|k = )/.test(String(variant)));
  const auto = number(find("auto"), "speed-up");
  const best = Math.max(...fixed.map((row) => number(row, "speed-up")));
  const [plain, latest] = [find("plain"), rows.filter(({ variant }) => /^(k = |auto)/.test(String(variant)))];
  const late = Math.max(...latest.map((row) => number(row, "first token, ms"))) / number(plain, "first token, ms");
  const theirs = rows.filter(({ variant }) => String(variant).startsWith("PyTorch"));
  const theirMs = Math.min(...theirs.map((row) => number(row, "ms per token")));
  const ours = number(plain, "ms per token");
  return [
    {
      claim: "with drafts the first token comes at most 1.05 times as late",
      holds: late <= 1.05,
      measured: late.toFixed(2),
    },
    ...(more.includes("auto")
      ? []
      : [
          {
            claim: "auto is at most 3 % slower than the best of plain decoding and every fixed k",
            holds: auto >= 0.97 * best,
            measured: `${auto.toFixed(2)} against ${best.toFixed(2)}`,
          },
        ]),
    ...(theirs.length === 0
      ? []
      : [
          {
            claim: "plain decoding is faster than PyTorch's with a static cache",
            holds: ours < theirMs,
            measured: `${ours.toFixed(3)} against ${theirMs.toFixed(3)} ms`,
          },
        ]),
  ];
}

/** Teacher-forced: a model that repeats itself, and so is easy to guess, gains nothing by it. */
async function heldOut(title: string, model: LanguageModel, maxBatches: number): Promise<Finding> {
  const { tokens, acceptances, expectedTokensPerForward } = await evaluate(model, unseenText(), { maxBatches });
  const shares = acceptances.slice(1).map((share) => share?.toFixed(2) ?? "–");
  const row = { positions: tokens, "tokens/forward expected, all heads": expectedTokensPerForward };
  return { title, rows: [{ ...row, "heads 2 to i all right": shares.join(" ") }] };
}
