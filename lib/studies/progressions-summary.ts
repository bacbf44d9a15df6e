// What the cells of the progressions study say together: pictures, tables, and a verdict on sample efficiency.
import {
  given,
  sequenceLength,
  trainedPositions,
  type CurvePoint,
  type ProgressionResult,
  type ProgressionSettings,
  type TrunkName,
} from "./progressions-cell.js";
import { interval, lossInterval, meanOf, shareInterval, shown, type Interval } from "./statistics.js";
import type { CellResult, Figure, Summary, Table } from "./study.js";
import { heatMaps, lineChart, palette, type Line, type LinePanel, type Point } from "./style.js";

type Finished = CellResult<ProgressionSettings, ProgressionResult>;

const trunkTitles: Readonly<Record<TrunkName, string>> = { rnn: "RNN", transformer: "Transformer" };
const single = { color: palette.vermilion, name: "n = 1" };
const multi = { color: palette.blue, name: "n = 3" };

/** The positions at which both numbers of heads are trained: 17. */
const common = trainedPositions(3);
/** Loss and accuracy that no predictor beats on all sequences alike: only the first position leaves two values open. */
const floor = (futureTokens: number): number => Math.LN2 / trainedPositions(futureTokens);
const ceiling = (futureTokens: number): number => 1 - 0.5 / trainedPositions(futureTokens);

/** Cells by trunk, heads and amount; seeds in order. */
class Cells {
  constructor(private readonly all: readonly Finished[]) {}

  get trunks(): TrunkName[] {
    return [...new Set(this.all.map(({ settings }) => settings.trunk))];
  }

  get amounts(): number[] {
    return [...new Set(this.all.map(({ settings }) => settings.sequences))].sort((a, b) => a - b);
  }

  get seeds(): number {
    return new Set(this.all.map(({ seed }) => seed)).size;
  }

  of(trunk: TrunkName, futureTokens: number, sequences: number): ProgressionResult[] {
    const found = this.all.filter(
      ({ settings: s }) => s.trunk === trunk && s.futureTokens === futureTokens && s.sequences === sequences,
    );
    return found.sort((a, b) => a.seed - b.seed).map(({ result }) => result);
  }
}

export function summariseProgressions(results: readonly Finished[]): Summary {
  const cells = new Cells(results);
  return {
    verdict: cells.trunks.map((trunk) => verdictOf(cells, trunk)).join(" "),
    findings: [...cells.trunks.map((trunk) => ruleFinding(cells, trunk)), splitFinding(cells), sizeFinding(results)],
    tables: [efficiencyTable(cells), floorsTable(cells)],
    figures: [
      learningFigure(cells, "loss"),
      learningFigure(cells, "accuracy"),
      headsFigure(cells),
      positionsFigure(cells),
      distanceFigure(cells),
      efficiencyFigure(cells),
      differenceFigure(cells),
    ],
  };
}

/** What a held-out loss of head 1 is a mean over. */
interface Part {
  readonly title: string;
  readonly from: number;
}
const everywhere: Part = { title: "all 17 positions", from: 0 };
const determined: Part = { title: "the 16 determined positions", from: 1 };

const lossOver = ({ losses }: ProgressionResult, { from }: Part): number =>
  meanOf((losses[0] ?? []).slice(from, common).map((nats) => nats ?? NaN));

/** Loss with three heads less loss with one, seed by seed: same split, same start values of what both have. */
function differences(cells: Cells, trunk: TrunkName, sequences: number, part: Part): number[] {
  const [one, three] = [1, 3].map((n) => cells.of(trunk, n, sequences).map((result) => lossOver(result, part)));
  return (three ?? []).map((loss, i) => loss - (one?.[i] ?? NaN));
}

/** Each seed's mean over the amounts: one number a seed for one interval. */
function overAmounts(cells: Cells, trunk: TrunkName, part: Part): Interval {
  const perAmount = cells.amounts.map((amount) => differences(cells, trunk, amount, part));
  return interval(Array.from({ length: cells.seeds }, (_, i) => meanOf(perAmount.map((seeds) => seeds[i] ?? NaN))));
}

function verdictOf(cells: Cells, trunk: TrunkName): string {
  const all = overAmounts(cells, trunk, everywhere);
  const rule = overAmounts(cells, trunk, determined);
  return (
    `${trunkTitles[trunk]}: ${said(all)}. With three heads the held-out loss of head 1 is ${higher(all)}, and on the ` +
    `determined values alone ${higher(rule)} (means over ${cells.amounts.length} amounts of sequences).`
  );
}

/** Whether better sample efficiency was seen: the interval decides. */
export function said({ low, high }: Interval): string {
  if (low === null || high === null) return "one seed says nothing of sample efficiency";
  if (high < 0) return "three heads were seen to be more sample-efficient than one";
  if (low > 0) return "three heads were seen to be less sample-efficient than one, not more";
  return "no difference in sample efficiency was seen between one and three heads";
}

function higher({ mean, low, high }: Interval): string {
  const sign = mean < 0 ? -1 : 1;
  const bounds =
    low === null || high === null
      ? ""
      : ` [${[low * sign, high * sign]
          .sort((a, b) => a - b)
          .map(nats)
          .join(", ")}]`;
  return `${nats(Math.abs(mean))}${bounds} nats ${mean < 0 ? "lower" : "higher"}`;
}

const nats = (value: number): string => value.toFixed(3);

function ruleFinding(cells: Cells, trunk: TrunkName): string {
  const most = cells.amounts.at(-1) ?? 0;
  const end = (n: number): string =>
    shown(shareInterval(cells.of(trunk, n, most).map(({ rolledOut }) => meanOf(rolledOut))));
  return (
    `${trunkTitles[trunk]}, ${most} sequences: given ${given} values of a sequence never seen, head 1 writes ` +
    `${end(1)} of the other ${sequenceLength - given} right with n = 1, ${end(3)} with n = 3.`
  );
}

function splitFinding(cells: Cells): string {
  const most = cells.amounts.at(-1) ?? 0;
  const first = cells.trunks.map((trunk) => {
    const nats = [1, 3].map((n) => meanOf(cells.of(trunk, n, most).map(({ losses }) => losses[0]?.[0] ?? NaN)));
    return `${trunkTitles[trunk]} ${nats.map((value) => value.toFixed(2)).join(" and ")}`;
  });
  return (
    `The held-out loss stays above its floor because of the first position, where ln 2 = 0.69 nats is possible: a model ` +
    `that has seen a start with one step only expects that step again. It pays there, with n = 1 and n = 3, ` +
    `${first.join("; ")} nats (${most} sequences).`
  );
}

/** What was trained, for how long. */
function sizeFinding(results: readonly Finished[]): string {
  const models = new Map(
    results.map(({ settings: { trunk, futureTokens, steps, batchSize }, result }) => [
      `${trunkTitles[trunk]}, n = ${futureTokens}`,
      `${result.parameters.toLocaleString("en")} parameters, ${steps.toLocaleString("en")} steps of ${batchSize} sequences`,
    ]),
  );
  return `${[...models].map(([name, size]) => `${name}: ${size}`).join("; ")}.`;
}

function efficiencyTable(cells: Cells): Table {
  const rows = cells.trunks.flatMap((trunk) =>
    cells.amounts.map((amount) => {
      const loss = (n: number): string =>
        shown(lossInterval(cells.of(trunk, n, amount).map((r) => lossOver(r, everywhere))));
      const less = (part: Part): string => shown(interval(differences(cells, trunk, amount, part)));
      return [trunkTitles[trunk], amount, loss(1), loss(3), less(everywhere), less(determined)];
    }),
  );
  return {
    title: `Held-out loss of head 1 (nats a value, 17 positions) by number of training sequences, ${cells.seeds} seeds`,
    columns: ["trunk", "sequences", "n = 1", "n = 3", "difference", "difference, determined values"],
    rows,
  };
}

function floorsTable(cells: Cells): Table {
  const most = cells.amounts.at(-1) ?? 0;
  const rows = cells.trunks.flatMap((trunk) =>
    [1, 3].map((n) => {
      const results = cells.of(trunk, n, most);
      const last = (field: keyof CurvePoint): string =>
        shown(
          (field.endsWith("Accuracy") ? shareInterval : lossInterval)(
            results.map(({ curve }) => curve.at(-1)?.[field] ?? NaN),
          ),
          4,
        );
      const floorSeen = meanOf(results.map(({ trainFloor }) => trainFloor));
      const ceilingSeen = meanOf(results.map(({ trainCeiling }) => trainCeiling));
      return [
        ...[trunkTitles[trunk], n, last("trainLoss"), floorSeen.toFixed(4), last("heldOutLoss"), floor(n).toFixed(5)],
        ...[last("trainAccuracy"), ceilingSeen.toFixed(4), last("heldOutAccuracy"), ceiling(n).toFixed(4)],
      ];
    }),
  );
  const columns = ["trunk", "n", "training loss", "its floor", "held-out loss", "its floor"];
  return {
    title: `After the last step beside what is possible, ${most} sequences, means over heads`,
    columns: [...columns, "training accuracy", "its ceiling", "held-out accuracy", "its ceiling"],
    rows,
  };
}

const seedsNote = (cells: Cells): string =>
  cells.seeds > 1 ? `Means over ${cells.seeds} seeds, each with its own split, with 95 % intervals.` : "One seed.";

const pointOf = (x: number, values: readonly number[], among = interval): Point => {
  const { mean, low, high } = among(values);
  return { x, y: mean, low, high };
};
const sharePoint = (x: number, shares: readonly number[]): Point => pointOf(x, shares, shareInterval);

function learningFigure(cells: Cells, kind: "loss" | "accuracy"): Figure {
  const most = cells.amounts.at(-1) ?? 0;
  const loss = kind === "loss";
  const panels = cells.trunks.flatMap((trunk) =>
    [1, 3].map((n): LinePanel => {
      const results = cells.of(trunk, n, most);
      const line = (name: string, color: string, field: keyof CurvePoint): Line => ({
        ...{ name, color },
        points: (results[0]?.curve ?? []).map(({ step }, i) =>
          (loss ? pointOf : sharePoint)(
            step,
            results.map(({ curve }) => curve[i]?.[field] ?? NaN),
          ),
        ),
      });
      const known = loss ? floor(n) : ceiling(n);
      const own = meanOf(results.map(({ trainFloor, trainCeiling }) => (loss ? trainFloor : trainCeiling)));
      return {
        title: `${trunkTitles[trunk]}, n = ${n}`,
        lines: [
          line("training", palette.vermilion, loss ? "trainLoss" : "trainAccuracy"),
          line("held out", palette.blue, loss ? "heldOutLoss" : "heldOutAccuracy"),
        ],
        levels: [
          {
            name: loss ? `floor ln 2 / ${trainedPositions(n)}` : `ceiling ${known.toFixed(4)}`,
            color: palette.blue,
            y: known,
          },
          { name: `${loss ? "floor" : "ceiling"} of the split`, color: palette.vermilion, y: own },
        ],
      };
    }),
  );
  const y = loss
    ? { title: "loss (nats a value)", log: true }
    : { title: "accuracy (share)", domain: [0, 1.02] as const };
  return {
    name: `learning-${kind}`,
    title: `Learning: ${kind}`,
    caption:
      `${loss ? "Loss" : "Accuracy"}, mean over heads, while learning from ${most} sequences. Dotted: what is possible at ` +
      `all, on every progression (blue) and for one who knows which sequences are learnt from (red). ${seedsNote(cells)}`,
    chart: lineChart(panels, { title: "step", log: true }, y, 2),
  };
}

function headsFigure(cells: Cells): Figure {
  const shades = [palette.purple, palette.sky, palette.green, palette.vermilion, palette.blue];
  const panels = cells.trunks.map((trunk): LinePanel => ({
    title: trunkTitles[trunk],
    lines: cells.amounts.map((amount, i) => ({
      name: `${amount} sequences`,
      color: shades[(i + shades.length - cells.amounts.length + shades.length) % shades.length] ?? palette.black,
      marked: true,
      points: [1, 2, 3].map((head) =>
        sharePoint(
          head + (i - (cells.amounts.length - 1) / 2) * 0.05,
          cells.of(trunk, 3, amount).map(({ accuracies }) => accuracyOf(accuracies[head - 1])),
        ),
      ),
    })),
    levels: [{ name: "ceiling 0.9706", color: palette.black, y: ceiling(3) }],
  }));
  return {
    name: "heads",
    title: "Accuracy of each head",
    caption: `Share of held-out values that each of three heads gets right, over 17 positions. ${seedsNote(cells)}`,
    chart: lineChart(
      panels,
      { title: "head (values ahead)", ticks: [1, 2, 3], domain: [0.8, 3.2] },
      { title: "accuracy (share)", domain: [0, 1.02] },
    ),
  };
}

const accuracyOf = (accuracies: readonly (number | null)[] | undefined): number =>
  meanOf((accuracies ?? []).slice(0, common).map((share) => share ?? NaN));

function positionsFigure(cells: Cells): Figure {
  const most = cells.amounts.at(-1) ?? 0;
  const maps = cells.trunks.map((trunk) => {
    const rowOf = (n: number, head: number): (number | null)[] => {
      const rows = cells.of(trunk, n, most).map(({ accuracies }) => accuracies[head - 1] ?? []);
      return (rows[0] ?? []).map((share, t) => (share === null ? null : meanOf(rows.map((row) => row[t] ?? NaN))));
    };
    return {
      title: trunkTitles[trunk],
      rows: ["n = 1", "n = 3, head 1", "n = 3, head 2", "n = 3, head 3"],
      columns: Array.from({ length: sequenceLength - 1 }, (_, t) => String(t + 1)),
      values: [rowOf(1, 1), rowOf(3, 1), rowOf(3, 2), rowOf(3, 3)],
    };
  });
  return {
    name: "positions",
    title: "Accuracy by position and head",
    caption:
      `Share of held-out values right, ${most} training sequences. After one value the step is open: 0.5 is possible, and ` +
      `less is seen where models expect the only step they saw with a start. From the second on everything is ` +
      `determined. With n = 3 positions 18 and 19 are not trained on. ` +
      `Means over ${cells.seeds} ${cells.seeds === 1 ? "seed" : "seeds"}.`,
    chart: heatMaps(maps, "values read", ""),
  };
}

function distanceFigure(cells: Cells): Figure {
  const few = cells.amounts[Math.min(1, cells.amounts.length - 2)] ?? cells.amounts[0] ?? 0;
  const shownAmounts = [...new Set([few, cells.amounts.at(-1) ?? 0])];
  const panels = cells.trunks.flatMap((trunk) =>
    shownAmounts.map((amount): LinePanel => {
      const written = (n: number): Point[] =>
        Array.from({ length: sequenceLength - given }, (_, i) =>
          sharePoint(
            i + 1,
            cells.of(trunk, n, amount).map(({ rolledOut }) => rolledOut[i] ?? NaN),
          ),
        );
      const direct = [1, 2, 3].map((head) =>
        sharePoint(
          head,
          cells.of(trunk, 3, amount).map(({ accuracies }) => accuracies[head - 1]?.[given - 1] ?? NaN),
        ),
      );
      return {
        title: `${trunkTitles[trunk]}, ${amount} sequences`,
        lines: [
          { ...single, points: written(1) },
          { ...multi, points: written(3) },
          { name: "n = 3, heads 1–3", color: palette.black, marked: true, points: direct },
        ],
      };
    }),
  );
  return {
    name: "distance",
    title: "Accuracy against distance",
    caption:
      `Held-out sequences of which ${given} values are given. Lines: head 1 goes on alone, reading what it wrote; black ` +
      `points: heads 1, 2 and 3 at the last given value. ${seedsNote(cells)}`,
    chart: lineChart(
      panels,
      { title: "distance (values ahead)", ticks: [1, 5, 10, 17] },
      { title: "accuracy (share)", domain: [0, 1.05] },
      shownAmounts.length,
    ),
  };
}

function efficiencyFigure(cells: Cells): Figure {
  const panels = [everywhere, determined].flatMap((part) =>
    cells.trunks.map((trunk): LinePanel => ({
      title: `${trunkTitles[trunk]}, ${part.title}`,
      lines: [single, multi].map(({ color, name }, i) => ({
        ...{ color, name, marked: true },
        points: cells.amounts.map((amount) =>
          pointOf(
            amount + (i - 0.5) * 0.6,
            cells.of(trunk, i === 0 ? 1 : 3, amount).map((result) => lossOver(result, part)),
          ),
        ),
      })),
      levels: part === everywhere ? [{ name: "floor ln 2 / 17", color: palette.black, y: floor(3) }] : [],
    })),
  );
  return {
    name: "sample-efficiency",
    title: "Sample efficiency",
    caption:
      `Held-out loss of head 1 after the last step against the number of different training sequences, the number of steps ` +
      `being the same. Above: all positions; below: without the first, whose loss tells more of the split than of the rule. ` +
      seedsNote(cells),
    chart: lineChart(
      panels,
      { title: "training sequences", ticks: cells.amounts, domain: amountDomain(cells) },
      { title: "loss (nats a value)", log: true },
      cells.trunks.length,
    ),
  };
}

function differenceFigure(cells: Cells): Figure {
  const panels = cells.trunks.map((trunk): LinePanel => ({
    title: trunkTitles[trunk],
    lines: [everywhere, determined].map((part, i) => ({
      name: i === 0 ? "all positions" : "determined",
      color: i === 0 ? palette.black : palette.green,
      marked: true,
      points: cells.amounts.map((amount) => {
        const point = pointOf(amount, differences(cells, trunk, amount, part));
        return { ...point, x: amount + (i - 0.5) * 0.6 };
      }),
    })),
    levels: [{ name: "no difference", color: palette.black, y: 0 }],
  }));
  return {
    name: "difference",
    title: "Three heads less one",
    caption:
      `Held-out loss of head 1 with n = 3 less that with n = 1, seed by seed; below zero three heads are better. ` +
      seedsNote(cells),
    chart: lineChart(
      panels,
      { title: "training sequences", ticks: cells.amounts, domain: amountDomain(cells) },
      { title: "difference (nats a value)" },
    ),
  };
}

const amountDomain = ({ amounts }: Cells): [number, number] => [Math.min(...amounts) - 1.5, Math.max(...amounts) + 1.5];
