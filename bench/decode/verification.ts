// What do the three rules by which a draft is kept cost and gain when text is drawn, and which distribution do they leave?
import type { GenerateOptions } from "../../lib/decode/options.js";
import type { LanguageModel } from "../../lib/mtp/model.js";
import { interleave } from "../interleave.js";
import type { Figure, Finding, Verdict } from "../report.js";
import { readableAcceptances, Run } from "./runs.js";

const temperatures = [0.7, 1];
const rules = ["exact", "rejection", "typical"] as const;

export interface VerificationJob {
  readonly prompts: readonly Int32Array[];
  /** Tokens written after each prompt. */
  readonly length: number;
  readonly rounds: number;
}

/** Every round draws from a seed of its own: the texts of all rounds together are what acceptance is told from. */
export async function verification(title: string, model: LanguageModel, job: VerificationJob): Promise<Finding> {
  const rows: Figure[] = [];
  const verdicts: Verdict[] = [];
  for (const temperature of temperatures) {
    const runs = await draw(model, temperature, job);
    rows.push(...runs.map(({ run, ms }) => rowOf(temperature, run, ms, runs[0]?.run, runs[0]?.ms)));
    verdicts.push(...judge(temperature, runs));
  }
  return { title, rows, verdicts };
}

interface Timed {
  readonly run: Run;
  readonly ms: number;
}

/** Plain sampling first, then the rules. */
async function draw(model: LanguageModel, temperature: number, job: VerificationJob): Promise<Timed[]> {
  const speculate = Math.min(4, model.heads.length);
  const shared = { temperature, maxNewTokens: job.length };
  const ways: [string, GenerateOptions][] = [
    ["plain", { speculate: "off" }],
    ...rules.map((verify): [string, GenerateOptions] => [`${verify}, k = ${speculate}`, { speculate, verify }]),
  ];
  const runs = ways.map(([name, options]) => new Run(name, model, job.prompts, { ...options, ...shared }));
  const timings = await interleave(
    runs.map((run) => run.variant("rising")),
    job.rounds,
  );
  const [plain, exact] = runs;
  for (let seed = 1; seed <= job.rounds + 1; seed++) if (plain) exact?.mustEqual(plain, seed);
  return runs.map((run, i) => ({ run, ms: timings[i]?.median ?? NaN }));
}

function rowOf(temperature: number, run: Run, ms: number, plain = run, plainMs = ms): Figure {
  const { tokensPerForward } = run.statistics;
  return {
    temperature,
    verify: run.name,
    "ms per token": ms,
    "speed-up": plainMs / ms,
    "tokens/forward": tokensPerForward,
    acceptance: readableAcceptances(run.statistics),
    "log p per token": mean(run.logProbabilities),
    "beside plain": mean(run.logProbabilities) - mean(plain.logProbabilities),
    "± (one sigma)": run === plain ? null : sigmaOfDifference(run, plain),
  };
}

function judge(temperature: number, [plain, exact, rejection]: readonly Timed[]): Verdict[] {
  if (!plain || !exact || !rejection) return [];
  const moved = mean(rejection.run.logProbabilities) - mean(plain.run.logProbabilities);
  const sigma = sigmaOfDifference(rejection.run, plain.run);
  const [kept = NaN, keptExactly = NaN] = [rejection, exact].map(({ run }) => run.statistics.acceptances[0]);
  return [
    {
      claim: `temperature ${temperature}: rejection leaves the distribution: log p per token within 3 sigma of plain`,
      holds: Math.abs(moved) <= 3 * sigma,
      measured: `${(moved / sigma).toFixed(1)} sigma`,
    },
    {
      claim: `temperature ${temperature}: rejection keeps more of head 2's tokens than exact verification`,
      holds: kept > keptExactly,
      measured: `${(100 * kept).toFixed(0)} against ${(100 * keptExactly).toFixed(0)} %`,
    },
  ];
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Of the difference of both means; a text counts as one observation, since its tokens hang together. */
function sigmaOfDifference(a: Run, b: Run): number {
  return Math.hypot(sigmaOfMean(a.logProbabilities), sigmaOfMean(b.logProbabilities));
}

function sigmaOfMean(values: readonly number[]): number {
  const middle = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1) / values.length);
}
