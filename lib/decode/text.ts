// Tokens to text as it comes: whole characters, up to a stop string.
import type { TextStream, Tokenizer } from "../io/tokenizer.js";
import { StopFilter } from "./stop.js";

export class TextWriter {
  private readonly stream: TextStream;
  private readonly filter: StopFilter;

  constructor(tokenizer: Tokenizer, stop: string | readonly string[]) {
    this.stream = tokenizer.createTextStream();
    this.filter = new StopFilter(typeof stop === "string" ? [stop] : stop);
  }

  /** Whether a stop string has come: there is no more text. */
  get stopped(): boolean {
    return this.filter.stopped;
  }

  /** The text that is certain to be wanted after this token. */
  push(token: number): string {
    return this.filter.push(this.stream.push(token));
  }

  /** What was held back at the end of the text. */
  flush(): string {
    return this.filter.push(this.stream.flush()) + this.filter.flush();
  }
}
