// What a bench is: a question, and a function that measures the answer.
import type { Finding } from "./report.js";

export interface BenchOptions {
  /** Tiny sizes, one round: shows that the bench runs and its results are right; its figures mean nothing. */
  readonly smoke: boolean;
  /** Rounds of each comparison. */
  readonly rounds: number;
  /** Where the time goes, kernel by kernel, instead of comparisons. */
  readonly trace: boolean;
}

export interface Bench {
  readonly question: string;
  /** Yields what it finds as it goes. Throws when a result is wrong; nothing wrong is timed. */
  run(options: BenchOptions): AsyncIterable<Finding> | Iterable<Finding>;
}
