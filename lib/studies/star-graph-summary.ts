// What the cells of the star-graph study say together: who takes the shortcut, who plans.
import { type StarArm, type StarResult, type StarSettings, taskOf } from "./star-graph-cell.js";
import { interval, lossInterval, meanOf, shareInterval, shown, type Interval } from "./statistics.js";
import type { CellResult, Figure, Summary, Table } from "./study.js";
import { heatMaps, lineChart, palette, type Line, type LinePanel, type Point } from "./style.js";

type Finished = CellResult<StarSettings, StarResult>;

/** Graphs of one degree and path length. */
interface Kind {
  readonly degree: number;
  readonly pathLength: number;
}

const armColors: Readonly<Record<StarArm, string>> = {
  single: palette.vermilion,
  parallel: palette.sky,
  anticausal: palette.blue,
  reverse: palette.green,
};
export const armNames: Readonly<Record<StarArm, string>> = {
  single: "n = 1",
  parallel: "n = l, parallel",
  anticausal: "n = l, anticausal",
  reverse: "n = 1, reversed",
};
/** Dashed, for it often lies upon n = 1. */
const armStyle = (arm: StarArm): Pick<Line, "name" | "color" | "dashed"> => ({
  ...{ name: armNames[arm], color: armColors[arm], dashed: arm === "parallel" },
});
const arms: readonly StarArm[] = ["single", "parallel", "anticausal", "reverse"];
const forward: readonly StarArm[] = ["single", "parallel", "anticausal"];
const multi = ["parallel", "anticausal"] as const;
type MultiArm = (typeof multi)[number];

/** Cells by kind of graph and arm; seeds in order. */
class Cells {
  readonly kinds: readonly Kind[];
  readonly seeds: number;

  constructor(private readonly all: readonly Finished[]) {
    const kinds = all.map(({ settings: { degree, pathLength } }) => ({ degree, pathLength }));
    this.kinds = kinds.filter((kind, i) => kinds.findIndex((other) => sameKind(kind, other)) === i);
    this.seeds = new Set(all.map(({ seed }) => seed)).size;
  }

  get degrees(): number[] {
    return [...new Set(this.kinds.map(({ degree }) => degree))];
  }

  get pathLengths(): number[] {
    return [...new Set(this.kinds.map(({ pathLength }) => pathLength))];
  }

  private finished(kind: Kind, arm: StarArm): Finished[] {
    return this.all.filter(({ settings }) => settings.arm === arm && sameKind(settings, kind));
  }

  of(kind: Kind, arm: StarArm): StarResult[] {
    return this.finished(kind, arm)
      .sort((a, b) => a.seed - b.seed)
      .map(({ result }) => result);
  }

  settings(kind: Kind, arm: StarArm): StarSettings | undefined {
    return this.finished(kind, arm)[0]?.settings;
  }
}

const sameKind = (a: Kind, b: Kind): boolean => a.degree === b.degree && a.pathLength === b.pathLength;

export function summariseStars(results: readonly Finished[]): Summary {
  const cells = new Cells(results);
  return {
    verdict: verdictOf(cells),
    findings: [
      ...[wayFinding(cells), followFinding(cells), planFinding(cells)],
      ...[reverseFinding(cells), sizeFinding(results)],
    ],
    tables: [pathTable(cells), stepTable(cells), lossTable(cells)],
    figures: [pathsFigure(cells), gridFigure(cells), learningFigure(cells), lossFigure(cells), equalsFigure(cells)],
  };
}

const nameOf = ({ degree, pathLength }: Kind): string => `${degree}×${pathLength}`;

/** Whole paths right with as many heads as nodes less those with one, seed by seed. */
function gain(cells: Cells, kind: Kind, arm: MultiArm): Interval {
  const single = cells.of(kind, "single");
  return interval(cells.of(kind, arm).map(({ wholePath }, i) => wholePath - (single[i]?.wholePath ?? NaN)));
}

type Side = "below" | "at" | "above" | "unknown";

/** On which side of a value the interval lies. */
export function sideOf({ low, high }: Interval, value: number): Side {
  if (low === null || high === null) return "unknown";
  return low > value ? "above" : high < value ? "below" : "at";
}

/** What is said of each side, with the kinds of graphs that lie there; sides without any are left out. */
function sayOf(
  cells: Cells,
  side: (kind: Kind) => Side,
  texts: Readonly<Record<Side, string>>,
  name: (kind: Kind) => string = nameOf,
): string {
  const said = (["at", "above", "below", "unknown"] as const).flatMap((wanted) => {
    const kinds = cells.kinds.filter((kind) => side(kind) === wanted);
    return kinds.length === 0 ? [] : [`${texts[wanted]} in ${kinds.length} (${kinds.map(name).join(", ")})`];
  });
  return said.join("; ");
}

function verdictOf(cells: Cells): string {
  const several = multi.map((arm) => {
    const by = (kind: Kind): string => `${nameOf(kind)} by ${shown(gain(cells, kind, arm), 2)}`;
    const texts = {
      above: "more whole paths are right than with one",
      below: "fewer whole paths are right than with one",
      at: "no difference to one was seen",
      unknown: "one seed says nothing",
    };
    return `With a head for each node, ${arm}: ${sayOf(cells, (kind) => sideOf(gain(cells, kind, arm), 0), texts, by)}.`;
  });
  const besides = {
    above: "more often right than the shortcut",
    below: "less often right than the shortcut",
    at: "not to be told from the shortcut, right once in the degree,",
    unknown: "of one seed only, which says nothing,",
  };
  const beside = (right: (kind: Kind) => Interval): string =>
    sayOf(cells, (kind) => sideOf(right(kind), 1 / kind.degree), besides);
  const atOnce = multi.map((arm) => `${arm} ${beside((kind) => atOnceOf(cells.of(kind, arm)))}`);
  const { length } = cells.kinds;
  return [
    `Of ${length} ${length === 1 ? "kind" : "kinds"} of graphs (degree × path length) the first step of next-token ` +
      `training is ${beside((kind) => firstStepOf(cells.of(kind, "single")))}.`,
    ...several,
    `Whole paths that all heads name at once, before anything is written: ${atOnce.join("; ")}.`,
  ].join(" ");
}

const firstStepOf = (results: readonly StarResult[]): Interval =>
  shareInterval(results.map(({ firstStep }) => firstStep));
const wholePathOf = (results: readonly StarResult[]): Interval =>
  shareInterval(results.map(({ wholePath }) => wholePath));
const atOnceOf = (results: readonly StarResult[]): Interval => shareInterval(results.map(({ atOnce }) => atOnce));

/** A run stays at the shortcut or leaves it for good: how many did, which a mean over seeds does not say. */
function wayFinding(cells: Cells): string {
  const each = forward.map((arm) => {
    const kinds = cells.kinds.map((kind) => {
      const halfway = (1 + 1 / kind.degree) / 2;
      return `${nameOf(kind)} ${cells.of(kind, arm).filter(({ firstStep }) => firstStep > halfway).length}`;
    });
    return `${armNames[arm]}: ${kinds.join(", ")}`;
  });
  return `Runs of ${cells.seeds} that left the shortcut, with head 1's first step right in over half of what it leaves: ${each.join("; ")}.`;
}

/** Whether edges are followed at all: what the shortcut does behind its first step. */
function followFinding(cells: Cells): string {
  const each = forward.map((arm) => {
    const kinds = cells.kinds.map((kind) => {
      const results = cells.of(kind, arm);
      const [whole, first] = [wholePathOf(results).mean, firstStepOf(results).mean];
      return `${nameOf(kind)} ${first > 0 ? (whole / first).toFixed(2) : "–"}`;
    });
    return `${armNames[arm]}: ${kinds.join(", ")}`;
  });
  return `Of the paths whose first step head 1 has right, so many are right to the goal: ${each.join("; ")}.`;
}

function planFinding(cells: Cells): string {
  const each = multi.map((arm) => {
    const kinds = cells.kinds.map((kind) => {
      const results = cells.of(kind, arm);
      const first = meanOf(results.map(({ fromEquals }) => fromEquals[1] ?? NaN));
      return `${nameOf(kind)} ${first.toFixed(2)} and ${atOnceOf(results).mean.toFixed(2)}`;
    });
    return `${arm} ${kinds.join(", ")}`;
  });
  return `Before anything of the path is written, the heads name its first step, and all of its nodes at once: ${each.join("; ")}.`;
}

function reverseFinding(cells: Cells): string {
  const each = cells.kinds.map((kind) => `${nameOf(kind)} ${shown(wholePathOf(cells.of(kind, "reverse")), 2)}`);
  return `The same model with one head writes the path from goal to start, whole paths right: ${each.join("; ")}.`;
}

function sizeFinding(results: readonly Finished[]): string {
  const first = results[0]?.settings;
  const counts = results.map(({ result }) => result.parameters);
  const steps = results.map(({ settings }) => settings.steps);
  return (
    `Models have ${[...new Set(counts)].map((count) => count.toLocaleString("en")).join(", ")} parameters${counts.every((count) => count === counts[0]) ? "" : " by path length"}, ` +
    `as many with one head as with several, and saw ${[...new Set(steps)].map((count) => count.toLocaleString("en")).join(", ")} steps of ` +
    `${first?.batchSize ?? 0} graphs; nodes have ${first?.labels ?? 0} labels.`
  );
}

function pathTable(cells: Cells): Table {
  return {
    title: `Held-out graphs with the whole path right (share; all at once: by all heads before anything is written), ${cells.seeds} seeds`,
    columns: [
      ...["degree × length", "shortcut", ...arms.map((arm) => armNames[arm])],
      ...multi.flatMap((arm) => [`${arm}: difference to n = 1`, `${arm}: all at once`]),
    ],
    rows: cells.kinds.map((kind) => [
      ...[nameOf(kind), (1 / kind.degree).toFixed(3), ...arms.map((arm) => shown(wholePathOf(cells.of(kind, arm))))],
      ...multi.flatMap((arm) => [shown(gain(cells, kind, arm)), shown(atOnceOf(cells.of(kind, arm)))]),
    ]),
  };
}

function stepTable(cells: Cells): Table {
  return {
    title: "First step by head 1 (share right)",
    columns: ["degree × length", "shortcut", ...forward.map((arm) => armNames[arm])],
    rows: cells.kinds.map((kind) => [
      ...[nameOf(kind), (1 / kind.degree).toFixed(3)],
      ...forward.map((arm) => shown(firstStepOf(cells.of(kind, arm)))),
    ]),
  };
}

/** Loss of head 1 at the shortcut: ln d at one of l nodes. */
function shortcutLoss(cells: Cells, kind: Kind): number {
  const settings = cells.settings(kind, "single");
  return (settings && taskOf(settings).withoutGoal(1).losses[0]) ?? NaN;
}

const lastLoss = (results: readonly StarResult[]): Interval =>
  lossInterval(results.map(({ curve }) => curve.at(-1)?.loss ?? NaN));

function lossTable(cells: Cells): Table {
  return {
    title: `Held-out loss of head 1 (nats a node of the path); 0 is possible`,
    columns: ["degree × length", "shortcut, ln d / l", ...arms.map((arm) => armNames[arm])],
    rows: cells.kinds.map((kind) => [
      nameOf(kind),
      shortcutLoss(cells, kind).toFixed(4),
      ...arms.map((arm) => shown(lastLoss(cells.of(kind, arm)), 4)),
    ]),
  };
}

const seedsNote = (cells: Cells): string =>
  cells.seeds > 1 ? `Means over ${cells.seeds} seeds with 95 % intervals.` : "One seed.";

const point = (x: number, { mean, low, high }: Interval): Point => ({ x, y: mean, low, high });

function pathsFigure(cells: Cells): Figure {
  const lengths = cells.pathLengths;
  const panels = cells.degrees.map((degree): LinePanel => ({
    title: `degree ${degree}`,
    lines: arms.map((arm, i) => ({
      ...{ ...armStyle(arm), marked: true },
      points: lengths.map((pathLength) =>
        point(pathLength + (i - 1.5) * 0.06, wholePathOf(cells.of({ degree, pathLength }, arm))),
      ),
    })),
    levels: [{ name: "shortcut 1/d", color: palette.black, y: 1 / degree }],
  }));
  return {
    name: "paths",
    title: "Whole paths",
    caption:
      `Share of held-out graphs whose whole path head 1 writes right. Dotted: what the shortcut gets, a first step drawn at ` +
      `random and edges followed from there. ${seedsNote(cells)}`,
    chart: lineChart(
      panels,
      {
        title: "path length (nodes)",
        ticks: lengths,
        domain: [Math.min(...lengths) - 0.3, Math.max(...lengths) + 0.3],
      },
      { title: "whole paths right (share)", domain: [0, 1.05] },
    ),
  };
}

function gridFigure(cells: Cells): Figure {
  const written = arms.map((arm) => ({
    name: armNames[arm],
    share: (kind: Kind) => wholePathOf(cells.of(kind, arm)).mean,
  }));
  const named = multi.map((arm) => ({
    name: `${arm}, all at once`,
    share: (kind: Kind) => atOnceOf(cells.of(kind, arm)).mean,
  }));
  const rows = [...written, ...named];
  const maps = cells.degrees.map((degree) => ({
    title: `degree ${degree}`,
    rows: rows.map(({ name }) => name),
    columns: cells.pathLengths.map(String),
    values: rows.map(({ share }) => cells.pathLengths.map((pathLength) => share({ degree, pathLength }))),
  }));
  return {
    name: "degree-length",
    title: "Degree × path length",
    caption:
      `Share of held-out graphs whose whole path is right: written by head 1, or named by all heads at once from the ` +
      `question alone. The shortcut gets 1 / degree. Means over ${cells.seeds} ${cells.seeds === 1 ? "seed" : "seeds"}.`,
    chart: heatMaps(maps, "path length (nodes)", ""),
  };
}

function curvePanels(cells: Cells, field: "loss" | "firstStep"): LinePanel[] {
  const among = field === "loss" ? lossInterval : shareInterval;
  return cells.kinds.map((kind) => ({
    title: `degree ${kind.degree}, length ${kind.pathLength}`,
    lines: forward.map((arm) => {
      const results = cells.of(kind, arm);
      return {
        ...armStyle(arm),
        points: (results[0]?.curve ?? []).map(({ step }, i) =>
          point(step, among(results.map(({ curve }) => curve[i]?.[field] ?? NaN))),
        ),
      };
    }),
    levels: [
      { name: "shortcut", color: palette.black, y: field === "loss" ? shortcutLoss(cells, kind) : 1 / kind.degree },
    ],
  }));
}

function learningFigure(cells: Cells): Figure {
  return {
    name: "first-step",
    title: "The first step",
    caption:
      `Share of held-out graphs where head 1, behind the start, names the next node of the path, during training. Dotted: ` +
      `the shortcut. ${seedsNote(cells)}`,
    chart: lineChart(
      curvePanels(cells, "firstStep"),
      { title: "step" },
      { title: "first steps right (share)", domain: [0, 1.05] },
      Math.min(cells.pathLengths.length, 3),
    ),
  };
}

function lossFigure(cells: Cells): Figure {
  return {
    name: "loss",
    title: "Loss of head 1",
    caption:
      `Held-out loss of head 1 over the path's nodes. Dotted: the shortcut's exact loss, ln d at the first step alone; 0 is ` +
      `possible, 0.01 the least shown. ${seedsNote(cells)}`,
    chart: lineChart(
      curvePanels(cells, "loss"),
      { title: "step" },
      { title: "loss (nats a node)", log: true, domain: [0.01, 3] },
      Math.min(cells.pathLengths.length, 3),
    ),
  };
}

function equalsFigure(cells: Cells): Figure {
  const shades = [palette.blue, palette.orange, palette.green, palette.purple];
  const lengths = cells.pathLengths;
  const most = Math.max(...lengths);
  const panels = cells.degrees.flatMap((degree) =>
    multi.map((arm): LinePanel => ({
      title: `degree ${degree}, ${arm}`,
      lines: lengths.map((pathLength, i) => ({
        ...{ name: `length ${pathLength}`, color: shades[i % shades.length] ?? palette.black, marked: true },
        points: Array.from({ length: pathLength }, (_, node) =>
          point(
            node + (i - (lengths.length - 1) / 2) * 0.05,
            shareInterval(cells.of({ degree, pathLength }, arm).map(({ fromEquals }) => fromEquals[node] ?? NaN)),
          ),
        ),
      })),
      levels: [{ name: "1 / d", color: palette.black, y: 1 / degree }],
    })),
  );
  return {
    name: "before-the-path",
    title: "What the heads know before the path is written",
    caption:
      `Share of held-out graphs where head i, reading =, names the path's node i − 1; node 0 is the start, the last is the ` +
      `goal. Dotted: one of d paths drawn at random. ${seedsNote(cells)}`,
    chart: lineChart(
      panels,
      { title: "node of the path", ticks: Array.from({ length: most }, (_, i) => i), domain: [-0.3, most - 0.7] },
      { title: "right (share)", domain: [0, 1.05] },
      multi.length,
    ),
  };
}
