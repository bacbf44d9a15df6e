// Where drafts come from. Whatever proposes, the text is head 1's: a draft only saves forwards when it is right.
import { ForetokenError } from "../errors.js";
import type { LanguageModel } from "../mtp/model.js";
import { type Draw, greedy } from "./inputs.js";
import { DecodeSession } from "./session.js";

/** Proposes tokens that may follow a text. The model's own heads are the default and need none. */
export interface DraftPredictor {
  /** Tokens that it can propose at once. */
  readonly longest: number;
  /** For texts that `model` writes, `slots` at a time, each of at most `capacity` tokens. Errors: whatever does not fit. */
  open(model: LanguageModel, slots: number, capacity: number): DraftSession;
}

export interface DraftSession {
  /** For each request up to `count` tokens, fewer or none where it has nothing to propose. */
  propose(requests: readonly DraftRequest[]): Promise<readonly (readonly number[])[]>;
  /** The slot's text ends, or starts anew: what comes next may differ from its first token on. */
  release(slot: number): void;
  dispose(): void;
}

export interface DraftRequest {
  readonly slot: number;
  /** What is known of the text. Between two calls it only grows, unless the slot was released. */
  readonly tokens: readonly number[];
  readonly count: number;
  /** How the first token to be proposed will be drawn; the ones after it at the positions that follow. */
  readonly draw: Draw;
}

export interface PromptLookupOptions {
  /** Tokens proposed at once. Default 8. */
  longest?: number | undefined;
  /** The longest ending of the text that is looked for. Default 4. */
  ngram?: number | undefined;
}

/**
 * Proposes what followed the last time that the text's ending occurred in it (prompt lookup decoding): nothing to
 * compute, and good where text repeats itself.
 *
 * @example
 * generate(model, prompt, { draft: promptLookup(), speculate: 6 });
 */
export function promptLookup({ longest = 8, ngram = 4 }: PromptLookupOptions = {}): DraftPredictor {
  checkCount("promptLookup", "longest", longest);
  checkCount("promptLookup", "ngram", ngram);
  return {
    longest,
    open: () => ({
      propose: (requests) =>
        Promise.resolve(requests.map(({ tokens, count }) => lookUp(tokens, ngram, Math.min(count, longest)))),
      release: () => undefined,
      dispose: () => undefined,
    }),
  };
}

/** What followed the latest earlier occurrence of the longest ending, of at most `ngram` tokens, that has one. */
function lookUp(tokens: readonly number[], ngram: number, count: number): readonly number[] {
  const { length } = tokens;
  let found = -1;
  let matched = 0;
  for (let end = length - 1; end > 0 && matched < ngram; end--) {
    let same = 0;
    while (same < ngram && same < end && tokens[end - 1 - same] === tokens[length - 1 - same]) same++;
    if (same > matched) [found, matched] = [end, same];
  }
  return found < 0 ? [] : tokens.slice(found, found + count);
}

/**
 * Proposes what another model of the same vocabulary writes with its head 1, drawn with the same noise: a small one, fast
 * and often of the same opinion.
 *
 * @example
 * generate(large, prompt, { draft: draftModel(small), speculate: 4 });
 */
export function draftModel(small: LanguageModel, { longest = 8 }: { longest?: number } = {}): DraftPredictor {
  checkCount("draftModel", "longest", longest);
  return {
    longest,
    open(model, slots, capacity) {
      if (small.config.vocabSize !== model.config.vocabSize) {
        throw new ForetokenError("BAD_ARGUMENT", {
          ...{ op: "generate", argument: "draft", wanted: `a model with ${model.config.vocabSize} tokens` },
          got: String(small.config.vocabSize),
        });
      }
      return new ModelDrafts(small, slots, Math.min(capacity, small.config.maxPositions));
    },
  };
}

/** Rows that the draft model reads at once where it has fallen behind. */
const chunk = 64;

class ModelDrafts implements DraftSession {
  private readonly session: DecodeSession;
  /** Of each slot, what its caches hold. */
  private readonly read: number[][];

  constructor(
    model: LanguageModel,
    slots: number,
    private readonly capacity: number,
  ) {
    this.session = new DecodeSession(model, slots, capacity, { rowsAtOnce: Math.max(slots, chunk) });
    this.read = Array.from({ length: slots }, () => []);
  }

  async propose(requests: readonly DraftRequest[]): Promise<readonly (readonly number[])[]> {
    const texts = requests.map(({ tokens }) => [...tokens]);
    for (const [i, { slot }] of requests.entries()) await this.readUpTo(slot, texts[i] ?? []);
    const most = Math.max(0, ...requests.map(({ count }) => count));
    for (let ahead = 0; ahead < most; ahead++) await this.drawNext(requests, texts, ahead);
    return requests.map(({ tokens, count }, i) => (texts[i] ?? []).slice(tokens.length, tokens.length + count));
  }

  /** Everything but the last token, which is read together with the others' when the next is drawn. */
  private async readUpTo(slot: number, text: readonly number[]): Promise<void> {
    const read = this.read[slot] ?? [];
    let same = 0;
    while (same < read.length && same < text.length - 1 && read[same] === text[same]) same++;
    const end = Math.min(text.length - 1, this.capacity);
    for (let start = same; start < end; start += chunk) {
      const rows = text
        .slice(start, Math.min(start + chunk, end))
        .map((token, i) => ({ token, sequence: slot, position: start + i }));
      await this.session.verify(
        rows,
        rows.map((_, i) => (i === rows.length - 1 ? greedy : undefined)),
      );
    }
    this.read[slot] = text.slice(0, end);
  }

  private async drawNext(requests: readonly DraftRequest[], texts: readonly number[][], ahead: number): Promise<void> {
    const going = requests.flatMap((request, i) => {
      const text = texts[i] ?? [];
      const fits = text.length <= this.capacity && text.length === request.tokens.length + ahead;
      return ahead < request.count && fits ? [{ request, text }] : [];
    });
    if (going.length === 0) return;
    const rows = going.map(({ request: { slot }, text }) => ({
      token: text.at(-1) ?? 0,
      sequence: slot,
      position: text.length - 1,
    }));
    const draws = going.map(({ request: { draw } }) => ({ ...draw, position: draw.position + ahead }));
    const { drawn } = await this.session.verify(rows, draws);
    for (const [i, { request, text }] of going.entries()) {
      this.read[request.slot] = [...text];
      const token = drawn[i] ?? -1;
      if (token >= 0) text.push(token);
    }
  }

  release(slot: number): void {
    this.read[slot] = [];
  }

  dispose(): void {
    this.session.dispose();
  }
}

function checkCount(op: string, argument: string, value: number): void {
  if (Number.isSafeInteger(value) && value > 0) return;
  throw new ForetokenError("BAD_OPTION", { op, argument, wanted: "a whole number above 0", got: String(value) });
}
