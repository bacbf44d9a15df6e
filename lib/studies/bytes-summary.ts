// What the cells of the byte study say together.
import { armsOf, pairedDifference, sayDifference, type Arm as ArmOf } from "./arms.js";
import type { ByteResult, ByteTraining, Corpus } from "./bytes-cell.js";
import { draftLengths, expectedTokens } from "./decoding.js";
import { intervalWithin, lossInterval, meanOf, shareInterval, shown, type Interval } from "./statistics.js";
import type { CellResult, Figure, Summary, Table } from "./study.js";
import { dotChart, lineChart, palette, type Dot, type Line, type LinePanel, type Point } from "./style.js";

export interface ByteSettings extends ByteTraining {
  readonly unembedding: "shared" | "replicated";
}

type Arm = ArmOf<ByteSettings, ByteResult>;

const colors: Readonly<Record<number, string>> = {
  ...{ 1: palette.black, 2: palette.green, 4: palette.blue, 8: palette.vermilion },
};

const headsOf = ({ settings }: Arm): number => settings.model.futureTokens ?? 1;
const bits = ({ bitsPerByte }: ByteResult): number => bitsPerByte[0] ?? NaN;
const isShared = ({ settings }: Arm): boolean => settings.unembedding === "shared";

/** Arms of a corpus, each with what it is compared with. */
interface Group {
  readonly corpus: Corpus;
  readonly single: Arm;
  /** n = 2, 4, 8. */
  readonly shared: readonly Arm[];
  readonly replicated: readonly Arm[];
}

export function summariseBytes(finished: readonly CellResult<ByteSettings, ByteResult>[]): Summary {
  const arms = armsOf(finished, ({ corpus, model, unembedding }) => `${corpus} ${model.futureTokens} ${unembedding}`);
  const groups = (["code", "prose"] as const).flatMap((corpus) => groupOf(arms, corpus));
  return {
    verdict: groups.map(verdictOf).join(" "),
    findings: [...groups.map(speedFinding), ...groups.map(ownTextFinding), costFinding(groups), sizeFinding(arms)],
    tables: [lossTable(groups), decodingTable(groups), costTable(groups)],
    figures: [lossFigure(groups), headsFigure(groups), draftsFigure(groups), speedFigure(groups), costFigure(groups)],
  };
}

function groupOf(arms: readonly Arm[], corpus: Corpus): Group[] {
  const own = arms.filter(({ settings }) => settings.corpus === corpus);
  const [single, ...shared] = own.filter(isShared);
  return single ? [{ corpus, single, shared, replicated: own.filter((arm) => !isShared(arm)) }] : [];
}

const everyArm = ({ single, shared, replicated }: Group): Arm[] => [single, ...shared, ...replicated];

const titles: Readonly<Record<Corpus, string>> = { code: "Code", prose: "Prose" };

const nameOf = (arm: Arm): string => `n = ${headsOf(arm)}${isShared(arm) ? "" : ", an unembedding each"}`;

const against = (arm: Arm, base: Arm): string =>
  sayDifference(pairedDifference(arm, base, bits), { unit: "bits a byte" });

function verdictOf({ corpus, single, shared, replicated }: Group): string {
  const beside = shared.map((arm) => `n = ${headsOf(arm)} ${against(arm, single)}`).join("; ");
  const each = replicated.flatMap((arm) => {
    const same = shared.find((other) => headsOf(other) === headsOf(arm));
    return same ? [`n = ${headsOf(arm)} ${against(arm, same)}`] : [];
  });
  const own = each.length > 0 ? ` Unembeddings of their own beside a shared one: ${each.join("; ")}.` : "";
  const fastest = shared.map((arm) => `n = ${headsOf(arm)} ${sayFastest(arm)}`).join("; ");
  return (
    `${titles[corpus]}, head 1 beside the only head of a model of as many parameters: ${beside}.${own} ` +
    `Written beside each model's own plain decoding: ${fastest}.`
  );
}

/** Times as fast as the same model's plain decoding. */
const speedUps = ({ results }: Arm, k: number): Interval =>
  intervalWithin(
    results.map(({ decoding }) => msOf(decoding, 1) / msOf(decoding, k)),
    0,
  );

const msOf = (decoding: ByteResult["decoding"], k: number): number =>
  decoding.find((way) => way.k === k)?.msPerToken ?? NaN;

const tokensPerSecond = ({ results }: Arm, k: number): Interval =>
  intervalWithin(
    results.map(({ decoding }) => 1000 / msOf(decoding, k)),
    0,
  );

/** On held-out text, from 1 to k. */
const heldOutTokens = ({ results }: Arm, k: number): Interval =>
  intervalWithin(
    results.map(({ acceptances }) => expectedTokens(acceptances, k)),
    1,
    k,
  );

/** On the texts that the model writes itself. */
const ownTokens = ({ results }: Arm, k: number): Interval =>
  intervalWithin(
    results.map(({ decoding }) => decoding.find((way) => way.k === k)?.tokensPerForward ?? NaN),
    1,
    k,
  );

/** The k > 1 with the greatest mean speed-up. */
function fastestLength(arm: Arm): number {
  const drafts = draftLengths(headsOf(arm)).filter((k) => k > 1);
  return drafts.reduce((best, k) => (speedUps(arm, k).mean > speedUps(arm, best).mean ? k : best), drafts[0] ?? 1);
}

function sayFastest(arm: Arm): string {
  const k = fastestLength(arm);
  const speedUp = speedUps(arm, k);
  const { low, high } = speedUp;
  const known = low !== null && high !== null && low <= 1 && high >= 1 ? " (no difference that was seen)" : "";
  return `${shown(speedUp, 2)} times as fast with k = ${k}${known}`;
}

function speedFinding({ corpus, single, shared }: Group): string {
  const plain = [single, ...shared].map((arm) => `n = ${headsOf(arm)} ${count(tokensPerSecond(arm, 1).mean)}`);
  const best = shared.map((arm) => `n = ${headsOf(arm)} ${count(tokensPerSecond(arm, fastestLength(arm)).mean)}`);
  return (
    `${titles[corpus]}, tokens per second: plain ${plain.join(", ")}, fewer layers lying before head 1 where there are more ` +
    `heads; with drafts ${best.join(", ")}.`
  );
}

/** Weak models repeat themselves, which is easy to guess. */
function ownTextFinding({ corpus, shared }: Group): string {
  const pairs = shared.map((arm) => {
    const k = headsOf(arm);
    return `n = ${k} ${heldOutTokens(arm, k).mean.toFixed(2)} and ${ownTokens(arm, k).mean.toFixed(2)}`;
  });
  return (
    `${titles[corpus]}, tokens per forward with all heads, on held-out text and on what the model itself writes, ` +
    `repetitions included: ${pairs.join("; ")}.`
  );
}

const ratios = (arm: Arm, base: Arm, value: (result: ByteResult) => number): Interval =>
  intervalWithin(
    arm.results.flatMap((result, i) => (base.results[i] ? [value(result) / value(base.results[i])] : [])),
    0,
  );

const stepMs = (result: ByteResult): number => result.stepMs;
const peak = (result: ByteResult): number => result.peakBytes;

function costFinding(groups: readonly Group[]): string {
  const [group] = groups;
  if (!group) return "";
  const { single, shared, replicated } = group;
  const each = [...shared, ...replicated].map((arm) => {
    const [time, memory] = [ratios(arm, single, stepMs), ratios(arm, single, peak)];
    return `${nameOf(arm)} ${shown(time, 2)} and ${memory.mean.toFixed(2)}`;
  });
  return `Time of a training step and peak memory beside one head: ${each.join("; ")}.`;
}

const count = (value: number): string => Math.round(value).toLocaleString("en");

function sizeFinding(arms: readonly Arm[]): string {
  const counts = arms.map(({ results }) => results[0]?.parameters ?? NaN);
  const { steps, batchSize, contextLength } = arms[0]?.settings ?? { steps: 0, batchSize: 0, contextLength: 0 };
  const thousands = (value: number): string => `${(value / 1000).toFixed(1)} k`;
  return (
    `Each model has ${thousands(Math.min(...counts))} to ${thousands(Math.max(...counts))} parameters and read ` +
    `${((steps * batchSize * contextLength) / 1e6).toFixed(2)} M bytes; held out are whole packages of code and whole ` +
    `chapters of a manual. The models of the paper are a thousand to thirty thousand times as large.`
  );
}

// ---- tables ---------------------------------------------------------------------------------------------------------

const seedsOf = (groups: readonly Group[]): number => groups[0]?.single.results.length ?? 0;

function lossTable(groups: readonly Group[]): Table {
  const rows = groups.flatMap((group) =>
    everyArm(group).map((arm) => {
      const { results } = arm;
      const accuracies = (results[0]?.accuracies ?? []).map((_, head) => (100 * accuracyOf(arm, head).mean).toFixed(1));
      return [
        ...[titles[group.corpus], nameOf(arm), results[0]?.parameters ?? null, shown(lossInterval(results.map(bits)))],
        arm === group.single ? "–" : shown(pairedDifference(arm, group.single, bits)),
        ...[meanOf(results.map(({ trigramBits }) => trigramBits)).toFixed(3), accuracies.join(" ")],
      ];
    }),
  );
  const columns = ["text", "heads", "parameters", "bits per byte, head 1", "difference to n = 1", "trigrams"];
  return {
    title: `Held-out loss and accuracy, ${seedsOf(groups)} seeds`,
    columns: [...columns, "accuracy per head (%)"],
    rows,
  };
}

const accuracyOf = ({ results }: Arm, head: number): Interval =>
  shareInterval(results.map(({ accuracies }) => accuracies[head] ?? NaN));

function decodingTable(groups: readonly Group[]): Table {
  const rows = groups.flatMap((group) =>
    everyArm(group).flatMap((arm) =>
      draftLengths(headsOf(arm)).map((k) => [
        ...[titles[group.corpus], nameOf(arm), k === 1 ? "off" : k],
        ...[shown(heldOutTokens(arm, k), 2), shown(ownTokens(arm, k), 2)],
        ...[k === 1 ? "1" : shown(speedUps(arm, k), 2), count(tokensPerSecond(arm, k).mean)],
      ]),
    ),
  );
  const columns = ["text", "heads", "k", "tokens per forward, held-out", "tokens per forward, own text"];
  return {
    title: `Greedy decoding of one text, ${seedsOf(groups)} seeds`,
    columns: [...columns, "speed-up", "tokens per second"],
    rows,
  };
}

function costTable(groups: readonly Group[]): Table {
  const rows = groups.flatMap((group) =>
    everyArm(group).map((arm) => [
      ...[
        titles[group.corpus],
        nameOf(arm),
        meanOf(arm.results.map(stepMs)),
        shown(ratios(arm, group.single, stepMs), 2),
      ],
      ...[meanOf(arm.results.map(peak)) / 1e6, shown(ratios(arm, group.single, peak), 2)],
    ]),
  );
  const columns = ["text", "heads", "ms per step", "beside n = 1", "peak memory (MB)", "beside n = 1"];
  return { title: `Cost of training, ${seedsOf(groups)} seeds`, columns, rows };
}

// ---- figures --------------------------------------------------------------------------------------------------------

function seedsNote(groups: readonly Group[]): string {
  const seeds = seedsOf(groups);
  return seeds > 1 ? `Means over ${seeds} seeds with 95 % intervals.` : "One seed.";
}

const pointOf = (x: number, { mean, low, high }: Interval): Point => ({ x, y: mean, low, high });

/** Beside its tick, so that bars of several lines do not lie on each other. */
const beside = (n: number, i: number): number => n * 1.04 ** i;

const counts = { log: true, ticks: [1, 2, 4, 8], domain: [0.9, 9.5], format: "d" } as const;

function lossFigure(groups: readonly Group[]): Figure {
  const lossOf = (arm: Arm): Interval => lossInterval(arm.results.map(bits));
  const line = (name: string, color: string, arms: readonly Arm[], i: number): Line => ({
    ...{ name, color, marked: true },
    points: arms.map((arm) => pointOf(beside(headsOf(arm), i), lossOf(arm))),
  });
  const panels = groups.map(({ corpus, single, shared, replicated }): LinePanel => ({
    title: titles[corpus],
    lines: [
      line("shared", palette.blue, [single, ...shared], 0),
      ...(replicated.length > 0 ? [line("own", palette.vermilion, replicated, 1)] : []),
    ],
    levels: [{ name: "trigrams", color: palette.black, y: meanOf(single.results.map((result) => result.trigramBits)) }],
  }));
  return {
    name: "loss",
    title: "Loss of head 1 against the number of heads",
    caption:
      `Bits per byte of held-out text at equal parameters; unembedding shared by the heads or one of each head's own. Dotted: ` +
      `counts of three bytes over what was read in training. ${seedsNote(groups)}`,
    chart: lineChart(panels, { title: "heads, n", ...counts }, { title: "loss of head 1 (bits per byte)" }),
  };
}

function headsFigure(groups: readonly Group[]): Figure {
  const panels = groups.map(({ corpus, single, shared }): LinePanel => ({
    title: titles[corpus],
    lines: [single, ...shared].map((arm, i) => ({
      ...{ name: `n = ${headsOf(arm)}`, color: colors[headsOf(arm)] ?? palette.black, marked: true },
      points: Array.from({ length: headsOf(arm) }, (_, head) =>
        pointOf(head + 1 + (i - 1.5) * 0.06, accuracyOf(arm, head)),
      ),
    })),
  }));
  return {
    name: "heads",
    title: "Accuracy of each head",
    caption: `Share of held-out bytes that each head gets right, shared unembedding. ${seedsNote(groups)}`,
    chart: lineChart(
      panels,
      { title: "head (bytes ahead)", ticks: [1, 2, 3, 4, 5, 6, 7, 8], domain: [0.7, 8.4] },
      { title: "accuracy (share)" },
    ),
  };
}

/** A line for each n above 1, over the lengths of its drafts. */
function byDraftLength({ shared }: Group, of: (arm: Arm, k: number) => Interval): Line[] {
  return shared.map((arm, i) => ({
    ...{ name: `n = ${headsOf(arm)}`, color: colors[headsOf(arm)] ?? palette.black, marked: true },
    points: draftLengths(headsOf(arm)).map((k) => pointOf(k === 1 ? k : beside(k, i - 1), of(arm, k))),
  }));
}

const draftAxis = { title: "most tokens of a forward, k", ...counts };

function draftsFigure(groups: readonly Group[]): Figure {
  const panels = groups.flatMap((group): LinePanel[] => [
    { title: `${titles[group.corpus]}: held-out text`, lines: byDraftLength(group, heldOutTokens) },
    { title: `${titles[group.corpus]}: the model's own text`, lines: byDraftLength(group, ownTokens) },
  ]);
  return {
    name: "drafts",
    title: "Tokens per forward",
    caption:
      `A forward reads a draft of k − 1 tokens by heads 2 to k and adds those that head 1 agrees with, and one. Left: drafts ` +
      `judged at every position of held-out text; right: in what the model itself writes, greedily, behind held-out prompts. ` +
      `Shared unembedding. ${seedsNote(groups)}`,
    chart: lineChart(panels, draftAxis, { title: "tokens per forward" }, 2),
  };
}

function speedFigure(groups: readonly Group[]): Figure {
  const panels = groups.map((group): LinePanel => ({
    title: titles[group.corpus],
    lines: byDraftLength(group, speedUps),
    levels: [{ name: "plain", color: palette.black, y: 1 }],
  }));
  return {
    name: "speed",
    title: "Speed of writing with drafts",
    caption:
      `Times as fast as the same model's plain decoding, one text at a time, greedily, medians of rounds that take turns. With ` +
      `more heads fewer layers lie before head 1, for plain decoding too. Shared unembedding. ${seedsNote(groups)}`,
    chart: lineChart(panels, draftAxis, { title: "times as fast" }),
  };
}

function costFigure(groups: readonly Group[]): Figure {
  const [group] = groups;
  const arms = group ? everyArm(group) : [];
  const dots = (measured: (arm: Arm) => Interval): Dot[] =>
    arms.map((arm) => {
      const { mean, low, high } = measured(arm);
      return { name: nameOf(arm), color: colors[headsOf(arm)] ?? palette.black, value: mean, low, high };
    });
  const of = (value: (result: ByteResult) => number) => (arm: Arm) => intervalWithin(arm.results.map(value), 0);
  return {
    name: "cost",
    title: "Cost of training against the number of heads",
    caption: `Time and highest memory of a training step at equal parameters. ${seedsNote(groups)}`,
    chart: dotChart([
      { title: "Time", x: { title: "ms per step" }, dots: dots(of(stepMs)) },
      { title: "Memory", x: { title: "peak (MB)" }, dots: dots(of((result) => peak(result) / 1e6)) },
    ]),
  };
}
