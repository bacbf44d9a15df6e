// Ctrl-C: the first asks for a tidy end, the second ends at once.

const signals = ["SIGINT", "SIGTERM"] as const;

/** Exit code of a run that was interrupted, as shells have it for SIGINT. */
export const interruptedCode = 130;

export class Interrupt implements Disposable {
  private readonly controller = new AbortController();
  private readonly onSignal: () => void;

  /** `tell`: called once, to say what is being done. */
  constructor(tell: () => void) {
    this.onSignal = () => {
      if (this.signal.aborted) process.exit(interruptedCode);
      this.controller.abort();
      tell();
    };
    for (const signal of signals) process.on(signal, this.onSignal);
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** As if Ctrl-C had been pressed, without a word. */
  abort(): void {
    this.controller.abort();
  }

  [Symbol.dispose](): void {
    for (const signal of signals) process.off(signal, this.onSignal);
  }
}
