// What the cells of the induction study say together: accuracy against size and number of heads, and when it came.
import { sayDifference } from "./arms.js";
import type { InductionResult, InductionSettings } from "./induction-cell.js";
import { intervalWithin, lossInterval, meanOf, median, shareInterval, shown, type Interval } from "./statistics.js";
import type { CellResult, Figure, Summary, Table } from "./study.js";
import { lineChart, palette, type Line, type LinePanel, type Point } from "./style.js";

type Finished = CellResult<InductionSettings, InductionResult>;
type Kind = InductionSettings["kind"];

const titles: Readonly<Record<Kind, string>> = { tiny: "Tiny stories", short: "Short stories", long: "Long stories" };
const colors: Readonly<Record<number, string>> = { 1: palette.vermilion, 2: palette.blue, 4: palette.green };
const colorOf = (heads: number): string => colors[heads] ?? palette.black;

/** A model completes names from where it gets this share of them right. */
export const formedAt = 0.9;

/** Cells by stories, width and heads; seeds in order. */
class Cells {
  constructor(private readonly all: readonly Finished[]) {}

  get kinds(): Kind[] {
    return [...new Set(this.all.map(({ settings }) => settings.kind))];
  }

  get seeds(): number {
    return new Set(this.all.map(({ seed }) => seed)).size;
  }

  sizes(kind: Kind): number[] {
    return this.different(kind, ({ settings }) => settings.hiddenSize);
  }

  heads(kind: Kind): number[] {
    return this.different(kind, ({ settings }) => settings.futureTokens);
  }

  settings(kind: Kind): InductionSettings[] {
    return this.all.filter(({ settings }) => settings.kind === kind).map(({ settings }) => settings);
  }

  of(kind: Kind, hiddenSize: number, futureTokens: number): InductionResult[] {
    const found = this.all.filter(
      ({ settings: s }) => s.kind === kind && s.hiddenSize === hiddenSize && s.futureTokens === futureTokens,
    );
    return found.sort((a, b) => a.seed - b.seed).map(({ result }) => result);
  }

  private different(kind: Kind, value: (cell: Finished) => number): number[] {
    return [...new Set(this.all.filter(({ settings }) => settings.kind === kind).map(value))].sort((a, b) => a - b);
  }
}

export function summariseInduction(finished: readonly Finished[]): Summary {
  const cells = new Cells(finished);
  return {
    verdict: cells.kinds.map((kind) => verdictOf(cells, kind)).join(" "),
    findings: [
      ...cells.kinds.map((kind) => speedFinding(cells, kind)),
      ...cells.kinds.map((kind) => sizeFinding(cells, kind)),
    ],
    tables: cells.kinds.flatMap((kind) => [accuracyTable(cells, kind), headsTable(cells, kind)]),
    figures: [sizeFigure(cells), differenceFigure(cells), ...cells.kinds.map((kind) => learningFigure(cells, kind))],
  };
}

const accuracyOf = ({ judged }: InductionResult): number => judged[0] ?? NaN;

/** The mean over training of the accuracy on the way: higher the sooner names are completed. */
const onTheWay = ({ curve }: InductionResult): number => meanOf(curve.map(({ accuracy }) => accuracy));

/** The step of the first point of the curve at which names are completed; null if there is none. */
export const formedStep = ({ curve }: Pick<InductionResult, "curve">): number | null =>
  curve.find(({ accuracy }) => accuracy >= formedAt)?.step ?? null;

/** With several heads less with one, seed by seed: same stories in the same order; of shares, so within −1..1. */
function differences(
  cells: Cells,
  [kind, size, heads]: readonly [Kind, number, number],
  value: (result: InductionResult) => number,
): Interval {
  const base = cells.of(kind, size, 1).map(value);
  const less = cells.of(kind, size, heads).map((result, i) => value(result) - (base[i] ?? NaN));
  return intervalWithin(less, -1, 1);
}

function verdictOf(cells: Cells, kind: Kind): string {
  const many = cells.heads(kind).filter((heads) => heads > 1);
  const said = many.map((heads) => {
    const sizes = cells.sizes(kind).map((size) => {
      const end = told(differences(cells, [kind, size, heads], accuracyOf));
      return `d = ${size} ${end}`;
    });
    return `with n = ${heads}: ${sizes.join("; ")}`;
  });
  return (
    `${titles[kind]}: share of second tokens of known names that head 1 gets right after the last step, beside n = 1, ` +
    `${said.join(". And ")}.`
  );
}

/** A difference of shares in points, hundredths; the interval decides whether one was seen. */
export function told({ n, mean, low, high }: Interval): string {
  const points = { n, mean: 100 * mean, low: low === null ? null : 100 * low, high: high === null ? null : 100 * high };
  return sayDifference(points, { unit: "points", digits: 1 });
}

function speedFinding(cells: Cells, kind: Kind): string {
  const many = cells.heads(kind).filter((heads) => heads > 1);
  const said = cells.sizes(kind).map((size) => {
    const each = many.map((heads) => `n = ${heads} ${told(differences(cells, [kind, size, heads], onTheWay))}`);
    return `d = ${size}, ${each.join(", ")}`;
  });
  return `${titles[kind]}, mean share over the training, which is higher the sooner names are completed, beside n = 1: ${said.join("; ")}.`;
}

/** What was trained, for how long. */
function sizeFinding(cells: Cells, kind: Kind): string {
  const [first] = cells.settings(kind);
  const counts = cells.sizes(kind).map((size) => (cells.of(kind, size, 1)[0]?.parameters ?? NaN).toLocaleString("en"));
  return (
    `${titles[kind]}: ${counts.join(", ")} parameters at d = ${cells.sizes(kind).join(", ")}, the same with every n, whose heads take n−1 layers from the trunk; ` +
    `${first?.steps.toLocaleString("en") ?? ""} steps of ${first?.batchSize ?? ""} stories, none twice.`
  );
}

function accuracyTable(cells: Cells, kind: Kind): Table {
  const rows = cells.sizes(kind).flatMap((size) =>
    cells.heads(kind).map((heads) => {
      const results = cells.of(kind, size, heads);
      const steps = results.map(formedStep);
      const reached = steps.filter((step) => step !== null);
      return [
        ...[size, results[0]?.parameters ?? null, heads],
        shown(shareInterval(results.map(accuracyOf))),
        heads === 1 ? "–" : shown(differences(cells, [kind, size, heads], accuracyOf)),
        reached.length > 0
          ? `${median(reached)} (${reached.length} of ${steps.length})`
          : `never (0 of ${steps.length})`,
        shown(lossInterval(results.map(({ losses }) => losses[0] ?? NaN))),
        (results[0]?.floors[0] ?? NaN).toFixed(4),
      ];
    }),
  );
  return {
    title: `${titles[kind]}: head 1 on held-out stories, ${cells.seeds} seeds`,
    columns: [
      ...["d", "parameters", "n", "judged accuracy", "difference to n = 1"],
      `step of ${formedAt} (median of seeds that reach it)`,
      ...["loss of all tokens (nats)", "its floor"],
    ],
    rows,
  };
}

function headsTable(cells: Cells, kind: Kind): Table {
  const rows = cells.sizes(kind).flatMap((size) =>
    cells.heads(kind).map((heads) => {
      const results = cells.of(kind, size, heads);
      const each = (digits: number, value: (result: InductionResult, head: number) => number | undefined): string =>
        Array.from({ length: heads }, (_, head) =>
          meanOf(results.map((result) => value(result, head) ?? NaN)).toFixed(digits),
        ).join(" ");
      return [
        ...[size, heads],
        each(3, ({ losses }, head) => losses[head]),
        each(3, ({ floors }, head) => floors[head]),
        each(3, ({ judged }, head) => judged[head]),
      ];
    }),
  );
  return {
    title: `${titles[kind]}: every head, head 1 first`,
    columns: ["d", "n", "loss of all tokens (nats)", "floors", "judged accuracy"],
    rows,
  };
}

const seedsNote = (cells: Cells): string =>
  cells.seeds > 1 ? `Means over ${cells.seeds} seeds with 95 % intervals.` : "One seed.";

const pointOf = (x: number, { mean, low, high }: Interval): Point => ({ x, y: mean, low, high });

/** Widths a little apart, so that the intervals of different n are beside each other on a logarithmic axis. */
const beside = (size: number, place: number, places: number): number => size * 1.03 ** (place - (places - 1) / 2);

const widths = (cells: Cells): number[] =>
  [...new Set(cells.kinds.flatMap((kind) => cells.sizes(kind)))].sort((a, b) => a - b);

const widthAxis = (cells: Cells) => {
  const sizes = widths(cells);
  const domain: [number, number] = [Math.min(...sizes) / 1.1, Math.max(...sizes) * 1.1];
  return { title: "hidden size d", log: true, ticks: sizes, domain };
};

function sizeFigure(cells: Cells): Figure {
  const panels = cells.kinds.map((kind): LinePanel => {
    const all = cells.heads(kind);
    const guessing = meanOf(cells.sizes(kind).flatMap((size) => cells.of(kind, size, 1).map((r) => r.guessing)));
    return {
      title: titles[kind],
      lines: all.map((heads, i) => ({
        ...{ name: `n = ${heads}`, color: colorOf(heads), marked: true },
        points: cells
          .sizes(kind)
          .map((size) =>
            pointOf(beside(size, i, all.length), shareInterval(cells.of(kind, size, heads).map(accuracyOf))),
          ),
      })),
      levels: [{ name: "guess a name", color: palette.black, y: guessing }],
    };
  });
  return {
    name: "size",
    title: "Induction against size",
    caption:
      `Share of second tokens of names already known that head 1 gets right on held-out stories. Dotted: a guess among the ` +
      `names the story has said. ${seedsNote(cells)}`,
    chart: lineChart(panels, widthAxis(cells), { title: "judged accuracy (share)", domain: [0, 1.03] }),
  };
}

function differenceFigure(cells: Cells): Figure {
  const panels = cells.kinds.map((kind): LinePanel => {
    const many = cells.heads(kind).filter((heads) => heads > 1);
    return {
      title: titles[kind],
      lines: many.map((heads, i) => ({
        ...{ name: `n = ${heads}`, color: colorOf(heads), marked: true },
        points: cells
          .sizes(kind)
          .map((size) => pointOf(beside(size, i, many.length), differences(cells, [kind, size, heads], accuracyOf))),
      })),
      levels: [{ name: "n = 1", color: palette.black, y: 0 }],
    };
  });
  return {
    name: "difference",
    title: "Several heads less one",
    caption:
      `Judged accuracy of head 1 less that with n = 1, seed by seed; above zero several heads are better. ` +
      seedsNote(cells),
    chart: lineChart(panels, widthAxis(cells), { title: "difference (share)" }),
  };
}

function learningFigure(cells: Cells, kind: Kind): Figure {
  const panels = cells.sizes(kind).map((size): LinePanel => ({
    title: `d = ${size}`,
    lines: cells.heads(kind).map((heads): Line => {
      const results = cells.of(kind, size, heads);
      return {
        ...{ name: `n = ${heads}`, color: colorOf(heads) },
        points: (results[0]?.curve ?? []).map(({ step }, i) =>
          pointOf(step, shareInterval(results.map(({ curve }) => curve[i]?.accuracy ?? NaN))),
        ),
      };
    }),
    levels: [
      {
        name: "guess a name",
        color: palette.black,
        y: meanOf(cells.of(kind, size, 1).map(({ guessing }) => guessing)),
      },
    ],
  }));
  return {
    name: `learning-${kind}`,
    title: `${titles[kind]}: when induction comes`,
    caption: `Share of second tokens of known names that head 1 gets right, against training. ${seedsNote(cells)}`,
    chart: lineChart(
      panels,
      { title: "step", log: false },
      { title: "judged accuracy (share)", domain: [0, 1.03] },
      Math.min(2, panels.length),
    ),
  };
}
