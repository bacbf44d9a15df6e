// Variants timed in turn, round after round, so that whatever else the machine does hits all of them alike.
import { setTimeout } from "node:timers/promises";
import { median, quantile } from "./report.js";

export interface Variant {
  readonly name: string;
  /** Runs once and resolves to the ms it took. */
  readonly run: () => Promise<number>;
}

export interface Timing {
  readonly name: string;
  /** Of all rounds, in ms. */
  readonly samples: readonly number[];
  readonly median: number;
  readonly p99: number;
  readonly best: number;
}

/** Long enough for the threads of the variant before to go to sleep. */
const restMs = 30;

export async function interleave(variants: readonly Variant[], rounds: number, warmUps = 1): Promise<Timing[]> {
  const samples = variants.map((): number[] => []);
  for (let round = -warmUps; round < rounds; round++) {
    for (const [i, variant] of variants.entries()) {
      await setTimeout(restMs);
      const ms = await variant.run();
      if (round >= 0) samples[i]?.push(ms);
    }
  }
  return variants.map(({ name }, i) => timing(name, samples[i] ?? []));
}

function timing(name: string, samples: readonly number[]): Timing {
  return { name, samples, median: median(samples), p99: quantile(samples, 0.99), best: Math.min(...samples) };
}
