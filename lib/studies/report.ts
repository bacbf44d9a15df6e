// A study's results as files: numbers, pictures, a page for each study and a gallery of all.
import { join } from "node:path";
import { diskFileSystem, makeFolder, readJson } from "../io/files.js";
import { saveFileAtomically } from "../io/save.js";
import type { Draw } from "./charts.js";
import type { Circumstances } from "./circumstances.js";
import { galleryMarkdown, studyPage, type GalleryEntry } from "./page.js";
import type { StoredCell } from "./store.js";
import type { Figure, StudySize, Summary } from "./study.js";

export interface StudyReport extends Circumstances, Summary {
  readonly name: string;
  readonly title: string;
  readonly question: string;
  readonly source: string;
  readonly size: StudySize;
  readonly seeds: number;
  /** Of all cells together. */
  readonly seconds: number;
  /** Configurations that saw too little to be judged. */
  readonly tooShort: readonly { readonly label: string; readonly tokensPerParameter: number }[];
  readonly cells: readonly StoredCell[];
}

const resultsName = "results.json";

/** Writes figures (SVG and PNG), index.html and results.json to the study's folder, and the gallery to `out`. */
export async function saveReport(out: string, folder: string, report: StudyReport, draw: Draw): Promise<void> {
  const figures = join(folder, "figures");
  await diskFileSystem.remove(figures);
  await makeFolder(diskFileSystem, figures);
  const drawn: { figure: Figure; svg: string }[] = [];
  for (const figure of report.figures) {
    const { svg, png } = await draw(figure.chart);
    await saveFileAtomically(diskFileSystem, join(figures, `${figure.name}.svg`), svg);
    await saveFileAtomically(diskFileSystem, join(figures, `${figure.name}.png`), png);
    drawn.push({ figure, svg });
  }
  await saveFileAtomically(diskFileSystem, join(folder, "index.html"), studyPage(report, drawn));
  await saveFileAtomically(diskFileSystem, join(folder, resultsName), resultsJson(report));
  await saveFileAtomically(diskFileSystem, join(out, "README.md"), galleryMarkdown(await galleryEntries(out)));
}

/** Readable, with a line for each cell, its numbers to six digits; the figures' charts are in their SVG. */
function resultsJson({ cells, figures, ...report }: StudyReport): string {
  const shown = { ...report, figures: figures.map(({ name, title, caption }) => ({ name, title, caption })) };
  const head = JSON.stringify(shown, null, 2).replace(/\n\}$/, "");
  const lines = cells.map(({ settings, seed, seconds, result }) =>
    JSON.stringify({ settings, seed, seconds: Number(seconds.toFixed(2)), result: rounded(result) }),
  );
  return `${head},\n  "cells": [\n    ${lines.join(",\n    ")}\n  ]\n}\n`;
}

const isReport = (value: unknown): value is Omit<StudyReport, "cells"> =>
  typeof value === "object" &&
  value !== null &&
  ["verdict", "tables", "figures", "machine"].every((key) => key in value);

const rounded = (result: object): object =>
  JSON.parse(
    JSON.stringify(result, (_, value: unknown) => (typeof value === "number" ? Number(value.toPrecision(6)) : value)),
  ) as object;

/** Every study with results in `out`, by name; other people's files of that name are not ours to show. */
async function galleryEntries(out: string): Promise<GalleryEntry[]> {
  const entries: GalleryEntry[] = [];
  for (const name of await diskFileSystem.list(out)) {
    const path = join(out, name, resultsName);
    if (!(await diskFileSystem.exists(path))) continue;
    const report = await readJson(diskFileSystem, path).catch(() => undefined);
    if (isReport(report)) entries.push({ folder: name, report });
  }
  return entries;
}
