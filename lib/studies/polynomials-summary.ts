// What the cells of the polynomial study say together.
import {
  mostOperations,
  trained,
  type PolynomialPoint,
  type PolynomialResult,
  type PolynomialScore,
  type PolynomialSettings,
} from "./polynomials-cell.js";
import { interval, lossInterval, meanOf, shareInterval, shown, type Interval } from "./statistics.js";
import type { CellResult, Figure, Summary, Table } from "./study.js";
import { lineChart, palette, type Line, type LinePanel, type Point } from "./style.js";

type Finished = CellResult<PolynomialSettings, PolynomialResult>;
type Share = "answers" | "coefficients" | "guessedCoefficients";

const colors = [palette.vermilion, palette.blue, palette.green, palette.purple];
const operations = Array.from({ length: mostOperations }, (_, i) => i + 1);

/** Which questions an accuracy is a mean over. */
interface Domain {
  readonly name: string;
  readonly operations: readonly number[];
}
const inside: Domain = { name: "in domain", operations: operations.filter((count) => count <= trained[1]) };
const outside: Domain = { name: "out of domain", operations: operations.filter((count) => count > trained[1]) };

/** Cells by number of heads and pause tokens; seeds in order. */
class Cells {
  readonly heads: readonly number[];
  readonly pauses: readonly number[];
  readonly seeds: number;

  constructor(private readonly all: readonly Finished[]) {
    this.heads = [...new Set(all.map(({ settings }) => settings.futureTokens))];
    this.pauses = [...new Set(all.map(({ settings }) => settings.pauseTokens))];
    this.seeds = new Set(all.map(({ seed }) => seed)).size;
  }

  of(futureTokens: number, pauseTokens: number): PolynomialResult[] {
    return this.all
      .filter(({ settings: s }) => s.futureTokens === futureTokens && s.pauseTokens === pauseTokens)
      .sort((a, b) => a.seed - b.seed)
      .map(({ result }) => result);
  }
}

export function summarisePolynomials(results: readonly Finished[]): Summary {
  const cells = new Cells(results);
  return {
    verdict: verdictOf(cells),
    findings: [singlesFinding(cells), learntFinding(cells), sizeFinding(results)],
    tables: [
      shareTable(cells, "answers"),
      singlesTable(cells),
      shareTable(cells, "coefficients"),
      differenceTable(cells),
    ],
    figures: [
      sharesFigure(cells, "answers"),
      sharesFigure(cells, "coefficients"),
      differenceFigure(cells),
      learningFigure(cells),
    ],
  };
}

const pauseName = (pauseTokens: number): string => (pauseTokens === 0 ? "no pause" : `${pauseTokens} pause tokens`);

const scoreOf = ({ scores }: PolynomialResult, count: number, share: Share): number =>
  scores.find((score: PolynomialScore) => score.operations === count)?.[share] ?? NaN;

/** Share over a domain's numbers of operations, each counting alike: one number a seed. */
const over = (result: PolynomialResult, domain: Domain, share: Share): number =>
  meanOf(domain.operations.map((count) => scoreOf(result, count, share)));

/** Of an arm less another, seed by seed. */
function difference(
  arm: readonly PolynomialResult[],
  base: readonly PolynomialResult[],
  value: (result: PolynomialResult) => number,
): Interval {
  return interval(arm.map((result, i) => value(result) - (base[i] ? value(base[i]) : NaN)));
}

/** One arm beside another. */
interface Comparison {
  readonly name: string;
  readonly of: (domain: Domain) => Interval;
}

/** More heads beside one, without pause; then pause tokens beside none, at every n. */
function comparisons(cells: Cells): Record<"heads" | "pauses", Comparison[]> {
  const [single = 1, ...several] = cells.heads;
  const [none = 0, ...pauses] = cells.pauses;
  const compared = (name: string, arm: readonly PolynomialResult[], base: readonly PolynomialResult[]): Comparison => ({
    name,
    of: (domain) => difference(arm, base, (result) => over(result, domain, "answers")),
  });
  return {
    heads: cells.pauses.flatMap((pause) =>
      several.map((n) => compared(`n = ${n}, ${pauseName(pause)}`, cells.of(n, pause), cells.of(single, pause))),
    ),
    pauses: pauses.flatMap((pause) =>
      cells.heads.map((n) => compared(`${pauseName(pause)}, n = ${n}`, cells.of(n, pause), cells.of(n, none))),
    ),
  };
}

/** Which differences were seen, how large, and which were not: the intervals decide. */
export function told(compared: readonly { readonly name: string; readonly by: Interval }[]): string {
  const within = ({ low, high }: Interval): boolean => low !== null && high !== null && low <= 0 && high >= 0;
  const seen = compared.filter(({ by }) => !within(by));
  const unseen = compared.filter(({ by }) => within(by));
  const each = seen.map(({ name, by: { mean, low, high } }) => {
    const bounds = low === null || high === null ? ", of one seed" : ` [${low.toFixed(3)}, ${high.toFixed(3)}]`;
    return `${name}: ${Math.abs(mean).toFixed(3)} ${mean < 0 ? "fewer" : "more"}${bounds}`;
  });
  if (unseen.length > 0) each.push(`no difference was seen for ${unseen.map(({ name }) => name).join("; ")}`);
  return each.join("; ");
}

function verdictOf(cells: Cells): string {
  const { heads, pauses } = comparisons(cells);
  const base = cells.of(cells.heads[0] ?? 1, cells.pauses[0] ?? 0);
  const sentences = [inside, outside].map((domain) => {
    const say = (each: readonly Comparison[]): string => told(each.map(({ name, of }) => ({ name, by: of(domain) })));
    const [least, most] = [domain.operations[0] ?? 0, domain.operations.at(-1) ?? 0];
    const right = shown(shareInterval(base.map((result) => over(result, domain, "answers"))));
    return (
      `${least} to ${most} operations (${domain.name}): one head without pause answers ${right} right. ` +
      `Heads beside one: ${say(heads)}. Pauses beside none: ${say(pauses)}.`
    );
  });
  return sentences.join(" ");
}

/** Where a model knows more of the answer than which coefficients are frequent. */
function learntFinding(cells: Cells): string {
  const each = cells.pauses.flatMap((pause) =>
    cells.heads.map((n) => {
      const results = cells.of(n, pause);
      const above = operations.filter((count) => {
        const { low } = interval(
          results.map((r) => scoreOf(r, count, "coefficients") - scoreOf(r, count, "guessedCoefficients")),
        );
        return low !== null && low > 0;
      });
      return `n = ${n}, ${pauseName(pause)}: ${above.length > 0 ? above.join(", ") : "none"}`;
    }),
  );
  return (
    `More coefficients than by saying the most frequent one at each place are right at these numbers of operations ` +
    `(intervals above 0): ${each.join("; ")}.`
  );
}

const signNames: Readonly<Record<string, string>> = {
  neg: "negation",
  "+": "addition",
  "*": "multiplication",
  o: "composition",
};

const signsOf = (results: readonly PolynomialResult[]): string[] => [
  ...new Set(results.flatMap(({ singles }) => singles.map(({ sign }) => sign))),
];

/** Of single operations of one kind; seeds without any are left out. */
const singleOf = (results: readonly PolynomialResult[], sign: string): Interval =>
  shareInterval(
    results.flatMap(({ singles }) => singles.filter((each) => each.sign === sign).map((each) => each.answers)),
  );

/** Which operations one head has learnt at all. */
function singlesFinding(cells: Cells): string {
  const results = cells.of(cells.heads[0] ?? 1, cells.pauses[0] ?? 0);
  const each = signsOf(results).map((sign) => `${signNames[sign] ?? sign} ${shown(singleOf(results, sign), 2)}`);
  return `Answers to a single operation that one head without pause has right: ${each.join("; ")}.`;
}

function singlesTable(cells: Cells): Table {
  const arms = cells.pauses.flatMap((pause) => cells.heads.map((n) => ({ n, pause })));
  const signs = [...new Set(arms.flatMap(({ n, pause }) => signsOf(cells.of(n, pause))))];
  return {
    title: "Answers to a single operation right (share), by operation",
    columns: ["", ...signs.map((sign) => signNames[sign] ?? sign)],
    rows: arms.map(({ n, pause }) => [
      `n = ${n}, ${pauseName(pause)}`,
      ...signs.map((sign) => shown(singleOf(cells.of(n, pause), sign))),
    ]),
  };
}

function sizeFinding(results: readonly Finished[]): string {
  const first = results[0];
  const thousands = (first?.result.parameters ?? 0) / 1000;
  const questions = (first?.result.learnt ?? 0).toLocaleString("en");
  return (
    `Each model has ${thousands.toFixed(0)} k parameters, whatever n, and took ${first?.settings.steps.toLocaleString("en") ?? 0} ` +
    `steps of ${first?.settings.batchSize ?? 0} rows of up to ${first?.settings.contextLength ?? 0} tokens, from at most ` +
    `${questions} questions of ${trained[0]} to ${trained[1]} operations; asked are others, of up to ${mostOperations}.`
  );
}

function shareTable(cells: Cells, share: "answers" | "coefficients"): Table {
  const arms = cells.pauses.flatMap((pause) => cells.heads.map((n) => ({ n, pause })));
  const guess = cells.of(cells.heads[0] ?? 1, cells.pauses[0] ?? 0);
  return {
    title: `${share === "answers" ? "Answers" : "Coefficients"} right (share), ${cells.seeds} seeds`,
    columns: [
      "operations",
      ...(share === "coefficients" ? ["most frequent"] : []),
      ...arms.map(({ n, pause }) => `n = ${n}, ${pauseName(pause)}`),
    ],
    rows: operations.map((count) => [
      count,
      ...(share === "coefficients"
        ? [shown(shareInterval(guess.map((result) => scoreOf(result, count, "guessedCoefficients"))))]
        : []),
      ...arms.map(({ n, pause }) =>
        shown(shareInterval(cells.of(n, pause).map((result) => scoreOf(result, count, share)))),
      ),
    ]),
  };
}

function differenceTable(cells: Cells): Table {
  const { heads, pauses } = comparisons(cells);
  const row = ({ name, of }: Comparison): string[] => [name, ...[inside, outside].map((domain) => shown(of(domain)))];
  return {
    title: "Answers right: differences to one head, then to no pause, seed by seed",
    columns: ["", inside.name, outside.name],
    rows: [...heads, ...pauses].map(row),
  };
}

const seedsNote = (cells: Cells): string =>
  cells.seeds > 1 ? `Means over ${cells.seeds} seeds with 95 % intervals.` : "One seed.";

const pointOf = (x: number, { mean, low, high }: Interval): Point => ({ x, y: mean, low, high });

const aside = (i: number, of: number): number => (i - (of - 1) / 2) * 0.12;

const operationsAxis = {
  title: `operations (${trained[0]} to ${trained[1]} in training)`,
  ticks: operations,
  domain: [0.6, mostOperations + 0.4] as const,
};

function sharesFigure(cells: Cells, share: "answers" | "coefficients"): Figure {
  const panels = cells.pauses.map((pause): LinePanel => {
    const lines = cells.heads.map((n, i): Line => ({
      ...{ name: `n = ${n}`, color: colors[i % colors.length] ?? palette.black, marked: true },
      points: operations.map((count) =>
        pointOf(
          count + aside(i, cells.heads.length),
          shareInterval(cells.of(n, pause).map((result) => scoreOf(result, count, share))),
        ),
      ),
    }));
    const guess: Line = {
      ...{ name: "most frequent", color: palette.black, dashed: true },
      points: operations.map((count) => ({
        x: count,
        y: meanOf(cells.of(cells.heads[0] ?? 1, pause).map((r) => scoreOf(r, count, "guessedCoefficients"))),
      })),
    };
    return { title: pauseName(pause), lines: share === "coefficients" ? [...lines, guess] : lines };
  });
  const whole = share === "answers";
  return {
    name: share,
    title: whole ? "Answers by number of operations" : "Coefficients by number of operations",
    caption:
      `Share of held-out ${whole ? "questions all five coefficients of whose answer" : "answers' coefficients that"} head 1 writes ` +
      `right, reading what it wrote; more than ${trained[1]} operations were never seen in training. ` +
      `${whole ? "" : "Dashed: the most frequent coefficient at each place, without reading the question. "}${seedsNote(cells)}`,
    chart: lineChart(panels, operationsAxis, { title: `${share} right (share)` }),
  };
}

function differenceFigure(cells: Cells): Figure {
  const [single = 1, ...several] = cells.heads;
  const panels = cells.pauses.map((pause): LinePanel => ({
    title: pauseName(pause),
    lines: several.map((n, i): Line => ({
      ...{ name: `n = ${n}`, color: colors[(i + 1) % colors.length] ?? palette.black, marked: true },
      points: operations.map((count) =>
        pointOf(
          count + aside(i, several.length),
          difference(cells.of(n, pause), cells.of(single, pause), (result) => scoreOf(result, count, "answers")),
        ),
      ),
    })),
    levels: [{ name: "no difference", color: palette.black, y: 0 }],
  }));
  return {
    name: "difference",
    title: "Several heads less one",
    caption:
      `Share of answers right with n heads less that with one, seed by seed; above zero several heads are better. ` +
      seedsNote(cells),
    chart: lineChart(panels, operationsAxis, { title: "difference (share of answers)" }),
  };
}

function learningFigure(cells: Cells): Figure {
  const panels = cells.pauses.map((pause): LinePanel => ({
    title: pauseName(pause),
    lines: cells.heads.map((n, i): Line => {
      const curves = cells.of(n, pause).map(({ curve }) => curve);
      return {
        ...{ name: `n = ${n}`, color: colors[i % colors.length] ?? palette.black },
        points: (curves[0] ?? []).map(({ step }: PolynomialPoint, at) =>
          pointOf(step, lossInterval(curves.map((curve) => curve[at]?.loss ?? NaN))),
        ),
      };
    }),
    levels: [{ name: "ln 7", color: palette.black, y: Math.log(7) }],
  }));
  return {
    name: "learning",
    title: "Learning",
    caption:
      `Held-out loss of head 1 per coefficient, which reads the right ones before, ${trained[0]} to ${trained[1]} operations; ` +
      `0 is possible. Dotted: all coefficients taken as equally likely. ${seedsNote(cells)}`,
    chart: lineChart(panels, { title: "step" }, { title: "loss (nats a coefficient)" }),
  };
}
