// Decoding steps of one or many sequences: propose, read, keep what head 1 agrees with (arXiv 1811.03115).
import { performance } from "node:perf_hooks";
import type { LanguageModel } from "../mtp/model.js";
import {
  judgeByRejection,
  judgeByTypicality,
  judgeExactly,
  type DraftRead,
  type Judged,
  type Place,
} from "./acceptance.js";
import { Acceptance, chooseLengths, experienceOf } from "./adaptive.js";
import { knownCosts, stepCosts, type Measured, type StepCosts } from "./costs.js";
import type { DraftPredictor, DraftSession } from "./drafts.js";
import type { GenerateSettings, Verification } from "./options.js";
import { DecodeSession, drawnPlace, lastPlace } from "./session.js";
import { Sequence, type DecodeStep, type Reading } from "./sequence.js";
import { inTurn, SteadyLayout } from "./steady.js";
import type { DraftShape } from "./tree.js";
import type { Verdict } from "./verdict.js";

export interface EngineOptions {
  /** Sequences at once. */
  readonly slots: number;
  /** Positions that each can hold. */
  readonly capacity: number;
  /** What is proposed per step at most; nothing for plain decoding. */
  readonly shape: DraftShape;
  /** Whether each draft has as many of the shape's nodes as pay, or as many as it may. */
  readonly adaptive: boolean;
  /** Who proposes; undefined: heads 2 and up. */
  readonly draft?: DraftPredictor | undefined;
  /** Prompt tokens read per step. */
  readonly promptChunk: number;
  readonly verify: Verification;
}

interface Part {
  readonly sequence: Sequence;
  /** Rows that it read, and how many of them drew: the last. */
  readonly rows: number;
  readonly drawn: number;
  /** Which of those that asked heads for a draft it is. */
  readonly asked?: number | undefined;
}

/** The logits that the heads drew their drafts from: of `requests` sequences, head 2's first. */
interface ProposerLogits {
  readonly values: Float32Array;
  readonly requests: number;
}

/** A forward and what it gave. */
interface Forward {
  readonly parts: readonly Part[];
  readonly verdict: Verdict;
  readonly proposers?: ProposerLogits | undefined;
  /** Of a step that the host did not wait for. */
  readonly layout?: SteadyLayout | undefined;
}

/** What a sequence reads in a step. */
interface Asked {
  readonly sequence: Sequence;
  readonly reading: Reading;
  readonly asked?: number | undefined;
}

interface Drafted {
  readonly asked: readonly Asked[];
  /** Sequences that asked the heads. */
  readonly requests: number;
  readonly logits: Promise<Float32Array> | undefined;
}

interface Flight {
  readonly forwards: Promise<Forward[]>;
  /** Whether others may follow before it has landed. */
  readonly ahead: boolean;
  /** Whether it is known how many tokens it adds: nobody drafts. */
  readonly certain: boolean;
  /** What one step with longer drafts than have paid should take. */
  readonly triesIn?: number | undefined;
}

/** Drafts that some are to have for so many steps: the more, the longer nothing has changed. */
interface Choice {
  readonly going: readonly Sequence[];
  readonly lengths: readonly number[];
  /** Whether some are longer than what pays, to see whether that still holds. */
  readonly tries: boolean;
  readonly steps: number;
  left: number;
}

interface Asking {
  readonly sequence: Sequence;
  /** Nodes of the shape that it wants proposed. */
  readonly count: number;
}

export class DecodeEngine {
  private readonly session: DecodeSession;
  private readonly drafts: DraftSession | undefined;
  /** Those in the making; where drafts are as long as pays, how often theirs have been right. */
  private readonly active = new Map<Sequence, Acceptance | undefined>();
  private readonly free: number[];
  private costs: StepCosts | undefined;
  /** Forwards under way, the oldest first, by those whose results arrive together. */
  private readonly flights: Flight[] = [];
  /** Forwards that have arrived and were not passed on yet. */
  private readonly landed: Forward[] = [];
  private readonly pace = new Pace();
  /** Where rows find the token that was drawn last for a sequence, while it is not known here. */
  private readonly places = new Map<Sequence, number>();
  private choice: Choice | undefined;
  /** Of the last steady steps. */
  private layout: { readonly layout: SteadyLayout; readonly going: readonly Sequence[] } | undefined;

  constructor(
    private readonly model: LanguageModel,
    private readonly options: EngineOptions,
  ) {
    const { slots, capacity, shape, draft, promptChunk } = options;
    this.free = Array.from({ length: slots }, (_, i) => i);
    // The last draft of a text may reach beyond its end.
    this.session = new DecodeSession(model, slots, capacity + shape.depth + shape.placesBehind, {
      drafts: shape.size > 0 && !draft,
      rowsAtOnce: promptChunk + slots * (shape.size + 1),
      candidates: shape.candidates,
      reach: shape.isChain ? 0 : shape.depth,
    });
    try {
      this.drafts = shape.size > 0 ? draft?.open(model, slots, capacity) : undefined;
    } catch (failure) {
      this.session.dispose();
      throw failure;
    }
  }

  /** Whether another sequence can be started. */
  get hasRoom(): boolean {
    return this.free.length > 0;
  }

  start(prompt: ArrayLike<number>, settings: GenerateSettings): Sequence {
    const slot = this.free.shift();
    if (slot === undefined) throw new RangeError("every slot is taken");
    const eosToken = this.model.tokenizer?.eosToken ?? null;
    const sequence = new Sequence(slot, prompt, settings, this.options.capacity, eosToken);
    const { shape, adaptive } = this.options;
    this.active.set(sequence, adaptive ? new Acceptance(shape, experienceOf(this.model, shape)) : undefined);
    return sequence;
  }

  /** Ends a sequence, done or not; its slot goes to the next. */
  release(sequence: Sequence): void {
    if (!this.active.delete(sequence)) return;
    this.places.delete(sequence);
    this.forget(sequence.slot);
    this.free.push(sequence.slot);
  }

  /**
   * What the next forward added: every sequence reads on in its prompt, or adds one token or several. Forwards after it are
   * under way when this resolves: sequences started or released since take part or not from the next one on.
   */
  async step(): Promise<ReadonlyMap<Sequence, DecodeStep>> {
    if (this.landed.length === 0) {
      this.takeOff();
      const flight = this.flights.shift();
      if (!flight) {
        if ([...this.active.keys()].some(({ finished }) => finished === undefined))
          throw new Error("no step can start");
        return new Map();
      }
      this.landed.push(...(await flight.forwards));
      const ms = this.pace.landed(this.landed.length);
      if (flight.triesIn !== undefined) this.costs?.tried(ms - flight.triesIn);
    }
    const forward = this.landed.shift();
    const steps = forward ? this.land(forward) : new Map<Sequence, DecodeStep>();
    // A text's first token does not wait until its first draft is on its way: heads get ready for that.
    if (this.landed.length === 0 && !(this.options.shape.size > 0 && someBegin(steps))) this.takeOff();
    return steps;
  }

  /** Waits for what is under way, and gives everything back. */
  async close(): Promise<void> {
    await Promise.allSettled(this.flights.map(({ forwards }) => forwards));
    this.drafts?.dispose();
    this.session.dispose();
  }

  /** Starts what can be started: two flights are under way, so that the device need not wait for the host. */
  private takeOff(): void {
    while (this.flights.length < 2 && this.flights.every(({ ahead }) => ahead)) {
      const flight = this.nextFlight();
      if (!flight) return;
      flight.forwards.catch(() => undefined); // it is thrown where it is awaited
      this.flights.push(flight);
    }
  }

  /** undefined: what is under way has to land first, or nothing is left to do. */
  private nextFlight(): Flight | undefined {
    const certain = this.flights.every((flight) => flight.certain);
    const going = [...this.active.keys()].filter(({ finished }) => finished === undefined);
    const lengths = this.lengthsOf(going);
    if (lengths?.every((length) => length === 0) === true) {
      const ready = going.filter(({ canGoAhead }) => canGoAhead);
      if (ready.length === 0) return undefined;
      if (ready.every(({ decoding }) => decoding)) {
        return this.draftsSoon && this.flights.length > 0 ? undefined : this.goOn(ready, [], certain);
      }
      return certain ? { forwards: this.readAhead(ready), ahead: true, certain: true } : undefined;
    }
    if (lengths && this.draftsOnDevice && going.every(({ decoding }) => decoding)) {
      // A text's first token, if it is on its way, goes out before heads get ready.
      const ready = going.every(
        ({ canGoAhead, added, lastToken }) => canGoAhead && (added > 0 || lastToken !== undefined),
      );
      return ready ? this.goOn(going, lengths, certain) : undefined;
    }
    if (going.length === 0 || this.flights.length > 0) return undefined;
    return { forwards: this.readOn(going, lengths), ahead: false, certain: false };
  }

  /** Whether the device can tell how much of a draft is right, and go on. */
  private get draftsOnDevice(): boolean {
    return !this.drafts && this.options.shape.isChain && this.options.verify === "exact";
  }

  /** Whether a step without drafts is the exception: behind a prompt of one token heads have nothing to go on from. */
  private get draftsSoon(): boolean {
    return !this.options.adaptive && this.options.shape.size > 0;
  }

  /** Steps that the host does not wait for, several where that is a matter of little time. */
  private goOn(going: readonly Sequence[], lengths: readonly number[], certain: boolean): Flight | undefined {
    const layout = this.layoutOf(going, lengths);
    const drafts = layout.asking.length > 0;
    const triesIn = this.choice?.tries === true ? this.expected(going, layout) : undefined;
    if (!this.session.follows(layout)) {
      if (!certain) return undefined;
      this.session.settle(
        layout,
        going.map((sequence) => this.standing(sequence)),
      );
    }
    const single = !drafts && this.draftsSoon;
    const most = single ? 1 : Math.min(this.pace.forwards, (drafts && this.choice?.left) || Infinity);
    let turns = 0;
    do {
      for (const [i, sequence] of going.entries()) sequence.goOn(1 + (lengths[i] ?? 0));
      turns++;
    } while (turns < most && going.every(({ canGoAhead }) => canGoAhead));
    if (this.choice) this.choice.left -= turns;
    for (const [i, sequence] of going.entries()) {
      this.places.set(sequence, lastPlace(sequence.slot));
      if (!drafts) this.active.get(sequence)?.passed(turns);
      this.active.get(sequence)?.drafts(lengths[i] ?? 0);
    }
    const parts = going.map((sequence, i) => {
      const rows = 1 + (lengths[i] ?? 0);
      return { sequence, rows, drawn: rows };
    });
    const forwards = this.session
      .goOn(layout, turns)
      .then((verdicts) => verdicts.map((verdict) => ({ parts, verdict, layout })));
    return { forwards, ahead: true, certain: !drafts, triesIn };
  }

  /** Milliseconds of a step, with what heads have to read before. */
  private expected(going: readonly Sequence[], { rows, longest, asking }: SteadyLayout): number | undefined {
    if (!this.costs) return undefined;
    const asks = new Set(asking.map(({ slot }) => slot));
    const unread = going.reduce((sum, each) => sum + (asks.has(each.slot) ? this.unread(each, longest) : 0), 0);
    return this.costs.drafted(rows, longest, 1) + this.costs.reading(unread);
  }

  /** Positions that heads 2 to k have still to read of a sequence. */
  private unread({ slot, lastPosition }: Sequence, k: number): number {
    return this.drafts ? 0 : this.session.unread(slot, lastPosition, k);
  }

  /** The same object as long as the same sequences draft the same lengths. */
  private layoutOf(going: readonly Sequence[], lengths: readonly number[]): SteadyLayout {
    const texts = going.map(({ slot, draw }, i) => ({ slot, rows: 1 + (lengths[i] ?? 0), draw }));
    const last = this.layout;
    const same =
      last?.going.length === going.length &&
      texts.every(({ rows, draw }, i) => {
        const text = last.layout.texts[i];
        return last.going[i] === going[i] && text?.rows === rows && text.draw.position === draw.position;
      });
    if (last && same) return last.layout;
    const layout = new SteadyLayout(texts);
    this.layout = { layout, going };
    return layout;
  }

  private standing(sequence: Sequence): { readonly position: number; readonly token: number } {
    const token = sequence.lastToken ?? this.places.get(sequence) ?? drawnPlace(0);
    return { position: sequence.nextPosition, token };
  }

  /** Where nobody drafts, but prompts have to be read: one forward. */
  private async readAhead(going: readonly Sequence[]): Promise<Forward[]> {
    const share = this.promptShare(going);
    const asked = going.map((sequence) => {
      const next = (): Reading => sequence.readNext(this.standing(sequence).token);
      return { sequence, reading: sequence.decoding ? next() : sequence.readPrompt(share) };
    });
    let draw = 0;
    for (const { sequence, reading } of asked) {
      this.active.get(sequence)?.passed(1);
      this.places.set(sequence, drawnPlace(draw));
      draw += reading.drawn;
    }
    return [await this.read(asked)];
  }

  private async readOn(going: readonly Sequence[], lengths: readonly number[] | undefined): Promise<Forward[]> {
    this.costs ??= await this.measureSteps(going);
    const drafts = await this.readDrafts(going, lengths ?? this.chooseLengths(going) ?? []);
    return [await this.read([...this.readPrompts(going), ...drafts.asked], drafts)];
  }

  private async read(all: readonly Asked[], drafts?: Drafted): Promise<Forward> {
    const rows = all.flatMap(({ reading }) => reading.rows);
    const draws = all.flatMap(({ reading }) => reading.draws);
    const parts = all.map(({ sequence, reading, asked }) => {
      return { sequence, rows: reading.rows.length, drawn: reading.drawn, asked };
    });
    const [verdict, logits] = await Promise.all([
      this.session.verify(rows, draws, this.options.verify !== "exact"),
      drafts?.logits,
    ]);
    return { parts, verdict, proposers: drafts && logits && { values: logits, requests: drafts.requests } };
  }

  private land({ parts, verdict, proposers, layout }: Forward): ReadonlyMap<Sequence, DecodeStep> {
    const steps = new Map<Sequence, DecodeStep>();
    const positions = layout && parts.map(({ sequence }) => (this.goesOn(sequence) ? sequence.lastPosition : -1));
    let most = 0;
    let row = 0;
    let draw = 0;
    for (const part of parts) {
      const { sequence, drawn } = part;
      const rowsEnd = row + part.rows;
      if (drawn > 0 && this.goesOn(sequence)) {
        const draft = { length: drawn - 1, row: rowsEnd - drawn, draw };
        const judged = this.judge(part, draft, verdict, proposers);
        steps.set(sequence, this.accept(sequence, judged, draft.length));
        most = Math.max(most, judged.path.length);
      }
      row = rowsEnd;
      draw += drawn;
    }
    if (layout && positions) this.session.landed(layout, positions, most);
    return steps;
  }

  private goesOn(sequence: Sequence): boolean {
    return this.active.has(sequence) && sequence.finished === undefined;
  }

  private judge(
    { sequence, asked }: Part,
    at: DraftRead,
    verdict: Verdict,
    proposers: ProposerLogits | undefined,
  ): Judged {
    const { verify, shape } = this.options;
    const { logits } = verdict;
    // Without a draft the kernel's draw stands: on the device the next forward may have read it already.
    if (verify === "exact" || sequence.settings.temperature === 0 || !logits || at.length === 0) {
      return judgeExactly(shape, verdict, at);
    }
    const draft = verdict.read.subarray(at.row + 1, at.row + 1 + at.length);
    const { vocabSize } = this.model.config;
    const place = (values: Float32Array, row: number, ahead: number): Place => {
      return { logits: values.subarray(row * vocabSize, (row + 1) * vocabSize), draw: sequence.drawAhead(ahead) };
    };
    const places = Array.from({ length: draft.length + 1 }, (_, i) => place(logits, at.draw + i, i + 1));
    if (verify === "typical") return judgeByTypicality(draft, places);
    if (!proposers || asked === undefined) return judgeByRejection(draft, places, undefined);
    const { values, requests } = proposers;
    return judgeByRejection(
      draft,
      places,
      Array.from(draft, (_, i) => place(values, i * requests + asked, i + 1)),
    );
  }

  private accept(sequence: Sequence, judged: Judged, proposed: number): DecodeStep {
    const { slot, lastPosition } = sequence;
    const { path } = judged;
    const step = sequence.accept(judged, proposed, (i) => (this.drafts ? 0 : i + 2));
    if (proposed > 0) this.active.get(sequence)?.observe(proposed, path);
    const { shape } = this.options;
    if (!shape.isChain) {
      const moves = path.map((node, i) => {
        const offset = shape.nodes[node]?.offset ?? 0;
        return { sequence: slot, from: lastPosition + offset, to: lastPosition + 1 + i };
      });
      this.session.move(moves.filter(({ from, to }) => from !== to));
    }
    if (!sequence.decoding) this.forget(sequence.slot); // a new window
    return step;
  }

  private forget(slot: number): void {
    this.session.release(slot);
    this.drafts?.release(slot);
  }

  /** Prompts share the step's rows evenly, so that a long one does not hold up the others. */
  private readPrompts(going: readonly Sequence[]): Asked[] {
    const share = this.promptShare(going);
    return going
      .filter(({ decoding }) => !decoding)
      .map((sequence) => ({ sequence, reading: sequence.readPrompt(share) }));
  }

  private promptShare(going: readonly Sequence[]): number {
    const prompts = going.filter(({ decoding }) => !decoding).length;
    return Math.max(1, Math.floor(this.options.promptChunk / Math.max(prompts, 1)));
  }

  /** Of a text that is about to get its second token or a later one. */
  private async measureSteps(going: readonly Sequence[]): Promise<StepCosts | undefined> {
    const sequence = going.find(({ decoding, lastPosition }) => decoding && lastPosition > 0);
    if (!this.options.adaptive || !sequence) return undefined;
    const { slot, lastPosition: position, lastToken: token = 0, room } = sequence;
    return stepCosts(this.session, { ...this.whatToMeasure, at: { sequence: slot, position, token, room } });
  }

  /** lengths: of the drafts of those that decode, in order. */
  private async readDrafts(going: readonly Sequence[], lengths: readonly number[]): Promise<Drafted> {
    const decoding = going.filter((sequence) => sequence.decoding);
    const asking = decoding
      .map((sequence, i) => ({ sequence, count: lengths[i] ?? 0 }))
      .filter(({ count }) => count > 0);
    for (const { sequence, count } of asking) this.active.get(sequence)?.drafts(count);
    const logits = this.drafts ? undefined : this.askHeads(asking);
    const { shape } = this.options;
    const proposed = this.drafts
      ? await this.ask(this.drafts, asking)
      : asking.map((_, i) => headsPlaces(asking, i, shape));
    const parts = decoding.map((sequence): Asked => {
      const asked = asking.findIndex((each) => each.sequence === sequence);
      return {
        sequence,
        reading: sequence.readDraft(shape, proposed[asked] ?? []),
        asked: asked < 0 ? undefined : asked,
      };
    });
    return { asked: parts, requests: asking.length, logits };
  }

  private get whatToMeasure(): Omit<Measured, "at"> {
    const { slots, shape } = this.options;
    return { slots, shape, heads: !this.drafts, waits: !this.draftsOnDevice };
  }

  /** As chosen before, for a while: choosing takes its time. */
  private lengthsOf(going: readonly Sequence[]): readonly number[] | undefined {
    const last = this.choice;
    const same = last !== undefined && sameElements(last.going, going) && going.every(({ decoding }) => decoding);
    if (same && last.left > 0) return last.lengths;
    const lengths = this.chooseLengths(going);
    this.choice = undefined;
    if (lengths && this.costs && this.draftsOnDevice && going.every(({ decoding }) => decoding)) {
      const tries = going.some((sequence, i) => (lengths[i] ?? 0) > (this.active.get(sequence)?.paid ?? Infinity));
      const lasting = same && sameElements(last.lengths, lengths);
      const { forwards } = this.pace;
      const steps = tries ? 1 : lasting ? Math.min(2 * last.steps, inTurn * forwards, mostPatience) : forwards;
      this.choice = { going, lengths, tries, steps, left: steps };
    }
    return lengths;
  }

  /** Of each sequence that decodes, how many nodes its next draft has; undefined: steps have to be measured first. */
  private chooseLengths(going: readonly Sequence[]): readonly number[] | undefined {
    const { shape, adaptive } = this.options;
    const decoding = going.filter((sequence) => sequence.decoding);
    // Heads go on from the token before the last: they have nothing to say about a text's second token.
    const most = (room: number): number => (this.drafts ? shape.sizeWithin(room - 1) : shape.size);
    const limits = decoding.map(({ room, lastPosition }) => (lastPosition > 0 ? most(room) : 0));
    if (!adaptive || limits.every((limit) => limit === 0)) return limits;
    this.costs ??= knownCosts(this.session, this.whatToMeasure);
    // The first token of a text comes before anything is measured.
    if (!this.costs) return decoding.some(({ added }) => added === 0) ? decoding.map(() => 0) : undefined;
    const drafting = decoding.map((sequence, i) => ({
      acceptance: this.active.get(sequence) ?? new Acceptance(shape),
      limit: limits[i] ?? 0,
      room: sequence.room,
      unread: (k: number) => this.unread(sequence, k),
    }));
    return chooseLengths(drafting, shape, this.costs);
  }

  private async ask(drafts: DraftSession, asking: readonly Asking[]): Promise<(readonly number[])[]> {
    const requests = asking.map(({ sequence, count }) => {
      return { slot: sequence.slot, tokens: sequence.window, count, draw: sequence.drawAhead(1) };
    });
    const proposed = requests.length > 0 ? await drafts.propose(requests) : [];
    return asking.map(({ count }, i) => (proposed[i] ?? []).slice(0, count));
  }

  /** Heads 2 and up propose on the device; which tokens is known when the step that reads them is done. */
  private askHeads(asking: readonly Asking[]): Promise<Float32Array> | undefined {
    if (asking.length === 0) return undefined;
    const k = 1 + this.options.shape.depthOf(Math.max(...asking.map(({ count }) => count)));
    const requests = asking.map(({ sequence }) => ({
      sequence: sequence.slot,
      to: sequence.lastPosition - 1,
      draws: Array.from({ length: k - 1 }, (_, i) => sequence.drawAhead(i + 1)),
    }));
    return this.session.propose(requests, k, this.options.verify === "rejection");
  }
}

/** How many forwards are started at once where none has to wait for another: as many as arrive every few milliseconds. */
class Pace {
  private msPerForward = Infinity;
  private last: number | undefined;

  landed(forwards: number): number {
    const now = performance.now();
    const ms = (now - (this.last ?? -Infinity)) / forwards;
    this.last = now;
    this.msPerForward = Math.min(ms, Number.isFinite(this.msPerForward) ? (7 * this.msPerForward + ms) / 8 : ms);
    return ms;
  }

  get forwards(): number {
    return Math.max(1, Math.min(inTurn, Math.floor(msAtOnce / this.msPerForward)));
  }
}

const msAtOnce = 2;

/** Steps that a choice may stand for. */
const mostPatience = 16;

const sameElements = <T>(some: readonly T[], others: readonly T[]): boolean =>
  some.length === others.length && some.every((each, i) => each === others[i]);

/** Whether a step added a text's first token. */
function someBegin(steps: ReadonlyMap<Sequence, DecodeStep>): boolean {
  for (const [{ added }, { tokens }] of steps) if (added === tokens.length) return true;
  return false;
}

/** Where rows find what the heads proposed for the i-th that asked. */
function headsPlaces(asking: readonly Asking[], i: number, { nodes, candidates }: DraftShape): number[] {
  const wanted = nodes.slice(0, asking[i]?.count ?? 0);
  return wanted.map(({ depth, rank }) => -1 - (((depth - 1) * asking.length + i) * candidates + rank));
}
