// A study's quick form from data to files, as the command runs it.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { Device } from "../../lib/device.js";
import { loadCharts } from "../../lib/studies/charts.js";
import type { StudyReport } from "../../lib/studies/report.js";
import { runStudy } from "../../lib/studies/runner.js";
import type { Study } from "../../lib/studies/study.js";

/** Runs it in `out`; every table has as many values in a row as columns, every figure is there as SVG and PNG. */
export async function runQuick(study: Study, device: Device, out: string): Promise<StudyReport> {
  const report = await runStudy(study, { size: "quick", out, device, draw: await loadCharts() });
  const folder = join(out, `${study.name}-quick`);
  for (const { columns, rows } of report.tables) {
    expect(rows.length).toBeGreaterThan(0);
    for (const row of rows) expect(row).toHaveLength(columns.length);
  }
  for (const { name } of report.figures) {
    expect(readFileSync(join(folder, `figures/${name}.svg`), "utf8")).toContain("<svg");
    expect([...readFileSync(join(folder, `figures/${name}.png`)).subarray(1, 4)]).toEqual([80, 78, 71]);
  }
  expect(existsSync(join(folder, "index.html"))).toBe(true);
  expect(readFileSync(join(folder, "results.json"), "utf8")).toContain(JSON.stringify(report.verdict));
  for (const text of [report.verdict, ...report.findings, ...report.tables.flatMap(({ rows }) => rows.flat())]) {
    expect(String(text)).not.toMatch(/NaN|undefined|Infinity/);
  }
  return report;
}
