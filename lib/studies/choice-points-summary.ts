// What the cells of the choice points study say together: weights beside counts of terms, both sides of the identity.
import type { ChoicePointsResult, ChoicePointsSettings } from "./choice-points-cell.js";
import type { TwoTokens } from "./choice-points-heads.js";
import type { TrunkGradient } from "./choice-points-trunk.js";
import { interval, intervalWithin, lossInterval, meanOf, ratioInterval, shown, type Interval } from "./statistics.js";
import type { CellResult, Figure, Summary, Table } from "./study.js";
import { lineChart, palette, type Line, type LinePanel, type Point } from "./style.js";

type Finished = CellResult<ChoicePointsSettings, ChoicePointsResult>;

/** The segments of the task: the first forgets its choice, the second remembers it. */
const kinds = [
  { name: "without consequences", color: palette.blue },
  { name: "with consequences", color: palette.vermilion },
] as const;

/** What a weight is measured from. */
interface Measure {
  readonly title: string;
  readonly of: (result: ChoicePointsResult, segment: number) => number;
}
const exactGradient: Measure = {
  title: "gradient, exact predictor",
  of: ({ exact }, segment) => exact[segment] ?? NaN,
};
const trainedGradient: Measure = {
  title: "gradient, trained heads",
  of: ({ trained }, segment) => trained[segment]?.gradient ?? NaN,
};
const trainedLoss: Measure = {
  title: "loss, trained heads",
  of: ({ trained }, segment) => trained[segment]?.loss ?? NaN,
};

/** Cells by branches and heads; seeds in order. */
class Cells {
  constructor(private readonly all: readonly Finished[]) {}

  /** b. */
  get branches(): number[] {
    return different(this.all.map(({ settings }) => branchesOf(settings)));
  }

  /** n. */
  get heads(): number[] {
    return different(this.all.map(({ settings }) => settings.futureTokens));
  }

  get seeds(): number {
    return new Set(this.all.map(({ seed }) => seed)).size;
  }

  get first(): Finished | undefined {
    return this.all[0];
  }

  of(branches: number, futureTokens: number): ChoicePointsResult[] {
    const found = this.all.filter(
      ({ settings }) => branchesOf(settings) === branches && settings.futureTokens === futureTokens,
    );
    return found.sort((a, b) => a.seed - b.seed).map(({ result }) => result);
  }
}

const branchesOf = ({ task }: ChoicePointsSettings): number => task.branches ?? 4;
const different = (values: readonly number[]): number[] => [...new Set(values)].sort((a, b) => a - b);

export function summariseChoicePoints(finished: readonly Finished[]): Summary {
  const cells = new Cells(finished);
  return {
    verdict: [exactVerdict(cells), ...cells.branches.map((b) => trainedVerdict(cells, b))].join(" "),
    findings: [
      ...cells.branches.map((b) => identityFinding(cells, b)),
      ...cells.branches.map((b) => trunkFinding(cells, b)),
      sizeFinding(cells),
    ],
    tables: [weightsTable(cells), twoTokensTable(cells), lossesTable(cells)],
    figures: [
      weightsFigure(cells),
      trunkFigure(cells),
      ...cells.branches.slice(0, 3).map((b) => twoTokensFigure(cells, b)),
    ],
  };
}

const termsOf = (cells: Cells, b: number, n: number, segment: number): number =>
  cells.of(b, n)[0]?.terms[segment] ?? NaN;

const weightOf = (cells: Cells, b: number, n: number, segment: number, { of }: Measure): Interval =>
  intervalWithin(
    cells.of(b, n).map((result) => of(result, segment)),
    0,
  );

/** How far the exact predictor's weights are from the counts, over everything that ran. */
function exactVerdict(cells: Cells): string {
  const [most] = cells.heads.slice(-1);
  const errors = cells.branches.flatMap((b) =>
    cells.heads.flatMap((n) =>
      cells.of(b, n).flatMap(({ exact, terms }) => exact.map((weight, k) => Math.abs(weight / (terms[k] ?? NaN) - 1))),
    ),
  );
  const error = Math.max(...errors);
  const n = most ?? 1;
  const [b = 0] = cells.branches;
  const [without, having] = [0, 1].map((k) => meanOf(cells.of(b, n).map((result) => exactGradient.of(result, k))));
  const agree = error < 1e-4 ? "agree with" : "differ from";
  return (
    `In the gradient of the exact predictor's loss with n = ${n} a choice with consequences weighs ` +
    `${digits(having ?? NaN)} times what it does with one head, one without ${digits(without ?? NaN)} times; over all n these ` +
    `weights ${agree} the counts of terms, n(n+1)/2 and n, ${within(error)}.`
  );
}

/** Of f32 and f64 numbers what is left by rounding alone is not told to the digit. */
const within = (error: number): string => (error < 1e-6 ? "within rounding" : `within ${error.toExponential(1)}`);

const digits = (value: number): string => String(Number(value.toPrecision(5)));

function trainedVerdict(cells: Cells, b: number): string {
  const [n = 1] = cells.heads.slice(-1);
  const each = [1, 0].map((k) => {
    const terms = termsOf(cells, b, n, k);
    const gradient = beside(weightOf(cells, b, n, k, trainedGradient), terms);
    const loss = beside(weightOf(cells, b, n, k, trainedLoss), terms);
    return `a choice ${kinds[k]?.name ?? ""} weighs ${gradient} in the gradient and ${loss} in the loss, ${terms} being the count`;
  });
  return `Trained heads, b = ${b}, n = ${n}: ${each.join("; ")}.`;
}

/** A measured weight, and whether its interval has the count. */
export function beside({ mean, low, high }: Interval, count: number): string {
  const value = mean.toFixed(3);
  if (low === null || high === null) return `${value} (one seed)`;
  const bounds = `[${low.toFixed(3)}, ${high.toFixed(3)}]`;
  if (low > count) return `${value} ${bounds}, more than counted,`;
  return high < count ? `${value} ${bounds}, less than counted,` : `${value} ${bounds}`;
}

/** The two sides of the heads' identity and their difference, of all with two heads and more. */
function identityFinding(cells: Cells, b: number): string {
  const exact = cells.of(b, cells.heads[0] ?? 1)[0]?.twoTokens.exact;
  const counted = different(cells.heads).flatMap((n) => cells.of(b, n).map(({ twoTokens }) => twoTokens.counted));
  const said = withTwoHeads(cells).map((n) => {
    const heads = headsOf(cells, b, n);
    const [left, right] = [lossInterval(heads.map((each) => each.left)), lossInterval(heads.map((each) => each.right))];
    const apart = interval(heads.map((each) => each.left - each.right));
    return `n = ${n} ${shown(left)} and ${shown(right)}, ${apartness(apart)}`;
  });
  const rounding = Math.max(...counted.map(({ left, right }) => Math.abs(left - right)));
  const off = Math.max(...counted.map(({ left }) => Math.abs(left - (exact?.left ?? NaN))));
  return (
    `H(X)+H(Y) = H(X|Y)+2I(X;Y)+H(Y|X), b = ${b}: exactly ${(exact?.left ?? NaN).toFixed(4)} nats. Counted in held-out ` +
    `sequences the sides are equal ${within(rounding)} and at most ${off.toFixed(4)} off. The losses of heads 1 ` +
    `and 2, and what head 1 says of both tokens, give ${said.join("; ")}.`
  );
}

const withTwoHeads = ({ heads }: Cells): number[] => heads.filter((n) => n > 1);

const headsOf = (cells: Cells, b: number, n: number): TwoTokens[] =>
  cells.of(b, n).flatMap(({ twoTokens }) => twoTokens.heads ?? []);

function apartness({ mean, low, high }: Interval): string {
  const by = `${mean.toFixed(4)}${low === null || high === null ? "" : ` [${low.toFixed(4)}, ${high.toFixed(4)}]`}`;
  return low !== null && high !== null && (low > 0 || high < 0) ? `apart by ${by}` : `not seen to differ (${by})`;
}

/** How much more gradient reaches the trunk from a choice with consequences than from one without. */
function trunkRatio(cells: Cells, b: number, n: number, part: keyof TrunkGradient): Interval {
  return ratioInterval(
    cells.of(b, n).map(({ trunkGradient: [without, having] }) => (having?.[part] ?? NaN) / (without?.[part] ?? NaN)),
  );
}

/** Three digits of each: bounds of few seeds may be orders of magnitude apart. */
function ratioShown({ mean, low, high }: Interval): string {
  const [value, ...bounds] = [mean, low ?? NaN, high ?? NaN].map((ratio) => String(Number(ratio.toPrecision(3))));
  return `${value ?? ""}${low === null || high === null ? "" : ` [${bounds.join(", ")}]`}`;
}

function trunkFinding(cells: Cells, b: number): string {
  const each = cells.heads.map((n) => {
    const [all, choice] = [trunkRatio(cells, b, n, "all"), trunkRatio(cells, b, n, "choice")];
    return `n = ${n} ${ratioShown(all)}, of the terms for the choice itself ${ratioShown(choice)}`;
  });
  return (
    `Norm of the gradient that one choice with consequences sends to the trained trunk, over that of one without, ` +
    `b = ${b}: ${each.join("; ")}. Terms that pushed equally hard would make (n+1)/2 if all pushed one way, its root if each ` +
    `pushed its own, and 1 for the choice itself.`
  );
}

/** What was trained, for how long. */
function sizeFinding(cells: Cells): string {
  const counts = different(
    cells.branches.flatMap((b) => cells.heads.flatMap((n) => cells.of(b, n).map(({ parameters }) => parameters))),
  ).map((count) => count.toLocaleString("en"));
  const settings = cells.first?.settings;
  return (
    `Models of ${counts.join(", ")} parameters (b = ${cells.branches.join(", ")}), the same with every n, whose heads take n−1 ` +
    `layers from the trunk; ` +
    `${settings?.steps.toLocaleString("en") ?? ""} steps of ${settings?.batchSize ?? ""} sequences.`
  );
}

function weightsTable(cells: Cells): Table {
  const rows = cells.branches.flatMap((b) =>
    cells.heads.flatMap((n) =>
      kinds.map(({ name }, k) => [
        ...[b, n, name, termsOf(cells, b, n, k)],
        shown(weightOf(cells, b, n, k, exactGradient), 5),
        shown(weightOf(cells, b, n, k, trainedGradient), 3),
        shown(weightOf(cells, b, n, k, trainedLoss), 3),
      ]),
    ),
  );
  return {
    title: `What a choice weighs in the loss of n heads, ${cells.seeds} seeds`,
    columns: ["b", "n", "choice", "terms", exactGradient.title, trainedGradient.title, `${trainedLoss.title} (ln b)`],
    rows,
  };
}

function twoTokensTable(cells: Cells): Table {
  const rows = cells.branches.flatMap((b) => {
    const all = cells.heads.flatMap((n) => cells.of(b, n));
    const exact = all[0]?.twoTokens.exact;
    const [n = 1] = cells.heads;
    const sources: [string, TwoTokens[]][] = [
      ["exact", exact ? [exact] : []],
      ["counted", cells.of(b, n).map(({ twoTokens }) => twoTokens.counted)],
      ...withTwoHeads(cells).map((heads): [string, TwoTokens[]] => [`heads, n = ${heads}`, headsOf(cells, b, heads)]),
    ];
    return sources.map(([name, values]) => {
      const mean = (value: (each: TwoTokens) => number): string => meanOf(values.map(value)).toFixed(4);
      const spread = (value: (each: TwoTokens) => number): string =>
        name === "exact" ? "–" : shown(interval(values.map(value)), 4);
      return [
        ...[b, name, mean((v) => v.entropies.x), mean((v) => v.entropies.y), mean((v) => v.entropies.xGivenY)],
        ...[
          mean((v) => v.entropies.mutual),
          mean((v) => v.entropies.yGivenX),
          mean((v) => v.left),
          mean((v) => v.right),
        ],
        name === "counted" ? largest(values) : spread((v) => v.left - v.right),
        spread((v) => v.left - (exact?.left ?? NaN)),
      ];
    });
  });
  const columns = ["b", "from", "H(X)", "H(Y)", "H(X|Y)", "I(X;Y)", "H(Y|X)", "left", "right"];
  return {
    title: `Two tokens, nats: left H(X)+H(Y), right H(X|Y)+2I(X;Y)+H(Y|X), ${cells.seeds} seeds`,
    columns: [...columns, "left less right", "left less exact"],
    rows,
  };
}

const largest = (values: readonly TwoTokens[]): string =>
  within(Math.max(...values.map(({ left, right }) => Math.abs(left - right))));

function lossesTable(cells: Cells): Table {
  const rows = cells.branches.flatMap((b) =>
    cells.heads.map((n) => {
      const results = cells.of(b, n);
      const each = (value: (result: ChoicePointsResult, head: number) => number | undefined): string =>
        Array.from({ length: n }, (_, head) => meanOf(results.map((r) => value(r, head) ?? NaN)).toFixed(3)).join(" ");
      return [
        ...[b, n, results[0]?.parameters ?? null, each(({ losses }, head) => losses[head])],
        each(({ floors }, head) => floors[head]),
      ];
    }),
  );
  return {
    title: `Held-out loss of every head, head 1 first (nats), ${cells.seeds} seeds`,
    columns: ["b", "n", "parameters", "losses", "floors"],
    rows,
  };
}

const seedsNote = (cells: Cells): string =>
  cells.seeds > 1 ? `Means over ${cells.seeds} seeds with 95 % intervals.` : "One seed.";

const pointOf = (x: number, { mean, low, high }: Interval): Point => ({ x, y: mean, low, high });

const headsAxis = (heads: readonly number[]) => ({
  title: "heads n",
  ticks: heads,
  format: "d",
  domain: [Math.min(...heads) - 0.2, Math.max(...heads) + 0.2] as [number, number],
});

function weightsFigure(cells: Cells): Figure {
  const { heads } = cells;
  const b = cells.branches.includes(4) ? 4 : (cells.branches[0] ?? 4);
  const panels = [exactGradient, trainedGradient, trainedLoss].map((measure, i): LinePanel => ({
    title: measure.title,
    lines: kinds.flatMap(({ name, color }, k): Line[] => [
      {
        ...{ name: i === 2 ? name : "", color, marked: true },
        points: heads.map((n) => pointOf(n, weightOf(cells, b, n, k, measure))),
      },
      {
        ...{ name: "", color: palette.black, dashed: true },
        points: heads.map((n) => ({ x: n, y: termsOf(cells, b, n, k) })),
      },
    ]),
  }));
  return {
    name: "weights",
    title: "What a choice weighs",
    caption:
      `Weight of a choice in the loss of n heads, b = ${b}: the gradient with respect to its log-odds beside that of one head ` +
      `(exact predictor) or of one open term (trained heads), and what its terms pay in units of ln b. Dashed: the counts of ` +
      `terms, n(n+1)/2 and n. ${seedsNote(cells)}`,
    chart: lineChart(panels, headsAxis(heads), { title: "weight (terms)" }),
  };
}

function trunkFigure(cells: Cells): Figure {
  const { heads, branches } = cells;
  const colors = [palette.blue, palette.vermilion, palette.green];
  const reference = (name: string, value: (n: number) => number): Line => ({
    ...{ name, color: palette.black, dashed: true },
    points: heads.map((n) => ({ x: n, y: value(n) })),
  });
  const measured = (part: keyof TrunkGradient): Line[] =>
    branches.map((b, i) => ({
      ...{ name: `b = ${b}`, color: colors[i % colors.length] ?? palette.black, marked: true },
      points: heads.map((n) => pointOf(n + (i - (branches.length - 1) / 2) * 0.08, trunkRatio(cells, b, n, part))),
    }));
  const panels: LinePanel[] = [
    {
      title: "choice and tail",
      lines: [
        reference("(n+1)/2", (n) => (n + 1) / 2),
        reference("its root", (n) => Math.sqrt((n + 1) / 2)),
        ...measured("all"),
      ],
    },
    { title: "terms for the choice itself", lines: [reference("1", () => 1), ...measured("choice")] },
  ];
  return {
    name: "trunk",
    title: "Gradient that reaches the trunk",
    caption:
      `Norm of the gradient that one choice with consequences sends to the trained trunk, over that of one without. Dashed: ` +
      `what terms that push equally hard would make, all one way or each its own. Geometric means. ${seedsNote(cells)}`,
    chart: lineChart(panels, headsAxis(heads), { title: "ratio of norms", log: true, domain: aroundMeans(panels) }),
  };
}

/** So that bounds of few seeds, which are cut off there, leave something to be seen of the means. */
function aroundMeans(panels: readonly LinePanel[]): [number, number] {
  const means = panels.flatMap(({ lines }) => lines.flatMap(({ points }) => points.map(({ y }) => y)));
  return [Math.min(...means) / 5, Math.max(...means) * 5];
}

function twoTokensFigure(cells: Cells, b: number): Figure {
  const heads = withTwoHeads(cells);
  const exact = cells.of(b, cells.heads[0] ?? 1)[0]?.twoTokens.exact;
  const quantities: [string, (value: TwoTokens) => number][] = [
    ["H(X)", ({ entropies }) => entropies.x],
    ["H(Y)", ({ entropies }) => entropies.y],
    ["left", ({ left }) => left],
    ["right", ({ right }) => right],
    ["H(X|Y)", ({ entropies }) => entropies.xGivenY],
    ["I(X;Y)", ({ entropies }) => entropies.mutual],
    ["H(Y|X)", ({ entropies }) => entropies.yGivenX],
  ];
  const panels = quantities.map(([title, value]): LinePanel => {
    const known = exact ? value(exact) : NaN;
    return {
      title: `${title} = ${known.toFixed(4)}`,
      lines: [
        {
          ...{ name: "heads", color: palette.blue, marked: true },
          points: heads.map((n) => pointOf(n, interval(headsOf(cells, b, n).map((each) => value(each) - known)))),
        },
      ],
      levels: [{ name: "exact", color: palette.black, y: 0 }],
    };
  });
  return {
    name: `two-tokens-${b}`,
    title: `Two tokens, b = ${b}`,
    caption:
      `How far trained heads are from the exact entropies of the two tokens behind a context (in nats, above each panel): ` +
      `H(X) and H(Y) are the losses of heads 1 and 2, the others what head 1 says of both tokens; left is H(X)+H(Y), right ` +
      `H(X|Y)+2I(X;Y)+H(Y|X). ${seedsNote(cells)}`,
    chart: lineChart(panels, headsAxis(heads), { title: "heads less exact (nats)" }, 4),
  };
}
