// One text in the making: what is known of it, what the caches have read, and what a step adds.
import { ForetokenError } from "../errors.js";
import type { Judged } from "./acceptance.js";
import type { Draw, Row } from "./inputs.js";
import type { GenerateSettings } from "./options.js";
import type { DraftShape } from "./tree.js";

export interface GeneratedToken {
  readonly token: number;
  /** The head that proposed it: 1, or i of a draft that head 1 agreed with; 0: another predictor's draft. */
  readonly head: number;
  /** Natural log, under head 1's untempered distribution. */
  readonly logProbability: number;
}

/** One forward: what was proposed for it, and what came of it. */
export interface DecodeStep {
  /** Of the first token that it added, counted from the start of the whole text. */
  readonly position: number;
  /** Tokens that were proposed: one after the other, or as a tree. */
  readonly proposed: number;
  /** Places after each other for which some were proposed, as far as those before them were right. */
  readonly tried: number;
  /** How many of these places head 1 found right. */
  readonly accepted: number;
  /** What it added: accepted + 1 tokens, or fewer at the end of the text. */
  readonly tokens: readonly GeneratedToken[];
}

/** Why a text ended: an end-of-text token, maxNewTokens, the end of the context. */
export type Ending = "eos" | "length" | "context";

/** What the next step reads of a sequence, from which position on; the drawn ones say after which rows tokens are drawn. */
export interface Reading {
  readonly rows: readonly Row[];
  readonly draws: readonly (Draw | undefined)[];
  /** How many draws there are. */
  readonly drawn: number;
}

export class Sequence {
  /** Prompt and what was added. */
  readonly tokens: number[];
  /** Positions of the present window that head 1 has read, or is reading; those behind the last known token are not counted. */
  private readCount = 0;
  /** Steps under way that draw for it: how many tokens each adds at most. */
  private readonly pending: number[] = [];
  /** The sum. */
  private pendingMost = 0;
  /** Where in `tokens` position 0 is. */
  private windowStart = 0;
  private addedCount = 0;
  private ending: Ending | undefined;

  constructor(
    readonly slot: number,
    prompt: ArrayLike<number>,
    readonly settings: GenerateSettings,
    private readonly capacity: number,
    private readonly eosToken: number | null,
  ) {
    this.tokens = Array.from(prompt);
    if (settings.maxNewTokens === 0) this.ending = "length";
    if (prompt.length > capacity) this.slide();
  }

  /** Why nothing more will be added; undefined while something will. */
  get finished(): Ending | undefined {
    return this.ending;
  }

  /** Tokens that were added to the prompt. */
  get added(): number {
    return this.addedCount;
  }

  /** Whether all but the last token have been read: the next step draws. */
  get decoding(): boolean {
    return this.readCount >= this.lastPosition;
  }

  /** Whether another step is wanted, however much those under way add. */
  get canGoAhead(): boolean {
    return this.ending === undefined && this.pendingMost < this.room;
  }

  /** Where its last token stands when each step under way has added one. */
  get nextPosition(): number {
    return this.lastPosition + this.pending.length;
  }

  /** Its last token; undefined while steps are under way that add others. */
  get lastToken(): number | undefined {
    return this.pending.length === 0 ? this.tokens.at(-1) : undefined;
  }

  /** The last known token's, within the window. */
  get lastPosition(): number {
    return this.tokens.length - 1 - this.windowStart;
  }

  /** Tokens that a step may add at most: 1 and the longest draft that fits. */
  get room(): number {
    return Math.min(this.settings.maxNewTokens - this.addedCount, this.capacity - this.lastPosition);
  }

  /** What the window holds: the tokens that the model sees. */
  get window(): readonly number[] {
    return this.windowStart === 0 ? this.tokens : this.tokens.slice(this.windowStart);
  }

  /** At most `limit` rows of what has not been read; draws after the last known token. */
  readPrompt(limit: number): Reading {
    const end = Math.min(this.readCount + limit, this.lastPosition + 1);
    const rows: Row[] = [];
    const draws: (Draw | undefined)[] = [];
    for (let position = this.readCount; position < end; position++) {
      rows.push(this.row(this.tokens[this.windowStart + position] ?? 0, position));
      draws.push(position === this.lastPosition ? this.drawAhead(1) : undefined);
    }
    this.readCount = end;
    const drawn = end > this.lastPosition ? 1 : 0;
    if (drawn > 0) this.goOn(1);
    return { rows, draws, drawn };
  }

  /** The token that was drawn last, known here or not: at `place`. */
  readNext(place: number): Reading {
    const row = this.row(place, this.nextPosition);
    this.goOn(1);
    return { rows: [row], draws: [this.drawAhead(this.pending.length)], drawn: 1 };
  }

  /** A step of which only the device knows where it starts. */
  goOn(rows: number): void {
    this.pending.push(rows);
    this.pendingMost += rows;
  }

  /** The last known token and a draft after it, of the shape's first nodes. draft: tokens, or places as in {@link Row}. */
  readDraft({ nodes }: DraftShape, draft: readonly number[]): Reading {
    const { lastPosition } = this;
    const rows = [this.row(this.tokens.at(-1) ?? 0, lastPosition)];
    const draws = [this.drawAhead(1)];
    for (const { depth, branch } of nodes.slice(0, draft.length)) {
      const row = this.row(draft[rows.length - 1] ?? 0, lastPosition + depth);
      rows.push({ ...row, branch: branch?.map((offset) => lastPosition + offset) });
      draws.push(this.drawAhead(depth + 1));
    }
    this.goOn(draws.length);
    return { rows, draws, drawn: draws.length };
  }

  /** How tokens are drawn; the position is that of the window's first token. */
  get draw(): Draw {
    return { ...this.drawAhead(0), position: this.windowStart };
  }

  /** The draw of the token `ahead` places after the last known one. */
  drawAhead(ahead: number): Draw {
    const { temperature, topK, topP, seed, request } = this.settings;
    return { temperature, topK, topP, seed, request, position: this.tokens.length - 1 + ahead };
  }

  /** Takes what was kept of a draft of `proposed` tokens, and one more. head: who proposed the i-th of the draft. */
  accept({ path, tried, tokens: judged }: Judged, proposed: number, head: (i: number) => number): DecodeStep {
    const position = this.tokens.length;
    const accepted = path.length;
    this.pendingMost -= this.pending.shift() ?? 0;
    const tokens: GeneratedToken[] = [];
    for (const [i, { token, logProbability }] of judged.entries()) {
      if (token < 0) throw notFinite();
      if (token === this.eosToken) {
        this.ending = "eos";
        break;
      }
      this.tokens.push(token);
      tokens.push({ token, head: i < accepted ? head(i) : 1, logProbability });
      if (++this.addedCount >= this.settings.maxNewTokens) {
        this.ending = "length";
        break;
      }
      if (this.lastPosition >= this.capacity) break; // the draft reached further
    }
    this.readCount = this.lastPosition;
    if (!this.ending && this.lastPosition >= this.capacity) {
      if (this.settings.context === "slide") this.slide();
      else this.ending = "context";
    }
    return { position, proposed, tried, accepted, tokens };
  }

  /** The later half of the context becomes the start of a new one. */
  private slide(): void {
    this.windowStart = this.tokens.length - Math.ceil(this.capacity / 2);
    this.readCount = 0;
  }

  private row(token: number, position: number): Row {
    return { token, sequence: this.slot, position };
  }
}

export function notFinite(): ForetokenError {
  return new ForetokenError("NOT_FINITE", "the model's logits are not numbers", {
    op: "generate",
    remedy: "The weights are damaged: take another checkpoint.",
  });
}
