// Do several candidates per head gain more tokens per forward than one, do they pay, and what do drafts save a beam search?
import { performance } from "node:perf_hooks";
import { beamSearch, type Hypothesis } from "../../lib/decode/beam.js";
import { fitTree } from "../../lib/decode/fit.js";
import type { GenerateOptions } from "../../lib/decode/options.js";
import type { DraftTree } from "../../lib/decode/tree.js";
import type { LanguageModel } from "../../lib/mtp/model.js";
import { interleave, type Variant } from "../interleave.js";
import type { Figure, Finding } from "../report.js";
import { seenText } from "../trained.js";
import { readableAcceptances, Run } from "./runs.js";

export interface TreesJob {
  readonly prompts: readonly Int32Array[];
  /** Tokens written after each prompt. */
  readonly length: number;
  readonly rounds: number;
  /** Batches of text that the tree is fitted to. */
  readonly batches: number;
}

/** Chains and fitted trees of as many nodes: a forward reads as many rows for both. */
export async function trees(title: string, model: LanguageModel, job: TreesJob): Promise<Finding> {
  const { prompts, length, rounds, batches: maxBatches } = job;
  const sizes = [3, 7, 15].filter((nodes, i) => i === 0 || nodes < 2 * model.heads.length);
  const { tree, expectedTokensPerForward } = await fitTree(model, seenText(), { nodes: sizes.at(-1) ?? 1, maxBatches });
  const chains = sizes.filter((nodes) => nodes < model.heads.length);
  const ways: [string, GenerateOptions, number | null][] = [
    ["plain", { speculate: "off" }, null],
    ...chains.map((nodes): [string, GenerateOptions, null] => [`chain of ${nodes}`, { speculate: nodes + 1 }, null]),
    ...sizes.map((nodes): [string, GenerateOptions, number] => [
      `tree of ${nodes}`,
      { speculate: model.heads.length, tree: tree.slice(0, nodes) },
      expectedTokensPerForward[nodes] ?? NaN,
    ]),
    ["auto, of that tree", { speculate: "auto", tree }, null],
  ];
  const runs = ways.map(([name, options]) => new Run(name, model, prompts, { ...options, maxNewTokens: length }));
  for (const run of runs) await run.write();
  for (const run of runs) if (runs[0]) run.mustEqual(runs[0]);
  const timings = await interleave(
    runs.map((run) => run.variant()),
    rounds,
    0,
  );
  const rows = runs.map((run, i): Figure => {
    const ms = timings[i]?.median ?? NaN;
    return {
      ...{ draft: run.name, "ms per token": ms, "speed-up": (timings[0]?.median ?? NaN) / ms },
      "tokens/forward": run.statistics.tokensPerForward,
      "expected, any text": ways[i]?.[2] ?? null,
      acceptance: readableAcceptances(run.statistics),
    };
  });
  return { title, rows };
}

/** Both searches find the same texts with the same scores. */
/** The likeliest candidate everywhere, or the second likeliest in one place. */
const drafts = [[0], [1], [0, 0], [0, 1], [1, 0]];

export async function beams(title: string, model: LanguageModel, job: TreesJob): Promise<Finding> {
  const searches = [new Search("without drafts", model, job, undefined), new Search("with drafts", model, job, drafts)];
  for (const search of searches) await search.run();
  const [without, drafted] = searches;
  if (without?.found !== drafted?.found) throw new Error("a beam search with drafts finds other texts");
  const timings = await interleave(searches, job.rounds, 0);
  const rows = searches.map(({ name, tokens, forwards }, i): Figure => {
    const ms = timings[i]?.median ?? NaN;
    const speedUp = (timings[0]?.median ?? NaN) / ms;
    return { "4 beams": name, "ms per token": ms, "speed-up": speedUp, "tokens/forward": tokens / forwards };
  });
  return { title, rows };
}

class Search implements Variant {
  /** Of the last run. */
  found = "";
  tokens = 0;
  forwards = 0;

  constructor(
    readonly name: string,
    private readonly model: LanguageModel,
    private readonly job: TreesJob,
    private readonly tree: DraftTree | undefined,
  ) {}

  /** ms per token of the longest text of each prompt, the reading of the prompt included. */
  readonly run = async (): Promise<number> => {
    const { prompts, length: maxNewTokens } = this.job;
    const found: (readonly Hypothesis[])[] = [];
    [this.tokens, this.forwards] = [0, 0];
    const began = performance.now();
    for (const prompt of prompts) {
      const { hypotheses, forwards } = await beamSearch(this.model, prompt, {
        numBeams: 4,
        maxNewTokens,
        tree: this.tree,
      });
      found.push(hypotheses);
      this.tokens += Math.max(...hypotheses.map(({ tokens }) => tokens.length));
      this.forwards += forwards;
    }
    const ms = performance.now() - began;
    this.found = JSON.stringify(found);
    return ms / this.tokens;
  };
}
