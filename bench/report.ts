// Figures as a person reads them and as they are kept: medians, tables, and one JSON file per bench and machine.
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openDevice } from "../lib/device.js";

export type Figure = Readonly<Record<string, string | number | boolean | null>>;

/** A table of figures, and what they say of the project's claims. */
export interface Finding {
  readonly title: string;
  readonly rows: readonly Figure[];
  readonly verdicts?: readonly Verdict[];
}

export interface Verdict {
  readonly claim: string;
  readonly holds: boolean;
  readonly measured: string;
}

export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const [low = NaN, high = NaN] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  return low + (high - low) * (at - Math.floor(at));
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

/** Three or four significant digits, without exponents; "–" for what is not known. */
export function readable(value: Figure[string]): string {
  if (value === null || Number.isNaN(value)) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const digits = Math.max(0, Math.min(4, 2 - Math.floor(Math.log10(Math.abs(value)))));
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Rows as aligned columns: text to the left, numbers to the right. */
export function formatTable(rows: readonly Figure[]): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cells = rows.map((row) => columns.map((column) => (column in row ? readable(row[column] ?? null) : "")));
  const widths = columns.map((column, i) => Math.max(column.length, ...cells.map((line) => line[i]?.length ?? 0)));
  const right = columns.map((column) => rows.some((row) => typeof row[column] === "number"));
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, i) => (right[i] ? text.padStart(widths[i] ?? 0) : text.padEnd(widths[i] ?? 0)))
      .join("  ")
      .trimEnd();
  return [line(columns), ...cells.map(line)].join("\n");
}

export function printFinding({ title, rows, verdicts = [] }: Finding): void {
  console.log(`\n${title}\n${formatTable(rows)}`);
  for (const { claim, holds, measured } of verdicts) console.log(`${holds ? "yes" : "NO "}  ${claim}: ${measured}`);
}

/** Where and on what figures were taken. */
export interface Circumstances {
  readonly machine: string;
  readonly level: string;
  readonly threads: number;
  readonly node: string;
  readonly commit: string;
  readonly date: string;
}

export function circumstances(): Circumstances {
  const { name, simd, threads } = openDevice();
  const date = new Date().toISOString().slice(0, 10);
  return { machine: name, level: simd, threads, node: process.versions.node, commit: commit(), date };
}

/** The commit that is checked out, with a + when files differ from it. */
export function commit(): string {
  const git = (...args: string[]): string =>
    execFileSync("git", args, {
      cwd: fileURLToPath(new URL(".", import.meta.url)),
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  try {
    return git("rev-parse", "--short", "HEAD") + (git("status", "--porcelain", "--", "../lib", "../native") ? "+" : "");
  } catch {
    return "unknown";
  }
}

/** Writes bench/results/<bench>-<machine>.json and returns its path. */
export function saveFindings(bench: string, findings: readonly Finding[]): string {
  const where = circumstances();
  const folder = fileURLToPath(new URL("results/", import.meta.url));
  mkdirSync(folder, { recursive: true });
  const machine = `${where.machine} ${where.level} ${where.threads}`.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  const path = join(folder, `${bench}-${machine}.json`);
  writeFileSync(path, `${JSON.stringify({ bench, ...where, findings }, null, 2)}\n`);
  return path;
}
