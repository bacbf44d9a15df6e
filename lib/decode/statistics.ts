// What speculation gains: tokens per forward, and how often each place of a draft was right.
import type { DecodeStep } from "./sequence.js";

/** One place in drafts: of the drafts whose places before it were right, how many proposed a token there and were right. */
export interface PlaceStatistics {
  readonly proposed: number;
  readonly accepted: number;
}

/**
 * Collects the steps of one text or many.
 *
 * @example
 * const statistics = new DecodeStatistics();
 * for await (const text of generate(model, prompt, { onStep: (step) => statistics.add(step) })) process.stdout.write(text);
 * console.log(statistics.tokensPerForward, statistics.acceptances);
 */
export class DecodeStatistics {
  forwards = 0;
  tokens = 0;
  private readonly perPlace: { proposed: number; accepted: number }[] = [];

  add({ tried, accepted, tokens }: DecodeStep): void {
    this.forwards++;
    this.tokens += tokens.length;
    for (let i = 0; i < tried; i++) {
      const place = (this.perPlace[i] ??= { proposed: 0, accepted: 0 });
      place.proposed++;
      if (i < accepted) place.accepted++;
    }
  }

  /** NaN before the first forward. */
  get tokensPerForward(): number {
    return this.tokens / this.forwards;
  }

  /** Of the draft's first token (head 2's) first. */
  get places(): readonly PlaceStatistics[] {
    return this.perPlace;
  }

  /** Share of a place's proposals that were right, of head 2's first. */
  get acceptances(): number[] {
    return this.perPlace.map(({ proposed, accepted }) => accepted / proposed);
  }
}
