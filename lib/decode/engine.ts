// Decoding steps of one or many sequences: propose, read, keep what head 1 agrees with (arXiv 1811.03115).
import { performance } from "node:perf_hooks";
import type { LanguageModel } from "../mtp/model.js";
import { judgeByRejection, judgeByTypicality, judgeExactly, type Judged, type Place } from "./acceptance.js";
import { Acceptance, chooseLengths, experienceOf } from "./adaptive.js";
import { stepCosts, type ObservedCosts } from "./costs.js";
import type { DraftPredictor, DraftSession } from "./drafts.js";
import type { GenerateSettings, Verification } from "./options.js";
import type { Draw } from "./inputs.js";
import { DecodeSession, drawnPlace, inTurn, type Verdict } from "./session.js";
import { Sequence, type DecodeStep, type Reading } from "./sequence.js";
import type { DraftShape } from "./tree.js";

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
  readonly reading: Reading;
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
  readonly proposers: ProposerLogits | undefined;
}

interface Drafted {
  readonly parts: readonly Part[];
  /** Sequences that asked the heads. */
  readonly requests: number;
  readonly logits: Promise<Float32Array> | undefined;
}

interface Flight {
  readonly forwards: Promise<Forward[]>;
  /** Whether nobody drafts, so that others may follow before it has landed. */
  readonly ahead: boolean;
  /** Steps that had been recorded before it. */
  readonly recordings: number;
}

interface Asking {
  readonly sequence: Sequence;
  /** Nodes of the shape that it wants proposed. */
  readonly count: number;
}

export class DecodeEngine {
  private readonly session: DecodeSession;
  private readonly drafts: DraftSession | undefined;
  private readonly active = new Map<Sequence, Acceptance>();
  private readonly free: number[];
  private costs: ObservedCosts | undefined;
  /** Forwards under way, the oldest first, by those whose results arrive together. */
  private readonly flights: Flight[] = [];
  /** What landed last. */
  private before: Flight | undefined;
  /** Forwards that have arrived and were not passed on yet. */
  private readonly landed: Forward[] = [];
  private readonly pace = new Pace();
  /** Whether the last forward that was started has drafts. */
  private drafting = false;
  /** Where nobody drafts: which of the last forward's draws was a sequence's. */
  private readonly drawPlaces = new Map<Sequence, number>();

  constructor(
    private readonly model: LanguageModel,
    private readonly options: EngineOptions,
  ) {
    const { slots, capacity, shape, draft, promptChunk } = options;
    this.free = Array.from({ length: slots }, (_, i) => i);
    this.session = new DecodeSession(model, slots, capacity + shape.placesBehind, {
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
    const { shape } = this.options;
    this.active.set(sequence, new Acceptance(shape, experienceOf(this.model, shape)));
    return sequence;
  }

  /** Ends a sequence, done or not; its slot goes to the next. */
  release(sequence: Sequence): void {
    if (!this.active.delete(sequence)) return;
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
      if (!flight) return new Map();
      this.landed.push(...(await flight.forwards));
      this.observe(flight);
    }
    const forward = this.landed.shift();
    const steps = forward ? this.land(forward) : new Map<Sequence, DecodeStep>();
    // A text's first token does not wait until its first draft is on its way: heads get ready for that.
    const begins = [...steps].some(([{ added }, { tokens }]) => added === tokens.length);
    if (this.landed.length === 0 && !(begins && this.options.shape.size > 0)) this.takeOff();
    return steps;
  }

  /** Waits for what is under way, and gives everything back. */
  async close(): Promise<void> {
    await Promise.allSettled(this.flights.map(({ forwards }) => forwards));
    this.drafts?.dispose();
    this.session.dispose();
  }

  /**
   * Starts what can be started. Where nobody drafts, a forward's tokens go to the next on the device, and two are under
   * way; a draft's fate has to be known before the forward after it.
   */
  private takeOff(): void {
    while (this.flights.length < 2 && !(this.drafting && this.flights.length > 0)) {
      const going = [...this.active.keys()].filter(({ finished }) => finished === undefined);
      const lengths = this.chooseLengths(going);
      const ahead = lengths?.every((length) => length === 0) ?? false;
      const ready = ahead ? going.filter(({ canGoAhead }) => canGoAhead) : going;
      if (ready.length === 0 || (!ahead && this.flights.length > 0)) return;
      const { recordings } = this.session;
      const forwards = ahead ? this.readAhead(ready) : this.readOn(going, lengths);
      forwards.catch(() => undefined); // it is thrown where it is awaited
      this.flights.push({ forwards, ahead, recordings });
      this.drafting = !ahead;
    }
  }

  /** How long forwards take that follow each other closely, for those who choose what comes next. */
  private observe(flight: Flight): void {
    const { landed, costs, before, session } = this;
    const ms = this.pace.landed(landed.length);
    this.before = flight;
    const readings = landed[0]?.parts.map(({ reading }) => reading) ?? [];
    const follows = flight.ahead && before?.ahead === true && before.recordings === session.recordings;
    if (follows && readings.every(({ rows }) => rows.length === 1)) costs?.sawPlain(readings.length, ms);
  }

  /** One forward, or several in turn where each sequence only reads the token that it drew last. */
  private async readAhead(going: readonly Sequence[]): Promise<Forward[]> {
    const most = going.every(({ drawsNext }) => drawsNext) ? this.pace.forwards : 1;
    const turns = [this.partsAhead(going)];
    while (turns.length < most && going.every(({ canGoAhead }) => canGoAhead)) turns.push(this.partsAhead(going));
    for (const sequence of going) this.active.get(sequence)?.passed(turns.length);
    const [only] = turns;
    if (turns.length === 1 && only) return [await this.read(only)];
    const verdicts = await this.session.verifyInTurn(
      turns.map((parts) => ({
        rows: parts.flatMap(({ reading }) => reading.rows),
        draws: parts.flatMap(({ reading }) => reading.draws) as Draw[],
      })),
    );
    return turns.map((parts, i) => ({ parts, verdict: verdicts[i] as Verdict, proposers: undefined }));
  }

  private partsAhead(going: readonly Sequence[]): Part[] {
    const share = this.promptShare(going);
    const parts = going.map((sequence) => {
      return { sequence, reading: sequence.readAhead(share, drawnPlace(this.drawPlaces.get(sequence) ?? 0)) };
    });
    this.drawPlaces.clear();
    let draw = 0;
    for (const { sequence, reading } of parts) {
      this.drawPlaces.set(sequence, draw);
      draw += reading.drawn;
    }
    return parts;
  }

  private async readOn(going: readonly Sequence[], lengths: readonly number[] | undefined): Promise<Forward[]> {
    this.costs ??= await this.measureSteps(going);
    const drafts = await this.readDrafts(going, lengths ?? this.chooseLengths(going) ?? []);
    return [await this.read([...this.readPrompts(going), ...drafts.parts], drafts)];
  }

  private async read(parts: readonly Part[], drafts?: Drafted): Promise<Forward> {
    const rows = parts.flatMap(({ reading }) => reading.rows);
    const draws = parts.flatMap(({ reading }) => reading.draws);
    const [verdict, logits] = await Promise.all([
      this.session.verify(rows, draws, this.options.verify !== "exact"),
      drafts?.logits,
    ]);
    return { parts, verdict, proposers: drafts && logits && { values: logits, requests: drafts.requests } };
  }

  private land({ parts, verdict, proposers }: Forward): ReadonlyMap<Sequence, DecodeStep> {
    const steps = new Map<Sequence, DecodeStep>();
    let row = 0;
    let draw = 0;
    for (const part of parts) {
      const { sequence, reading } = part;
      const rowsEnd = row + reading.rows.length;
      if (reading.drawn > 0 && sequence.finished === undefined) {
        const draft = verdict.read.subarray(rowsEnd - reading.drawn + 1, rowsEnd);
        const judged = this.judge(part, draft, verdict, draw, proposers);
        steps.set(sequence, this.accept(sequence, judged, draft.length));
      }
      row = rowsEnd;
      draw += reading.drawn;
    }
    return steps;
  }

  /** draw: the first of the part's in the verdict. */
  private judge(
    { sequence, asked }: Part,
    draft: Int32Array,
    { drawn, logProbabilities, logits }: Verdict,
    draw: number,
    proposers: ProposerLogits | undefined,
  ): Judged {
    const { verify, shape } = this.options;
    const end = draw + draft.length + 1;
    // Without a draft the kernel's draw stands: on the device the next forward may have read it already.
    if (verify === "exact" || sequence.settings.temperature === 0 || !logits || draft.length === 0) {
      return judgeExactly(shape, draft, drawn.subarray(draw, end), logProbabilities.subarray(draw, end));
    }
    const { vocabSize } = this.model.config;
    const place = (values: Float32Array, row: number, ahead: number): Place => {
      return { logits: values.subarray(row * vocabSize, (row + 1) * vocabSize), draw: sequence.drawAhead(ahead) };
    };
    const places = Array.from({ length: draft.length + 1 }, (_, i) => place(logits, draw + i, i + 1));
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
    const moves = path.map((node, i) => {
      const offset = this.options.shape.nodes[node]?.offset ?? 0;
      return { sequence: slot, from: lastPosition + offset, to: lastPosition + 1 + i };
    });
    this.session.move(moves.filter(({ from, to }) => from !== to));
    if (!sequence.decoding) this.forget(sequence.slot); // a new window
    return step;
  }

  private forget(slot: number): void {
    this.session.release(slot);
    this.drafts?.release(slot);
  }

  /** Prompts share the step's rows evenly, so that a long one does not hold up the others. */
  private readPrompts(going: readonly Sequence[]): Part[] {
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
  private async measureSteps(going: readonly Sequence[]): Promise<ObservedCosts | undefined> {
    const sequence = going.find(({ decoding, lastPosition }) => decoding && lastPosition > 0);
    if (!this.options.adaptive || !sequence) return undefined;
    const { slots, shape } = this.options;
    const at = { sequence: sequence.slot, position: sequence.lastPosition };
    return stepCosts(this.session, { slots, shape, heads: !this.drafts, at });
  }

  /** lengths: of the drafts of those that decode, in order. */
  private async readDrafts(going: readonly Sequence[], lengths: readonly number[]): Promise<Drafted> {
    const decoding = going.filter((sequence) => sequence.decoding);
    const asking = decoding
      .map((sequence, i) => ({ sequence, count: lengths[i] ?? 0 }))
      .filter(({ count }) => count > 0);
    const logits = this.drafts ? undefined : this.askHeads(asking);
    const { shape } = this.options;
    const proposed = this.drafts
      ? await this.ask(this.drafts, asking)
      : asking.map((_, i) => headsPlaces(asking, i, shape));
    const parts = decoding.map((sequence) => {
      const asked = asking.findIndex((each) => each.sequence === sequence);
      return {
        sequence,
        reading: sequence.readDraft(shape, proposed[asked] ?? []),
        asked: asked < 0 ? undefined : asked,
      };
    });
    return { parts, requests: asking.length, logits };
  }

  /** Of each sequence that decodes, how many nodes its next draft has; undefined: steps have to be measured first. */
  private chooseLengths(going: readonly Sequence[]): readonly number[] | undefined {
    const { shape, adaptive } = this.options;
    const decoding = going.filter((sequence) => sequence.decoding);
    // Heads go on from the token before the last: they have nothing to say about a text's second token.
    const limits = decoding.map(({ room, lastPosition }) => (lastPosition > 0 ? shape.sizeWithin(room - 1) : 0));
    if (!adaptive || limits.every((limit) => limit === 0)) return limits;
    // The first token of a text comes before anything is measured.
    if (decoding.some(({ added }) => added === 0)) return decoding.map(() => 0);
    if (!this.costs) return undefined;
    const drafting = decoding.map((sequence, i) => ({
      acceptance: this.active.get(sequence) ?? new Acceptance(shape),
      limit: limits[i] ?? 0,
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

  /** Milliseconds for each of these, since the ones before. */
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

/** Where rows find what the heads proposed for the i-th that asked. */
function headsPlaces(asking: readonly Asking[], i: number, { nodes, candidates }: DraftShape): number[] {
  const wanted = nodes.slice(0, asking[i]?.count ?? 0);
  return wanted.map(({ depth, rank }) => -1 - (((depth - 1) * asking.length + i) * candidates + rank));
}
