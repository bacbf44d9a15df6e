// Ends a text before a stop string that may arrive in pieces.

/** Passes text through, holding back what could become a stop string. */
export class StopFilter {
  private held = "";
  stopped = false;

  constructor(private readonly stops: readonly string[]) {}

  /** The text that is certain to be wanted after this piece. */
  push(piece: string): string {
    if (this.stopped) return "";
    if (this.stops.length === 0) return piece;
    this.held += piece;
    const at = Math.min(...this.stops.map((stop) => this.held.indexOf(stop)).filter((i) => i >= 0));
    if (Number.isFinite(at)) {
      this.stopped = true;
      return this.take(at);
    }
    return this.take(this.held.length - this.possibleStop());
  }

  /** What was held back at the end of the text. */
  flush(): string {
    return this.stopped ? "" : this.take(this.held.length);
  }

  private take(count: number): string {
    const taken = this.held.slice(0, count);
    this.held = this.held.slice(count);
    return taken;
  }

  /** Length of the longest end of the held text that begins a stop string. */
  private possibleStop(): number {
    let longest = 0;
    for (const stop of this.stops) {
      for (let length = Math.min(stop.length - 1, this.held.length); length > longest; length--) {
        if (this.held.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}
