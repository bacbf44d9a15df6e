// What is compared: configurations with their seeds, paired seed by seed.
import { interval, type Interval } from "./statistics.js";
import type { CellResult } from "./study.js";

/** One configuration, its seeds in order. */
export interface Arm<Settings, Result> {
  readonly settings: Settings;
  readonly results: readonly Result[];
}

/** In the order in which the configurations come. */
export function armsOf<Settings, Result>(
  finished: readonly CellResult<Settings, Result>[],
  nameOf: (settings: Settings) => string,
): Arm<Settings, Result>[] {
  const seeds = new Map<string, CellResult<Settings, Result>[]>();
  for (const each of finished) {
    const name = nameOf(each.settings);
    seeds.set(name, [...(seeds.get(name) ?? []), each]);
  }
  return [...seeds.values()].flatMap((cells) => {
    const results = [...cells].sort((a, b) => a.seed - b.seed).map(({ result }) => result);
    return cells[0] ? [{ settings: cells[0].settings, results }] : [];
  });
}

/** Of one arm less another, seed by seed: the same data in the same order. */
export function pairedDifference<Result>(
  arm: Arm<unknown, Result>,
  base: Arm<unknown, Result>,
  value: (result: Result) => number,
): Interval {
  const pairs = arm.results.flatMap((result, i) => (base.results[i] ? [[result, base.results[i]] as const] : []));
  return interval(pairs.map(([result, other]) => value(result) - value(other)));
}

/** Whether a difference was seen: the interval decides. */
export function sayDifference(
  { mean, low, high }: Interval,
  { unit, digits = 3 }: { readonly unit: string; readonly digits?: number },
): string {
  const by = `${Math.abs(mean).toFixed(digits)} ${unit} ${mean < 0 ? "less" : "more"}`;
  if (low === null || high === null) return `${by}, of one seed`;
  const bounds = `[${low.toFixed(digits)}, ${high.toFixed(digits)}]`;
  return low <= 0 && high >= 0 ? `no difference that was seen (${by}, ${bounds})` : `${by} ${bounds}`;
}
