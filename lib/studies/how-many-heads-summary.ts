// What the cells of the study of how many heads say together: short runs' choices beside the full runs'.
import { armsOf, pairedDifference, sayDifference, type Arm as ArmOf } from "./arms.js";
import type { ByteResult } from "./bytes-cell.js";
import { allowedHeads, chooseHeads, defaultTolerance, fastestDecoding, type HeadCandidate } from "./choose-heads.js";
import { expectedTokens } from "./decoding.js";
import type { HowManyResult, HowManySettings } from "./how-many-heads-cell.js";
import { interval, intervalWithin, lossInterval, meanOf, median, shown, type Interval } from "./statistics.js";
import type { CellResult, Figure, Summary, Table } from "./study.js";
import { dotChart, heatMaps, lineChart, palette, type Dot, type HeatMap, type Point } from "./style.js";

type Arm = ArmOf<HowManySettings, HowManyResult>;

export const tolerances = [0, 0.02, defaultTolerance, 0.1, 0.2];
const shareColors = [palette.orange, palette.green, palette.blue];

const headsOf = ({ settings }: Arm): number => settings.training.model.futureTokens ?? 1;
const isGrowing = ({ settings }: Arm): boolean => settings.training.grownBy > 0;
const bits = ({ bitsPerByte }: ByteResult): number => bitsPerByte[0] ?? NaN;
const percent = (share: number): string => `${Number((100 * share).toPrecision(3))} %`;

export function summariseHowMany(finished: readonly CellResult<HowManySettings, HowManyResult>[]): Summary {
  const arms = armsOf(finished, ({ training }) => `${training.model.futureTokens} ${training.grownBy}`);
  const fixed = arms.filter((arm) => !isGrowing(arm));
  const growing = arms.filter(isGrowing);
  const judged = judge(fixed);
  return {
    verdict: `${choiceVerdict(judged)} ${growing.map((arm) => growingVerdict(arm, fixed)).join(" ")}`,
    findings: [ruleFinding(fixed), growingDrafts(growing, fixed), sizeFinding(fixed)],
    tables: [choiceTable(judged), runsTable(fixed), growingTable(fixed, growing)],
    figures: [lossFigure(fixed), rateFigure(fixed), choiceFigure(judged), growingFigure(fixed, growing)],
  };
}

// ---- candidates -----------------------------------------------------------------------------------------------------

/** Short runs by their share; the full run is 1. */
const sharesOf = (fixed: readonly Arm[]): readonly number[] => fixed[0]?.settings.shares ?? [];

function resultAt({ settings, results }: Arm, share: number, seed: number): ByteResult | undefined {
  const result = results[seed];
  return share === 1 ? result?.full : result?.short[settings.shares.indexOf(share)];
}

type Steps = HeadCandidate["stepMs"];

const stepsOf = ({ decoding }: ByteResult): Steps =>
  decoding.map(({ k, msPerToken, tokensPerForward }) => ({ k, ms: msPerToken * tokensPerForward }));

/** What steps cost depends on no training: the median of the full runs. */
function fullSteps({ results }: Arm): Steps {
  const all = results.map(({ full }) => stepsOf(full));
  return (all[0] ?? []).map(({ k }, i) => ({ k, ms: median(all.map((steps) => steps[i]?.ms ?? NaN)) }));
}

/** What a run showed: a short one with the costs that it measured itself. */
function candidatesAt(fixed: readonly Arm[], share: number, seed: number): HeadCandidate[] {
  return fixed.flatMap((arm) => {
    const result = resultAt(arm, share, seed);
    if (!result) return [];
    const stepMs = share === 1 ? fullSteps(arm) : stepsOf(result);
    return [{ n: headsOf(arm), loss: bits(result), acceptances: result.acceptances, stepMs }];
  });
}

/** Choices of the short runs of one length at one tolerance, seed by seed. */
interface Judged {
  readonly share: number;
  readonly tolerance: number;
  readonly seeds: readonly {
    readonly chosen: number;
    /** By the full runs. */
    readonly best: number;
    /** Of the best one's speed: below 0 where a faster one was chosen that is not allowed. */
    readonly givenAway: number;
    /** Loss of the chosen one above what is allowed, as a share of the least; 0 where it is allowed. */
    readonly beyond: number;
  }[];
}

function judge(fixed: readonly Arm[]): Judged[] {
  const seeds = Array.from({ length: fixed[0]?.results.length ?? 0 }, (_, seed) => seed);
  return tolerances.flatMap((tolerance) =>
    sharesOf(fixed).map((share) => ({
      ...{ share, tolerance },
      seeds: seeds.map((seed) => judgeOne(candidatesAt(fixed, share, seed), candidatesAt(fixed, 1, seed), tolerance)),
    })),
  );
}

/** A short run's choice by what the full runs show. */
export function judgeOne(
  short: readonly HeadCandidate[],
  full: readonly HeadCandidate[],
  tolerance: number,
): Judged["seeds"][number] {
  const [chosen, best] = [chooseHeads(short, tolerance).n, chooseHeads(full, tolerance)];
  const found = full.find(({ n }) => n === chosen);
  const rate = found ? fastestDecoding(found).tokensPerSecond : NaN;
  const least = Math.min(...full.map(({ loss }) => loss));
  const allowed = allowedHeads(full, tolerance).some(({ n }) => n === chosen);
  return {
    ...{ chosen, best: best.n },
    givenAway: 1 - rate / best.tokensPerSecond,
    beyond: allowed ? 0 : (found?.loss ?? NaN) / least - 1 - tolerance,
  };
}

// ---- sentences ------------------------------------------------------------------------------------------------------

/** "2 (3 of 4 seeds), 4 (1)". */
function sayCounts(values: readonly number[]): string {
  const counts = [...new Set(values)].sort((a, b) => a - b).map((n) => [n, values.filter((v) => v === n).length]);
  return counts.map(([n, count]) => `n = ${n} (${count} of ${values.length} seeds)`).join(", ");
}

const agreeing = ({ seeds }: Judged): number => seeds.filter(({ chosen, best }) => chosen === best).length;

function choiceVerdict(judged: readonly Judged[]): string {
  const own = judged.filter(({ tolerance }) => tolerance === defaultTolerance);
  const best = own[0]?.seeds.map((seed) => seed.best) ?? [];
  const each = own.map((at) => `${percent(at.share)} ${sayChoices(at)}`);
  return (
    `Where head 1 may lose ${percent(defaultTolerance)} for speed, the full runs ask for ${sayCounts(best)}. Short runs of ` +
    `${each.join("; of ")}. At all ${tolerances.length} losses allowed they choose the same in ` +
    `${sharesIn(judged)
      .map((share) => sayAgreement(judged, share))
      .join(", ")}.`
  );
}

const sharesIn = (judged: readonly Judged[]): number[] => [...new Set(judged.map(({ share }) => share))];

function sayAgreement(judged: readonly Judged[], share: number): string {
  const own = judged.filter((at) => at.share === share);
  const [same, all] = [own.map(agreeing), own.map(({ seeds }) => seeds.length)].map((counts) =>
    counts.reduce((sum, count) => sum + count, 0),
  );
  return `${same} of ${all} (${percent(share)})`;
}

/** How often they are the full runs'; the speed given away where the choice is allowed; how often and how far it is not. */
function sayChoices(at: Judged): string {
  const allowed = at.seeds.filter(({ beyond }) => beyond === 0).map(({ givenAway }) => 100 * givenAway);
  const beyond = at.seeds.filter((seed) => seed.beyond > 0).map((seed) => 100 * seed.beyond);
  const same = `of the steps choose the same in ${agreeing(at)} of ${at.seeds.length}`;
  const slower = allowed.length > 0 ? `, give away ${shown(interval(allowed), 1)} % of the speed` : "";
  const worse =
    beyond.length > 0 ? `, exceed the loss allowed in ${beyond.length}, by ${shown(interval(beyond), 1)} %` : "";
  return `${same}${slower}${worse}`;
}

const fullBits = ({ full }: HowManyResult): number => bits(full);

/** The fixed arm of as many heads, and of one. */
function others(arm: Arm, fixed: readonly Arm[]): [same: Arm | undefined, single: Arm | undefined] {
  const of = (n: number): Arm | undefined => fixed.find((other) => headsOf(other) === n);
  return [of(headsOf(arm)), of(1)];
}

function growingVerdict(arm: Arm, fixed: readonly Arm[]): string {
  const [same, single] = others(arm, fixed);
  const against = (base: Arm | undefined): string =>
    base ? sayDifference(pairedDifference(arm, base, fullBits), { unit: "bits a byte" }) : "";
  const [steps, n] = [percent(arm.settings.training.grownBy), headsOf(arm)];
  return (
    `Heads that grow from 1 to ${n} over ${steps} of the steps: head 1 has, beside ${n} from the start, ` +
    `${against(same)}; beside one head, ${against(single)}.`
  );
}

const allTokens = ({ full }: HowManyResult): number => expectedTokens(full.acceptances, full.acceptances.length);

function growingDrafts(growing: readonly Arm[], fixed: readonly Arm[]): string {
  const each = growing.flatMap((arm) => {
    const [same] = others(arm, fixed);
    if (!same) return [];
    const [mean, other] = [arm, same].map(({ results }) => meanOf(results.map(allTokens)).toFixed(2));
    const difference = sayDifference(pairedDifference(arm, same, allTokens), { unit: "tokens", digits: 2 });
    return [`n = ${headsOf(arm)} ${mean} and ${other}, ${difference}`];
  });
  return `Tokens per forward on held-out code with all heads, growing in number and from the start: ${each.join("; ")}.`;
}

function ruleFinding(fixed: readonly Arm[]): string {
  const costs = sharesOf(fixed).map((share) => percent(share * fixed.length));
  return (
    `The rule: of the numbers of heads whose head 1 is within a tolerance of the least held-out loss, the one that decodes ` +
    `fastest, which is tokens per forward, as drafts are right on held-out text, over the measured time of a forward. Short ` +
    `runs of all ${fixed.length} take ${costs.join(", ")} of the steps of one full training. Speed given away is below 0 where a ` +
    `short run chose a number that is faster than what the full runs allow.`
  );
}

function sizeFinding(fixed: readonly Arm[]): string {
  const { steps, batchSize, contextLength } = fixed[0]?.settings.training ?? {
    steps: 0,
    batchSize: 0,
    contextLength: 0,
  };
  const parameters = fixed[0]?.results[0]?.full.parameters ?? 0;
  return (
    `Each model has ${(parameters / 1000).toFixed(1)} k parameters; a full run reads ` +
    `${((steps * batchSize * contextLength) / 1e6).toFixed(2)} M bytes of real code. At equal parameters fewer layers lie ` +
    `before head 1 where there are more heads: its loss and its plain decoding differ for that reason too. Other sizes, data ` +
    `and machines may ask for another number.`
  );
}

// ---- tables ---------------------------------------------------------------------------------------------------------

const seedsOf = (arms: readonly Arm[]): number => arms[0]?.results.length ?? 0;

function choiceTable(judged: readonly Judged[]): Table {
  const rows = judged.map((at) => {
    const { tolerance, share, seeds } = at;
    const counted = (values: readonly number[]): string => [...values].sort((a, b) => a - b).join(" ");
    const of = (value: "givenAway" | "beyond"): string => shown(interval(seeds.map((seed) => 100 * seed[value])), 1);
    return [
      ...[percent(tolerance), percent(share), counted(seeds.map(({ best }) => best))],
      ...[counted(seeds.map(({ chosen }) => chosen)), `${agreeing(at)} of ${seeds.length}`],
      ...[of("givenAway"), of("beyond")],
    ];
  });
  const columns = [
    "loss allowed above the least",
    "steps of the short run",
    "n by full runs",
    "n by short runs",
    "same",
  ];
  return {
    title: "What short runs choose, a number per seed",
    columns: [...columns, "speed given away (%)", "loss beyond what is allowed (%)"],
    rows,
  };
}

/** Over seeds, of what a run of one length showed. */
function overSeeds(arm: Arm, share: number, value: (result: ByteResult) => number): number[] {
  return arm.results.flatMap((_, seed) => {
    const result = resultAt(arm, share, seed);
    return result ? [value(result)] : [];
  });
}

const rateOf = (arm: Arm, share: number): Interval =>
  intervalWithin(
    overSeeds(arm, share, (result) => {
      const stepMs = share === 1 ? fullSteps(arm) : stepsOf(result);
      return fastestDecoding({ n: headsOf(arm), acceptances: result.acceptances, stepMs }).tokensPerSecond;
    }),
    0,
  );

function runsTable(fixed: readonly Arm[]): Table {
  const rows = [...sharesOf(fixed), 1].flatMap((share) =>
    fixed.map((arm) => [
      ...[percent(share), headsOf(arm), shown(lossInterval(overSeeds(arm, share, bits)))],
      shown(intervalWithin(overSeeds(arm, share, tokensOf), 1, headsOf(arm)), 2),
      shown(rateOf(arm, share), 0),
    ]),
  );
  const columns = [
    "steps",
    "n",
    "bits per byte, head 1",
    "tokens per forward, held-out",
    "tokens per second, held-out",
  ];
  return { title: `What runs of each length showed, ${seedsOf(fixed)} seeds`, columns, rows };
}

const tokensOf = ({ acceptances }: ByteResult): number => expectedTokens(acceptances, acceptances.length);

const nameOf = (arm: Arm): string => `n = ${headsOf(arm)}${isGrowing(arm) ? ", growing" : ""}`;

/** Each growing arm behind the fixed one of as many heads, one head first. */
function compared(fixed: readonly Arm[], growing: readonly Arm[]): Arm[] {
  const single = fixed.filter((arm) => headsOf(arm) === 1);
  return [...single, ...growing.flatMap((arm) => [...fixed.filter((each) => headsOf(each) === headsOf(arm)), arm])];
}

function growingTable(fixed: readonly Arm[], growing: readonly Arm[]): Table {
  const [single] = fixed;
  const rows = compared(fixed, growing).map((arm) => [
    ...[nameOf(arm), shown(lossInterval(arm.results.map(fullBits)))],
    single && arm !== single ? shown(pairedDifference(arm, single, fullBits)) : "–",
    shown(intervalWithin(arm.results.map(allTokens), 1, headsOf(arm)), 2),
    accuraciesOf(arm),
  ]);
  const columns = ["heads", "bits per byte, head 1", "difference to n = 1", "tokens per forward, held-out"];
  return {
    title: `Heads that grow in number, ${seedsOf(fixed)} seeds`,
    columns: [...columns, "accuracy per head (%)"],
    rows,
  };
}

const accuraciesOf = ({ results }: Arm): string =>
  (results[0]?.full.accuracies ?? [])
    .map((_, head) => (100 * meanOf(results.map(({ full }) => full.accuracies[head] ?? NaN))).toFixed(1))
    .join(" ");

// ---- figures --------------------------------------------------------------------------------------------------------

function seedsNote(arms: readonly Arm[]): string {
  return seedsOf(arms) > 1 ? `Means over ${seedsOf(arms)} seeds with 95 % intervals.` : "One seed.";
}

/** A line for each length of run, over the number of heads. */
function byLength(fixed: readonly Arm[], title: string, value: (arm: Arm, share: number) => Interval) {
  const shares = [...sharesOf(fixed), 1];
  const lines = shares.map((share, i) => ({
    name: share === 1 ? "full" : percent(share),
    color: share === 1 ? palette.black : (shareColors[i % shareColors.length] ?? palette.black),
    ...{ dashed: share !== 1, marked: true },
    points: fixed.map((arm): Point => {
      const { mean, low, high } = value(arm, share);
      return { x: headsOf(arm) * 1.03 ** (i - (shares.length - 1) / 2), y: mean, low, high };
    }),
  }));
  const x = { title: "heads, n", log: true, ticks: [1, 2, 4, 8], domain: [0.9, 9.5], format: "d" } as const;
  return lineChart([{ title: "", lines }], x, { title });
}

/** Loss of head 1 above that of the best n of the same seed and length, in percent. */
const aboveLeast = (fixed: readonly Arm[]) => (arm: Arm, share: number) => {
  const least = arm.results.map((_, seed) => Math.min(...candidatesAt(fixed, share, seed).map(({ loss }) => loss)));
  return intervalWithin(
    overSeeds(arm, share, bits).map((own, seed) => 100 * (own / (least[seed] ?? NaN) - 1)),
    0,
  );
};

function lossFigure(fixed: readonly Arm[]): Figure {
  return {
    name: "loss",
    title: "What head 1 loses, by short runs and by full ones",
    caption:
      `Held-out loss of head 1 above that of the best number of heads in runs of the same length and seed. Where the lines ` +
      `agree, short runs tell the truth. ${seedsNote(fixed)}`,
    chart: byLength(fixed, "bits per byte above the least (%)", aboveLeast(fixed)),
  };
}

function rateFigure(fixed: readonly Arm[]): Figure {
  return {
    name: "rate",
    title: "How fast drafts decode, by short runs and by full ones",
    caption:
      `Tokens per second with the draft length that is fastest: tokens per forward as drafts are right on held-out code, over ` +
      `the time of a forward. ${seedsNote(fixed)}`,
    chart: byLength(fixed, "tokens per second, held-out", rateOf),
  };
}

function choiceFigure(judged: readonly Judged[]): Figure {
  const shares = sharesIn(judged);
  const map = (title: string, value: (at: Judged) => number): HeatMap => ({
    ...{ title, rows: tolerances.map(percent), columns: shares.map(percent) },
    values: tolerances.map((tolerance) =>
      judged.filter((at) => at.tolerance === tolerance).map((at) => Number(value(at).toFixed(4))),
    ),
  });
  const seeds = judged[0]?.seeds.length ?? 0;
  return {
    name: "choices",
    title: "Whether short runs choose right",
    caption:
      `Of ${seeds} seeds: the share in which the short runs chose the number of heads that the full runs ask for, and the ` +
      `share in which they chose one whose head 1 loses more than was allowed.`,
    chart: heatMaps(
      [
        map("Same choice as the full runs", (at) => agreeing(at) / at.seeds.length),
        map("Beyond the loss allowed", ({ seeds }) => seeds.filter(({ beyond }) => beyond > 0).length / seeds.length),
      ],
      "steps of the short runs",
      "loss allowed",
    ),
  };
}

function growingFigure(fixed: readonly Arm[], growing: readonly Arm[]): Figure {
  const arms = compared(fixed, growing);
  const dots = (measured: (arm: Arm) => Interval): Dot[] =>
    arms.map((arm) => {
      const color = isGrowing(arm) ? palette.vermilion : headsOf(arm) === 1 ? palette.black : palette.blue;
      const { mean, low, high } = measured(arm);
      return { name: nameOf(arm), color, value: mean, low, high };
    });
  const tokens = (arm: Arm): Interval => intervalWithin(arm.results.map(allTokens), 1, headsOf(arm));
  const loss = (arm: Arm): Interval => lossInterval(arm.results.map(fullBits));
  return {
    name: "growing",
    title: "Heads from the start, or growing in number",
    caption:
      `Full runs. Growing: head 1 alone at first, one more head in each equal stage of the first half, all in the second. ` +
      `Left: lower is better; right: higher is. ${seedsNote(fixed)}`,
    chart: dotChart([
      { title: "Next byte", x: { title: "loss of head 1 (bits per byte)" }, dots: dots(loss) },
      { title: "Drafts", x: { title: "tokens per forward, held-out" }, dots: dots(tokens) },
    ]),
  };
}
