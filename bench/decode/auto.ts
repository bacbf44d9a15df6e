// Does "auto" find the length that pays, whether drafts are mostly right, mostly wrong, or either in turn?
import type { GenerateOptions } from "../../lib/decode/options.js";
import type { LanguageModel } from "../../lib/mtp/model.js";
import { interleave } from "../interleave.js";
import type { Figure, Finding, Verdict } from "../report.js";
import { unseenPrompts } from "../trained.js";
import { Run } from "./runs.js";

export interface AutoJob {
  /** Prompts to choose from, and how many of them make a set. */
  readonly pool: number;
  readonly inSet: number;
  readonly promptLength: number;
  /** Tokens written after each prompt. */
  readonly length: number;
  readonly rounds: number;
}

export async function autoAgainstFixed(title: string, model: LanguageModel, job: AutoJob): Promise<Finding> {
  const rows: Figure[] = [];
  const verdicts: Verdict[] = [];
  for (const [name, prompts] of Object.entries(await chooseSets(model, job))) {
    const row = await compare(name, model, prompts, job);
    rows.push(row);
    const share = 100 * Number(row["best/auto"]);
    verdicts.push({
      claim: `${name}: auto is at most 3 % slower than the best of plain decoding and every fixed k`,
      holds: share >= 97,
      measured: `${share.toFixed(1)} % of the speed of ${String(row["best"])}`,
    });
  }
  return { title, rows, verdicts };
}

type Sets = Record<"easy" | "hard" | "mixed", Int32Array[]>;

/** The prompts whose greedy texts all heads guess best, those that they guess worst, and some of both in turn. */
async function chooseSets(model: LanguageModel, { pool, inSet, promptLength, length }: AutoJob): Promise<Sets> {
  const ranked: { prompt: Int32Array; tokensPerForward: number }[] = [];
  for (const prompt of unseenPrompts(pool, promptLength)) {
    const run = new Run("all heads", model, [prompt], { speculate: model.heads.length, maxNewTokens: length });
    await run.write();
    ranked.push({ prompt, tokensPerForward: run.statistics.tokensPerForward });
  }
  const sorted = ranked.sort((a, b) => b.tokensPerForward - a.tokensPerForward).map(({ prompt }) => prompt);
  const [easy, hard] = [sorted.slice(0, inSet), sorted.slice(-inSet)];
  const mixed = easy.flatMap((prompt, i) => [prompt, hard[i] ?? prompt]).slice(0, inSet);
  return { easy, hard, mixed };
}

/** A row: ms per token of every way, and how fast auto is beside the best of the others. */
async function compare(
  name: string,
  model: LanguageModel,
  prompts: readonly Int32Array[],
  { length, rounds }: AutoJob,
): Promise<Figure> {
  const ks = [2, 3, 4, 6, 8].filter((k) => k <= model.heads.length);
  const ways: [string, GenerateOptions["speculate"]][] = [
    ["off", "off"],
    ...ks.map((k): [string, number] => [`k = ${k}`, k]),
    ["auto", "auto"],
  ];
  const runs = ways.map(([way, speculate]) => new Run(way, model, prompts, { speculate, maxNewTokens: length }));
  for (const run of runs) await run.write();
  for (const run of runs) if (runs[0]) run.mustEqual(runs[0]);
  const timings = await interleave(
    runs.map((run) => run.variant()),
    rounds,
    0,
  );
  const auto = timings.at(-1)?.median ?? NaN;
  const best = timings.slice(0, -1).reduce((least, each) => (each.median < least.median ? each : least));
  return {
    prompts: name,
    tokens: (runs[0]?.tokens ?? []).reduce((sum, tokens) => sum + tokens.length, 0),
    ...Object.fromEntries(timings.map((timing) => [`${timing.name}, ms`, timing.median])),
    "tokens/forward, longest k": runs.at(-2)?.statistics.tokensPerForward ?? NaN,
    "tokens/forward, auto": runs.at(-1)?.statistics.tokensPerForward ?? NaN,
    best: best.name,
    "best/auto": best.median / auto,
  };
}
