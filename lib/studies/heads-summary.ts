// What the cells of the head study say together.
import { ForetokenError } from "../errors.js";
import { armsOf, pairedDifference, sayDifference, type Arm as ArmOf } from "./arms.js";
import type { HeadResult, HeadSettings } from "./heads-cell.js";
import { intervalWithin, lossInterval, meanOf, shareInterval, shown, type Interval } from "./statistics.js";
import type { CellResult, Figure, Summary, Table } from "./study.js";
import { dotChart, lineChart, palette, type Dot, type Line } from "./style.js";

type Finished = CellResult<HeadSettings, HeadResult>;

interface Arm extends ArmOf<HeadSettings, HeadResult> {
  readonly color: string;
}

const colors = [palette.black, palette.blue, palette.vermilion, palette.green, palette.purple, palette.orange];

export function summariseHeads(finished: readonly Finished[]): Summary {
  const arms = armsOf(finished, ({ label }) => label).map((arm) => ({ ...arm, color: palette.black }));
  const of = (...groups: readonly HeadSettings["group"][]): Arm[] =>
    arms.filter(({ settings }) => groups.includes(settings.group));
  const [single, parallel] = [of("single")[0], of("family")[0]];
  if (!single || !parallel) {
    const details = {
      op: "study",
      argument: "heads",
      wanted: "cells with one head and with parallel heads",
      got: `${arms.length} configurations`,
    };
    throw new ForetokenError("BAD_ARGUMENT", details);
  }
  const families = coloured(of("single", "family"));
  const weights = coloured([
    single,
    { ...parallel, settings: { ...parallel.settings, label: "equal" } },
    ...of("weights"),
  ]);
  return {
    verdict: [
      `Four parallel heads beside one: head 1 has ${against(parallel, single)}.`,
      `Families beside parallel heads: ${sayAll(of("family").slice(1), parallel)}.`,
      `Weights beside equal ones: ${sayAll(of("weights"), parallel)}.`,
    ].join(" "),
    findings: [draftFinding(of("family", "weights")), sizeFinding(arms)],
    tables: [
      tableOf("Families of heads, equal weights", families),
      tableOf("Weights of the losses, parallel heads", weights),
    ],
    figures: [
      dotsFigure("families", "Families of heads", families),
      headsFigure("families-heads", "Accuracy of each head, by family", families),
      dotsFigure("weights", "Weights of the heads' losses", weights),
      headsFigure("weights-heads", "Accuracy of each head, by weights", weights),
    ],
  };
}

const coloured = (arms: readonly Arm[]): Arm[] =>
  arms.map((arm, i) => ({ ...arm, color: colors[i % colors.length] ?? palette.black }));

const bits = ({ bitsPerByte }: HeadResult): number => bitsPerByte[0] ?? NaN;

const bitsOfArm = ({ results }: Arm): Interval => lossInterval(results.map(bits));

/** From 1 to the number of heads. */
const tokensOfArm = ({ results }: Arm): Interval =>
  intervalWithin(
    results.map(({ expectedTokensPerForward }) => expectedTokensPerForward),
    1,
    results[0]?.bitsPerByte.length ?? 1,
  );

const difference = (arm: Arm, base: Arm): Interval => pairedDifference(arm, base, bits);

const against = (arm: Arm, base: Arm): string => sayDifference(difference(arm, base), { unit: "bits a byte" });

const sayAll = (arms: readonly Arm[], base: Arm): string =>
  arms.map((arm) => `${arm.settings.label} ${against(arm, base)}`).join("; ");

function draftFinding(arms: readonly Arm[]): string {
  const [best] = [...arms].sort((a, b) => tokensOfArm(b).mean - tokensOfArm(a).mean);
  return best
    ? `Most tokens per forward by its own drafts, teacher-forced on held-out code: ${best.settings.label}, ${shown(tokensOfArm(best), 2)}.`
    : "";
}

function sizeFinding(arms: readonly Arm[]): string {
  const counts = arms.map(({ results }) => results[0]?.parameters ?? NaN);
  const { steps, batchSize, contextLength } = arms[0]?.settings ?? { steps: 0, batchSize: 0, contextLength: 0 };
  const thousands = (count: number): string => `${(count / 1000).toFixed(1)} k`;
  return (
    `Each model has ${thousands(Math.min(...counts))} to ${thousands(Math.max(...counts))} parameters and read ` +
    `${((steps * batchSize * contextLength) / 1e6).toFixed(2)} M bytes of real code; held out are whole packages. The ` +
    `papers' effects are of models a thousand times as large.`
  );
}

function tableOf(title: string, arms: readonly Arm[]): Table {
  const base = arms[0];
  const rows = arms.map((arm) => {
    const { results, settings } = arm;
    const heads = (results[0]?.accuracies ?? []).map((_, i) =>
      (100 * meanOf(results.map(({ accuracies }) => accuracies[i] ?? NaN))).toFixed(1),
    );
    return [
      settings.label,
      results[0]?.parameters ?? null,
      shown(bitsOfArm(arm)),
      base && arm !== base ? shown(difference(arm, base)) : "–",
      heads.join(" "),
      shown(tokensOfArm(arm), 2),
    ];
  });
  const columns = [
    "",
    "parameters",
    "bits per byte, head 1",
    "difference to n = 1",
    "accuracy per head (%)",
    "tokens per forward",
  ];
  return { title: `${title}, ${arms[0]?.results.length ?? 0} seeds`, columns, rows };
}

const seedsNote = (arms: readonly Arm[]): string => {
  const seeds = arms[0]?.results.length ?? 0;
  return seeds > 1 ? `Means over ${seeds} seeds with 95 % intervals.` : "One seed.";
};

function dotsFigure(name: string, title: string, arms: readonly Arm[]): Figure {
  const dots = (measured: (arm: Arm) => Interval): Dot[] =>
    arms.map((arm) => {
      const { mean, low, high } = measured(arm);
      return { name: arm.settings.label, color: arm.color, value: mean, low, high };
    });
  return {
    ...{ name, title },
    caption:
      `Left: loss of head 1 on held-out code, lower is better. Right: tokens that a forward would yield if the other ` +
      `heads drafted, teacher-forced, higher is better, though a model that says the same everywhere gets most: see the ` +
      `accuracies. ${seedsNote(arms)}`,
    chart: dotChart([
      { title: "Next byte", x: { title: "loss of head 1 (bits per byte)" }, dots: dots(bitsOfArm) },
      { title: "Drafts", x: { title: "tokens per forward" }, dots: dots(tokensOfArm) },
    ]),
  };
}

function headsFigure(name: string, title: string, arms: readonly Arm[]): Figure {
  const heads = Math.max(...arms.map(({ results }) => results[0]?.accuracies.length ?? 0));
  const lines = arms.map(({ settings, color, results }, i): Line => ({
    ...{ name: settings.label, color, marked: true },
    points: (results[0]?.accuracies ?? []).map((_, head) => {
      const { mean, low, high } = shareInterval(results.map(({ accuracies }) => accuracies[head] ?? NaN));
      return { x: head + 1 + (i - (arms.length - 1) / 2) * 0.04, y: mean, low, high };
    }),
  }));
  return {
    ...{ name, title },
    caption: `Share of held-out bytes that each head gets right; n = 1 has one head. ${seedsNote(arms)}`,
    chart: lineChart(
      [{ title: "", lines }],
      {
        title: "head (bytes ahead)",
        ticks: Array.from({ length: heads }, (_, i) => i + 1),
        domain: [0.8, heads + 0.2],
      },
      { title: "accuracy (share)" },
    ),
  };
}
