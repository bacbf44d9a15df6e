// Where words go: lines for people, or one JSON object per line for programs; never both.

export interface OutputOptions {
  readonly quiet?: boolean | undefined;
  readonly json?: boolean | undefined;
}

export class Output {
  readonly quiet: boolean;
  readonly json: boolean;
  /** Whether a person watches: a display may then be drawn over. */
  readonly live: boolean;

  constructor(options: OutputOptions) {
    this.quiet = options.quiet ?? false;
    this.json = options.json ?? false;
    this.live = process.stdout.isTTY && !this.quiet && !this.json;
  }

  /** What --quiet leaves out. */
  line(text = ""): void {
    if (!this.quiet && !this.json) process.stdout.write(`${text}\n`);
  }

  /** What a person asked for: said even with --quiet. */
  result(text: string): void {
    if (!this.json) process.stdout.write(`${text}\n`);
  }

  /** A piece of a result, without a line's end. */
  piece(text: string): void {
    if (!this.json) process.stdout.write(text);
  }

  /** One line of --json. */
  event(event: string, fields: object): void {
    if (this.json) process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
  }

  /** Said beside the result, on stderr, so that a pipe does not carry it. */
  note(text: string): void {
    process.stderr.write(`${text}\n`);
  }
}

/** Does `action` once, when whoever read stdout has gone (`| head`), in place of an error. */
export function whenReaderLeaves(action: () => void): void {
  process.stdout.removeAllListeners("error");
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    process.stdout.write = () => true;
    action();
  });
}
