// What the cells of the memory study say together.
import { ForetokenError } from "../errors.js";
import { armsOf, type Arm as Comparable } from "./arms.js";
import { arms, type Arm } from "./memory-arms.js";
import { phases, type Phase, type ArmResult, type MemoryResult, type MemorySettings } from "./memory-cell.js";
import { median, ratioInterval, shown, type Interval } from "./statistics.js";
import type { CellResult, Figure, Summary, Table } from "./study.js";
import { dotChart, lineChart, palette, type Axis, type DotPanel, type Line, type LinePanel } from "./style.js";

type Finished = CellResult<MemorySettings, MemoryResult>;

/** One number of heads at one vocabulary, its seeds in order. */
interface Point extends Comparable<MemorySettings, MemoryResult> {
  readonly n: number;
  readonly vocabulary: number;
}

const colors: Readonly<Record<Arm, string>> = {
  naive: palette.black,
  sequential: palette.vermilion,
  fused: palette.blue,
  "sequential + fused": palette.green,
};

const megabyte = 1e6;

export function summariseMemory(finished: readonly Finished[]): Summary {
  const points = pointsOf(finished);
  const vocabularies = [...new Set(points.map(({ vocabulary }) => vocabulary))];
  const largest = vocabularies.at(-1) ?? 0;
  const most = last(points.filter(({ vocabulary }) => vocabulary === largest));
  return {
    verdict: [savedSentence(most), slopeSentence(points, largest), timeSentence(most)].join(" "),
    findings: [
      apartFinding(most),
      activationFinding(points, vocabularies),
      predictedFinding(finished),
      exactFinding(finished),
    ],
    tables: [bytesTable(points), slopeTable(points, vocabularies), timeTable(points)],
    figures: [
      headsFigure(points, vocabularies),
      vocabularyFigure(points, most.n),
      savingsFigure(points, vocabularies, most.n),
      timeFigure(points, vocabularies),
      ratioFigure(points),
      ...timelineFigure(finished),
    ],
  };
}

/** In the order of the configurations: by vocabulary, then by number of heads. */
const pointsOf = (finished: readonly Finished[]): Point[] =>
  armsOf(finished, (settings) => JSON.stringify(settings)).map(({ settings, results }) => {
    const { futureTokens: n = 1, vocabSize: vocabulary = 0 } = settings.model;
    return { n, vocabulary, settings, results };
  });

function last<T>(list: readonly T[]): T {
  const found = list.at(-1);
  if (found !== undefined) return found;
  const details = { op: "study", argument: "memory", wanted: "finished cells", got: "none" };
  throw new ForetokenError("BAD_ARGUMENT", details);
}

// ---- bytes ----------------------------------------------------------------------------------------------------------

const armOf = ({ results }: Point, arm: Arm): ArmResult => last(results).arms[arm];
/** The same for every seed: it follows from shapes. */
const bytesOf = (point: Point, arm: Arm): number => armOf(point, arm).peakBytes;
const parameterBytesOf = ({ results }: Point): number => last(results).parameterBytes;
/** All but parameters, gradients and moments. */
const restOf = (point: Point, arm: Arm): number => bytesOf(point, arm) - parameterBytesOf(point);

/** Bytes per further head, from the least to the largest number of heads. */
function perHead(points: readonly Point[], vocabulary: number, of: (point: Point) => number): number {
  const line = points.filter((point) => point.vocabulary === vocabulary);
  const [low, high] = [line[0], last(line)];
  return low && high.n > low.n ? (of(high) - of(low)) / (high.n - low.n) : NaN;
}

/** 4·B·T·V: the logits of one head, in f32. */
const logitBytes = ({ settings: { batchSize, contextLength }, vocabulary }: Point): number =>
  4 * batchSize * contextLength * vocabulary;

function savedSentence(point: Point): string {
  const { n, vocabulary, settings } = point;
  const { batchSize, contextLength, model } = settings;
  const naive = bytesOf(point, "naive");
  const share = (arm: Arm): string => {
    const saved = naive - bytesOf(point, arm);
    return `${sized(bytesOf(point, arm))} (${(Math.abs(100 * saved) / naive).toFixed(1)} % ${saved < 0 ? "more" : "less"})`;
  };
  return (
    `At V = ${vocabulary} and n = ${n}, with ${batchSize * contextLength} positions of width ${model.hiddenSize ?? 0}, a step ` +
    `takes ${sized(naive)} naively, of which ${sized(parameterBytesOf(point))} are parameters, gradients and moments; ` +
    `one head at a time it takes ${share("sequential")}, with the fused loss alone ${share("fused")}, with both ` +
    `${share("sequential + fused")}.`
  );
}

function slopeSentence(points: readonly Point[], vocabulary: number): string {
  const slopes = arms.map((arm) => `${arm} ${sized(perHead(points, vocabulary, (point) => restOf(point, arm)))}`);
  const own = perHead(points, vocabulary, parameterBytesOf);
  return `Each further head takes ${sized(own)} for its parameters, their gradients and moments, and beside these: ${slopes.join(", ")}.`;
}

/** Savings do not add up: what one has saved the other cannot. */
function apartFinding(point: Point): string {
  const [naive, sequential, fused, both] = arms.map((arm) => bytesOf(point, arm)) as [number, number, number, number];
  return (
    `Of the ${sized(naive - both)} that both save there, the order alone saves ${sized(naive - sequential)} and the fused ` +
    `loss ${sized(sequential - both)} more behind it; the fused loss alone saves ${sized(naive - fused)} and the order ` +
    `${sized(fused - both)} more behind it. The logits of a head are ${sized(logitBytes(point))}.`
  );
}

function predictedFinding(finished: readonly Finished[]): string {
  const all = finished.flatMap(({ result }) => arms.map((arm) => result.arms[arm]));
  const equal = all.filter(({ peakBytes, predictedBytes }) => peakBytes === predictedBytes);
  const off = Math.max(...all.map(({ peakBytes, predictedBytes }) => Math.abs(peakBytes - predictedBytes)));
  return (
    `Predicted and measured peaks are equal to the byte in ${equal.length} of ${all.length} measurements` +
    `${equal.length === all.length ? "" : `, and at most ${off} bytes apart`}.`
  );
}

/** The largest difference of a head's loss or of the gradient's norm to the naive arm's, as a share of it. */
export function largestDifference({ arms: { naive, ...others } }: MemoryResult): number {
  const apart = (a: number, b: number): number => Math.abs(a - b) / Math.abs(b);
  return Math.max(
    ...Object.values(others).flatMap(({ losses, gradientNorm }) => [
      ...losses.map((loss, i) => apart(loss, naive.losses[i] ?? NaN)),
      apart(gradientNorm, naive.gradientNorm),
    ]),
  );
}

function exactFinding(finished: readonly Finished[]): string {
  const worst = Math.max(...finished.map(({ result }) => largestDifference(result)));
  return (
    `All arms compute the same in f32: heads' losses and gradient norms differ from the naive ones by ` +
    `${worst.toExponential(1)} of them at the most.`
  );
}

/** What the order still saves after the loss is fused: the activations of a head. */
function activationFinding(points: readonly Point[], vocabularies: readonly number[]): string {
  const [first] = points;
  const { batchSize = 0, contextLength = 0, model } = first?.settings ?? {};
  const cells = batchSize * contextLength * (model?.hiddenSize ?? 0);
  const saved = vocabularies.map((vocabulary) => {
    const slope = (arm: Arm): number => perHead(points, vocabulary, (point) => restOf(point, arm));
    return (slope("fused") - slope("sequential + fused")) / cells;
  });
  const [low, high] = [Math.min(...saved), Math.max(...saved)];
  return (
    `Where the loss is fused, the order saves per further head ${low.toFixed(1)}` +
    `${high - low < 0.05 ? "" : ` to ${high.toFixed(1)}`} bytes per position and unit of width: its activations, whatever V.`
  );
}

// ---- time -----------------------------------------------------------------------------------------------------------

/** Of an arm's step over the naive one's, medians of the same cell, over the seeds. */
function ratioOf({ results }: Point, arm: Arm): Interval {
  return ratioInterval(
    results.map(({ arms: measured }) => median(measured[arm].stepMs) / median(measured.naive.stepMs)),
  );
}

function timeSentence(point: Point): string {
  const said = arms.slice(1).map((arm) => {
    const { mean, low, high } = ratioOf(point, arm);
    if (low === null || high === null) return `${arm} ${mean.toFixed(2)} times, of one seed`;
    const bounds = `${mean.toFixed(2)} [${low.toFixed(2)}, ${high.toFixed(2)}] times`;
    return low <= 1 && high >= 1 ? `${arm} no difference that was seen (${bounds})` : `${arm} ${bounds}`;
  });
  return `Time of a step there, beside naive: ${said.join(", ")}.`;
}

// ---- tables ---------------------------------------------------------------------------------------------------------

const sized = (bytes: number): string => {
  const size = Math.abs(bytes);
  if (size >= 1e9) return `${(bytes / 1e9).toFixed(2)} GB`;
  return size >= 1e5 ? `${(bytes / megabyte).toFixed(1)} MB` : `${(bytes / 1e3).toFixed(1)} kB`;
};

function bytesTable(points: readonly Point[]): Table {
  const saved = ["by the order alone", "by the fused loss alone", "by both"];
  return {
    title: "Bytes of a training step at the most, and what is saved of the naive ones",
    columns: ["V", "n", "parameters, gradients, moments", ...arms, ...saved, "predicted"],
    rows: points.map((point) => {
      const naive = bytesOf(point, "naive");
      const equal = point.results.every(({ arms: measured }) =>
        arms.every((arm) => measured[arm].peakBytes === measured[arm].predictedBytes),
      );
      return [
        ...[point.vocabulary, point.n, sized(parameterBytesOf(point))],
        ...arms.map((arm) => sized(bytesOf(point, arm))),
        ...arms.slice(1).map((arm) => sized(naive - bytesOf(point, arm))),
        equal ? "to the byte" : "not equal",
      ];
    }),
  };
}

function slopeTable(points: readonly Point[], vocabularies: readonly number[]): Table {
  return {
    title: "Bytes per further head",
    columns: ["V", "its parameters, gradients, moments", "its logits in f32", ...arms.map((arm) => `beside: ${arm}`)],
    rows: vocabularies.map((vocabulary) => [
      vocabulary,
      sized(perHead(points, vocabulary, parameterBytesOf)),
      sized(logitBytes(last(points.filter((point) => point.vocabulary === vocabulary)))),
      ...arms.map((arm) => sized(perHead(points, vocabulary, (point) => restOf(point, arm)))),
    ]),
  };
}

function timeTable(points: readonly Point[]): Table {
  const seeds = points[0]?.results.length ?? 0;
  return {
    title: `Time of a step, ${seeds} seeds, medians of ${points[0]?.settings.rounds ?? 0} steps, the arms in turn`,
    columns: ["V", "n", "naive (ms)", ...arms.slice(1).map((arm) => `${arm} (× naive)`)],
    rows: points.map((point) => [
      ...[point.vocabulary, point.n],
      median(point.results.map(({ arms: measured }) => median(measured.naive.stepMs))),
      ...arms.slice(1).map((arm) => shown(ratioOf(point, arm), 2)),
    ]),
  };
}

// ---- figures --------------------------------------------------------------------------------------------------------

const parameterLine = (points: readonly Line["points"][number][], name: string): Line => ({
  ...{ name, color: palette.orange, dashed: true, points },
});

/** The first, a middle and the last one. */
const some = (list: readonly number[]): number[] => [
  ...new Set([list[0] ?? 0, list[Math.floor(list.length / 2)] ?? 0, list.at(-1) ?? 0]),
];

const measuredNote =
  "Lines: as predicted by a run on a device that allocates nothing; marks: as measured by the device's ledger.";

/** An arm's predictions as a line, its measurements as marks on it. */
function bytesLines(points: readonly Point[], x: (point: Point) => number, named: boolean): Line[] {
  return [
    ...arms.flatMap((arm): Line[] => {
      const at = (of: (result: ArmResult) => number): Line["points"] =>
        points.map((point) => ({ x: x(point), y: of(armOf(point, arm)) / megabyte }));
      return [
        { name: named ? arm : "", color: colors[arm], points: at(({ predictedBytes }) => predictedBytes) },
        { name: "", color: colors[arm], marked: true, points: at(({ peakBytes }) => peakBytes) },
      ];
    }),
    parameterLine(
      points.map((point) => ({ x: x(point), y: parameterBytesOf(point) / megabyte })),
      named ? "parameters etc." : "",
    ),
  ];
}

function headsFigure(points: readonly Point[], vocabularies: readonly number[]): Figure {
  const chosen = some(vocabularies);
  const panels = chosen.map((vocabulary, i): LinePanel => {
    const line = points.filter((point) => point.vocabulary === vocabulary);
    return { title: `V = ${vocabulary}`, lines: bytesLines(line, ({ n }) => n, i === chosen.length - 1) };
  });
  const ticks = [...new Set(points.map(({ n }) => n))];
  return {
    name: "heads",
    title: "Bytes of a step against the number of heads",
    caption: `Dashed: parameters, gradients and moments, which all arms have. ${measuredNote}`,
    chart: lineChart(panels, { title: "heads", ticks }, { title: "bytes at the most (MB)", log: true, format: "~g" }),
  };
}

function vocabularyFigure(points: readonly Point[], n: number): Figure {
  const line = points.filter((point) => point.n === n);
  return {
    name: "vocabulary",
    title: `Bytes of a step against the vocabulary, ${n} heads`,
    caption: `Dashed: parameters, gradients and moments, which all arms have. ${measuredNote}`,
    chart: lineChart(
      [{ title: "", lines: bytesLines(line, ({ vocabulary }) => vocabulary, true) }],
      { title: "vocabulary (tokens)", log: true, ticks: line.map(({ vocabulary }) => vocabulary), format: ".3~s" },
      { title: "bytes at the most (MB)", log: true, format: "~g" },
    ),
  };
}

function savingsFigure(points: readonly Point[], vocabularies: readonly number[], n: number): Figure {
  const panels = some(vocabularies).map((vocabulary): DotPanel => {
    const point = points.find((each) => each.vocabulary === vocabulary && each.n === n);
    const dots = arms.map((arm) => ({
      ...{ name: arm, color: colors[arm] },
      value: point ? restOf(point, arm) / megabyte : NaN,
    }));
    const most = Math.max(...dots.map(({ value }) => value));
    return { title: `V = ${vocabulary}`, x: { title: "bytes (MB)", domain: [0, 1.05 * most] }, dots };
  });
  return {
    name: "savings",
    title: `What each saves, ${n} heads`,
    caption:
      "Bytes of a step at the most, less parameters, gradients and moments: what the order of the heads and the fused " +
      "loss can save, each alone and both.",
    chart: dotChart(panels),
  };
}

/** Where the ratios themselves are; intervals that go on beyond are cut there. */
function ratioAxis(panels: readonly LinePanel[]): Axis {
  const ratios = panels.flatMap(({ lines }) => lines.flatMap(({ points }) => points.map(({ y }) => y)));
  const domain: [number, number] = [Math.min(1, ...ratios) / 1.3, Math.max(1, ...ratios) * 1.3];
  const ticks = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.2, 1.5, 2, 3, 5].filter(
    (x) => x >= domain[0] && x <= domain[1],
  );
  return { title: "time of a step (× naive)", log: true, format: "~g", domain, ticks };
}

function timeFigure(points: readonly Point[], vocabularies: readonly number[]): Figure {
  const chosen = some(vocabularies);
  const panels = chosen.map((vocabulary, i): LinePanel => {
    const line = points.filter((point) => point.vocabulary === vocabulary);
    const lines = arms.map((arm, which): Line => {
      const at = (point: Point): Line["points"][number] => {
        const { mean, low, high } = ratioInterval(point.results.map((result) => median(result.arms[arm].stepMs)));
        return { x: point.n + (which - 1.5) * 0.06, y: mean, low, high };
      };
      return { name: i === chosen.length - 1 ? arm : "", color: colors[arm], marked: true, points: line.map(at) };
    });
    return { title: `V = ${vocabulary}`, lines };
  });
  const means = panels.flatMap(({ lines }) => lines.flatMap((line) => line.points.map(({ y }) => y)));
  const domain: [number, number] = [Math.min(...means) / 1.5, Math.max(...means) * 1.5];
  return {
    name: "time",
    title: "Time of a step against the number of heads",
    caption: timeNote(points),
    chart: lineChart(
      panels,
      { title: "heads", ticks: [...new Set(points.map(({ n }) => n))] },
      { title: "time of a step (ms)", log: true, format: "~g", domain },
    ),
  };
}

function timeNote(points: readonly Point[]): string {
  const seeds = points[0]?.results.length ?? 0;
  return (
    `Medians of ${points[0]?.settings.rounds ?? 0} steps of each arm, in turn within one run; ` +
    `${seeds > 1 ? `means over ${seeds} seeds with 95 % intervals` : "one seed"}, cut at the axis.`
  );
}

function ratioFigure(points: readonly Point[]): Figure {
  const chosen = some([...new Set(points.map(({ n }) => n))]);
  const panels = chosen.map((n, i): LinePanel => {
    const line = points.filter((point) => point.n === n);
    return {
      title: `n = ${n}`,
      levels: [{ name: i === chosen.length - 1 ? "naive" : "", color: colors.naive, y: 1 }],
      lines: arms.slice(1).map((arm, which) => ({
        ...{ name: i === chosen.length - 1 ? arm : "", color: colors[arm], marked: true },
        points: line.map((point) => {
          const { mean, low, high } = ratioOf(point, arm);
          return { x: point.vocabulary * 1.05 ** (which - 1), y: mean, low, high };
        }),
      })),
    };
  });
  return {
    name: "time-ratio",
    title: "Time of a step beside the naive one's",
    caption: timeNote(points),
    chart: lineChart(panels, { title: "vocabulary (tokens)", log: true, format: "~s" }, ratioAxis(panels)),
  };
}

const phaseNames: Readonly<Record<Phase, string>> = {
  ...{ "trunk forward": "trunk", heads: "heads", "trunk backward": "trunk", optimizer: "optimizer" },
};

/** Of the first cell that has one. */
function timelineFigure(finished: readonly Finished[]): Figure[] {
  const cell = finished.find(({ settings }) => settings.timeline);
  if (!cell) return [];
  const panels = arms.flatMap((arm): LinePanel[] => {
    const { timeline, peakBytes } = cell.result.arms[arm];
    if (!timeline) return [];
    return [
      {
        title: `${arm}: ${sized(peakBytes)} at the most`,
        lines: [{ name: "", color: colors[arm], points: timeline.bytes.map((y, x) => ({ x, y: y / megabyte })) }],
        levels: [{ name: "", color: palette.orange, y: cell.result.parameterBytes / megabyte }],
        moments: phases.map((phase) => ({ name: phaseNames[phase], x: timeline.begins[phase] })),
      },
    ];
  });
  const all = panels.flatMap(({ lines }) => lines.flatMap(({ points }) => points));
  const highest = (values: readonly number[]): number => values.reduce((most, value) => Math.max(most, value), 0);
  const { futureTokens = 1, vocabSize = 0 } = cell.settings.model;
  return [
    {
      name: "timeline",
      title: `Bytes through a step, ${futureTokens} heads, V = ${vocabSize}`,
      caption:
        "Bytes at the most while each operation of the step runs, workspaces included, by the device's ledger. Rules: " +
        "where the trunk's forward pass, the heads, the trunk's backward pass and the optimizer begin. Dotted: parameters, " +
        "gradients and moments.",
      chart: lineChart(
        panels,
        { title: "operation of the step", domain: [0, highest(all.map(({ x }) => x))] },
        { title: "bytes (MB)", domain: [0, 1.15 * highest(all.map(({ y }) => y))] },
        1,
      ),
    },
  ];
}
