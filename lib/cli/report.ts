// What is known of a model's heads, as a table.
import type { HeadMetrics } from "../train/metrics.js";
import { formatShare, formatTable } from "./format.js";

export const bitsOf = (nats: number): number => nats / Math.LN2;

/** One row per head, and what the heads together are worth. `extra`: further columns, each a title and a cell per head. */
export function headTable(metrics: HeadMetrics, extra: readonly (readonly string[])[] = []): string {
  const title = ["head", "loss", "bits/byte", "accuracy", "conditional", "acceptance"];
  const rows = metrics.losses.map((loss, i) => [
    String(i + 1),
    loss.toFixed(4),
    bitsOf(loss).toFixed(3),
    formatShare(metrics.accuracies[i] ?? null),
    formatShare(metrics.conditionalAccuracies[i] ?? null),
    formatShare(metrics.acceptances[i] ?? null),
  ]);
  const table = [title, ...rows].map((row, i) => [...row, ...extra.map((column) => column[i] ?? "")]);
  return `${formatTable(table)}\n${expectedTokens(metrics)}`;
}

function expectedTokens({ expectedTokensPerForward, losses }: HeadMetrics): string {
  return `expected tokens per forward: ${expectedTokensPerForward.toFixed(2)} (of ${losses.length})`;
}
