// Randomness of the tasks: counter-based, so that a sequence is a function of (seed, split, index) alone.
import { ForetokenError } from "../errors.js";
import { hash32 } from "../io/shuffle.js";

const words = 2 ** 32;

/** Draws that depend on the key and on how many came before. */
export class Random {
  private count = 0;

  constructor(private readonly key: readonly number[]) {}

  /** A whole number in 0..limit−1, each as likely: words beyond the last multiple of `limit` are drawn again. */
  below(limit: number): number {
    const end = words - (words % limit);
    for (;;) {
      const word = hash32(...this.key, this.count++);
      if (word < end) return word % limit;
    }
  }

  pick<Value>(values: readonly Value[]): Value {
    if (values.length === 0) throw new ForetokenError("BAD_ARGUMENT", "nothing to pick from", { op: "Random.pick" });
    return values[this.below(values.length)] as Value;
  }

  /** A copy in an order drawn from all orders (Fisher and Yates). */
  shuffle<Value>(values: readonly Value[]): Value[] {
    const shuffled = [...values];
    for (let i = shuffled.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [shuffled[i], shuffled[j]] = [shuffled[j] as Value, shuffled[i] as Value];
    }
    return shuffled;
  }
}
