// A model's memory while it generates, and the two things done with it: reading tokens for head 1's verdict on them, and
// proposing tokens with heads 2 to k.
import type { LanguageModel, PredictionHead } from "../mtp/model.js";
import type { StepRows, TrunkCache } from "../nn/module.js";
import { copyInto, gatherRows } from "../ops/elementwise.js";
import { linear, packWeight } from "../ops/linear.js";
import { sample } from "../ops/sample.js";
import { owning, scope } from "../scope.js";
import { valueOf } from "../tape.js";
import { empty, zeros, type Tensor } from "../tensor.js";
import { type Draw, type Row, runsOf, StepInputs } from "./inputs.js";
import { type Move, MoveInputs } from "./moves.js";
import { RecordedSteps, roundUp, type Step } from "./steps.js";
import { SteadySteps, type Forwards, type SteadyLayout } from "./steady.js";
import { verdictOf, type Verdict } from "./verdict.js";
import { wire, type PastRows, type Wiring } from "./wiring.js";

export type { Draw, Row } from "./inputs.js";

export interface SessionOptions {
  /** Whether `propose` will be called. Default false. */
  readonly drafts?: boolean | undefined;
  /** Rows that `verify` is given at most. Default 64. */
  readonly rowsAtOnce?: number | undefined;
  /** Tokens that each head names when it proposes, its likeliest first. Default 1. */
  readonly candidates?: number | undefined;
  /** Requests that `propose` is given at most. Default: as many as slots. */
  readonly requestsAtOnce?: number | undefined;
  /** How many of a row's last tokens may lie elsewhere than at their positions. Default 0. */
  readonly reach?: number | undefined;
}

/** What one sequence asks of heads 2 to k: to go on from position `to`, the last of its text that was read. */
export interface ProposalRequest {
  readonly sequence: number;
  readonly to: number;
  /** k − 1 draws, head 2's first. */
  readonly draws: readonly Draw[];
}

export interface Expansions {
  /** The tokens read, (R). */
  readonly read: Int32Array;
  /** The likeliest tokens after each row, (R, count); −1 where the logits were not numbers. */
  readonly likeliest: Int32Array;
  /** Natural logs of their probabilities, (R, count). */
  readonly logProbabilities: Float32Array;
}

/** Longer steps are not recorded: prompts, whose ops run long enough to hide the enqueueing of the next. */
const recordedRows = 64;
/** Past positions that heads read at once when they catch up. */
const catchUpRows = 256;

/**
 * Reads tokens and gives head 1's logits. A position's logits depend on its own prefix alone, bit for bit: not on how
 * many rows are read together, nor on what other sequences do, nor on what was read at later positions before.
 */
export class DecodeSession {
  private readonly trunk: TrunkCache;
  private readonly wiring: Wiring;
  private readonly unembeddings = new Map<Tensor, Tensor>();
  /**
   * Tokens that rows read: each slot's last, `rowsAtOnce` from the host, as many that `verify` drew last, then the last
   * proposal's. (…, 1) i32
   */
  private readonly pool: Tensor;
  private readonly poolParts: { readonly host: number; readonly drawn: number; readonly proposed: number };
  private readonly rowsAtOnce: number;
  private readonly hostTokens: Int32Array;
  private readonly candidates: number;
  private readonly reach: number;
  private readonly steps: RecordedSteps;
  private readonly steady: SteadySteps;
  /** Of each slot: how many positions heads 2 to n have read. */
  private readonly positionsRead: number[][];

  /** slots: sequences held at once; capacity: positions each can hold. */
  constructor(
    readonly model: LanguageModel,
    slots: number,
    readonly capacity: number,
    options: SessionOptions = {},
  ) {
    const { device, heads } = model;
    const { drafts = false, rowsAtOnce = recordedRows, requestsAtOnce = slots, candidates = 1, reach = 0 } = options;
    this.rowsAtOnce = rowsAtOnce;
    this.candidates = candidates;
    this.steps = new RecordedSteps(device);
    this.reach = reach;
    this.hostTokens = new Int32Array(rowsAtOnce);
    this.positionsRead = Array.from({ length: slots }, () => heads.slice(1).map(() => 0));
    this.poolParts = { host: slots, drawn: slots + rowsAtOnce, proposed: slots + 2 * rowsAtOnce };
    const made = owning(() => {
      const trunk = model.trunk.newCache(slots, capacity);
      const wiring = wire(model, slots, capacity, drafts);
      const places = this.poolParts.proposed + requestsAtOnce * heads.length * candidates;
      const pool = zeros([places, 1], { dtype: "i32", device, tag: "cache" });
      return { trunk, wiring, pool, steady: new SteadySteps(this.forwards(wiring, pool), this.steps, slots) };
    });
    this.trunk = made.trunk;
    this.wiring = made.wiring;
    this.pool = made.pool;
    this.steady = made.steady;
  }

  /** Forgets the slot's sequence: the next one starts at position 0. */
  release(slot: number): void {
    this.positionsRead[slot]?.fill(0);
  }

  /** Reads the rows, in order of position within a sequence; returns the logits (M, V) of the rows at `wanted`. */
  read(rows: readonly Row[], wanted: readonly number[]): Tensor {
    this.packUnembeddings(1);
    return scope(() => {
      const inputs = new StepInputs(this.model.device, rows.length, wanted.length, 0);
      inputs.write(rows, { tokens: rows.map(({ token }) => token), wanted, draws: [], capacity: this.capacity });
      const logits = this.headOneLogits(inputs.token, inputs.rows(runsOf(rows)), inputs.wanted);
      inputs.dispose();
      return logits;
    });
  }

  /** Reads the rows, as `read`, and draws a token after each of those that have a draw. */
  async verify(rows: readonly Row[], draws: readonly (Draw | undefined)[], withLogits = false): Promise<Verdict> {
    this.packUnembeddings(1);
    this.steady.interrupt();
    if (isSteady(rows, draws)) {
      const step = this.replay(rows, draws, withLogits);
      return readVerdict(step.outputs, step.rows);
    }
    const wanted = [...draws.keys()].filter((i) => draws[i] !== undefined);
    const inputs = new StepInputs(this.model.device, rows.length, wanted.length, wanted.length, this.reachOf(rows));
    let outputs: readonly Tensor[] = [];
    try {
      const given = draws.filter((draw) => draw !== undefined);
      inputs.write(rows, { tokens: this.sources(rows), wanted, draws: given, capacity: this.capacity });
      const runs = runsOf(rows);
      const { device } = this.model;
      outputs = owning(() =>
        scope(() => {
          const results = empty([rows.length + 2 * wanted.length], { dtype: "i32", device });
          const logits = this.verdict(inputs, runs, true, results);
          return withLogits ? [results, logits] : [results];
        }),
      );
      return await readVerdict(outputs, rows.length);
    } finally {
      for (const each of [inputs, ...outputs]) each.dispose();
    }
  }

  // ---- steps without the host ---------------------------------------------------------------------------------------

  /** Whether `goOn` can be called; else where the texts stand has to be told first. */
  follows(layout: SteadyLayout): boolean {
    return this.steady.follows(layout);
  }

  /**
   * Says where the layout's texts stand: of each the position of its last token and the token, or where it is, as in `Row`.
   * Only enqueues.
   */
  settle(layout: SteadyLayout, at: readonly { readonly position: number; readonly token: number }[]): void {
    if (layout.asking.length > 0) this.wiring.prepare(layout.longest);
    const known: number[] = [];
    const standing = layout.texts.map(({ slot, rows }, i) => {
      const { position = 0, token = 0 } = at[i] ?? {};
      const to = position - 1;
      const kept = rows > 1 ? to - this.catchUp(slot, to, layout.longest, layout.longest) : 0;
      if (token >= 0) known.push(token);
      return { slot, position, kept, place: token >= 0 ? this.poolParts.host + known.length - 1 : this.placeOf(token) };
    });
    if (known.length > 0) this.pool.write(known, this.poolParts.host);
    this.steady.settle(standing);
  }

  /** The next steps have to be settled first. */
  interrupt(): void {
    this.steady.interrupt();
  }

  /** `count` steps with the layout; what came of each. */
  goOn(layout: SteadyLayout, count: number): Promise<Verdict[]> {
    this.packUnembeddings(layout.longest);
    this.steady.step(layout, count);
    return this.steady.results(layout, count);
  }

  /**
   * For measuring: `count` steps of `goOn`, as if the layout's texts stood at `position` and heads 2 and up had
   * kept + 1 positions to read. What stands from there on is undefined then.
   */
  rehearse(
    layout: SteadyLayout,
    { position, kept }: { readonly position: number; readonly kept: number },
    count: number,
  ): Promise<unknown> {
    this.packUnembeddings(layout.longest);
    if (layout.asking.length > 0) this.wiring.prepare(layout.longest);
    const texts = layout.texts.map(({ slot }) => ({ slot, position, kept, place: slot }));
    this.steady.rehearse(layout, texts, count);
    return this.steady.results(layout, count);
  }

  /** A step of `goOn` is known: where each of its texts stood, −1 for one that has ended, and the most that was kept. */
  landed(layout: SteadyLayout, positions: readonly number[], most: number): void {
    this.steady.kept(layout, most);
    for (const [i, { slot, rows }] of layout.texts.entries()) {
      const position = positions[i] ?? -1;
      if (rows > 1 && position >= 0) this.positionsRead[slot]?.fill(position, 0, layout.longest - 1);
    }
  }

  /** Reads the rows, each a step away from what it follows, and names the `count` likeliest tokens after each. */
  async expand(rows: readonly Row[], count: number): Promise<Expansions> {
    this.packUnembeddings(1);
    const { device } = this.model;
    const step = this.steps.take(`expand ${count}`, rows.length, {
      inputs: (R) => new StepInputs(device, R, 0, R, this.reach),
      run: (inputs, R) => {
        const results = empty([R + 2 * R * count], { dtype: "i32", device });
        const token = gatherRows(this.pool, inputs.token);
        const logits = this.headOneLogits(token, inputs.rows(Array<number>(R).fill(1)), undefined);
        const drawn = sample(logits, inputs.drawSettings, inputs.counters, count);
        copyInto(results.view([R]), token.view([R]));
        copyInto(results.view([R, count], R), drawn.token);
        copyInto(results.view([R, count], R + R * count), drawn.logProbability.viewAs("i32", [R, count]));
        return [results];
      },
    });
    step.inputs.write(rows, { tokens: this.sources(rows), wanted: [], draws: [], capacity: this.capacity });
    step.recording.replay();
    const R = step.rows;
    const values = (await step.outputs[0]?.data()) as Int32Array;
    const logProbabilities = new Float32Array(values.buffer, values.byteOffset + 4 * (R + R * count), R * count);
    return { read: values.subarray(0, R), likeliest: values.subarray(R, R + R * count), logProbabilities };
  }

  /** Puts what is remembered of some places, by head 1 and what it goes on from, elsewhere. Only enqueues. */
  move(moves: readonly Move[]): void {
    if (moves.length === 0) return;
    const { device, config } = this.model;
    const step = this.steps.take("move", moves.length, {
      inputs: (count) => new MoveInputs(device, count, config.numKeyValueHeads, this.capacity),
      run: (inputs) => {
        this.trunk.move?.(inputs.moves);
        this.wiring.move(inputs.moves);
        return [];
      },
    });
    step.inputs.write(moves);
    step.recording.replay();
  }

  /**
   * Draws tokens with heads 2 to k, for the next `verify` to read: of L requests and C candidates, the r-th one's c-th from
   * head i is row token −1 − (((i − 2)·L + r)·C + c). Only enqueues. Where asked for, the logits that they are drawn from,
   * ((k − 1)·L, V).
   */
  propose(requests: readonly ProposalRequest[], k: number, withLogits = false): Promise<Float32Array> | undefined {
    this.packUnembeddings(k);
    this.wiring.prepare(k);
    this.steady.interrupt();
    const rows: Row[] = [];
    const last: number[] = [];
    for (const { sequence, to } of requests) {
      for (let position = this.catchUp(sequence, to, k); position <= to; position++) {
        rows.push({ token: 0, sequence, position });
      }
      last.push(rows.length - 1);
    }
    const draws = Array.from({ length: k - 1 }, (_, i) => requests.map((request) => request.draws[i]));
    return this.proposeAfter(rows, last, draws.flat() as Draw[], k, withLogits);
  }

  /**
   * As `propose`, after the rows at `last` (L), where heads 2 to k have read everything before the rows. draws: (k − 1)·L,
   * head 2's first.
   */
  proposeAfter(
    rows: readonly Row[],
    last: readonly number[],
    draws: readonly Draw[],
    k: number,
    withLogits = false,
  ): Promise<Float32Array> | undefined {
    this.packUnembeddings(k);
    this.wiring.prepare(k);
    const reach = this.reachOf(rows);
    const step = this.steps.take(`propose ${last.length} ${k} ${withLogits} ${reach}`, rows.length, {
      inputs: (count) => new StepInputs(this.model.device, count, last.length, (k - 1) * last.length, reach),
      run: (inputs) => {
        const logits = this.drawProposals(inputs.rows([]), inputs.wanted, inputs, k);
        return withLogits ? [logits] : [];
      },
    });
    step.inputs.write(rows, { tokens: [], wanted: last, draws, capacity: this.capacity });
    step.recording.replay();
    return step.outputs[0]?.data() as Promise<Float32Array> | undefined;
  }

  /** How many positions before `end` heads 2 to k have not read, all heads together. */
  unread(slot: number, end: number, k: number): number {
    if (!this.wiring.reads) return 0;
    let positions = 0;
    for (let i = 0; i < k - 1; i++) positions += Math.max(0, end - (this.positionsRead[slot]?.[i] ?? 0));
    return positions;
  }

  /** Lets heads 2 to k read positions `from` to `end` again, which they have read. Only enqueues. */
  readAgain(slot: number, from: number, end: number, k: number): void {
    this.positionsRead[slot]?.fill(from, 0, k - 1);
    this.readWithHeads(slot, end, k);
  }

  /** Lets heads 2 to k read the sequence up to, but not including, position `end`. Only enqueues. */
  readWithHeads(slot: number, end: number, k: number): void {
    this.wiring.prepare(k);
    if (this.wiring.reads) this.readBehind(slot, end, k);
  }

  dispose(): void {
    this.steps.dispose();
    this.trunk.dispose();
    this.wiring.dispose();
    this.steady.dispose();
    for (const each of [this.pool, ...this.unembeddings.values()]) each.dispose();
  }

  private forwards(wiring: Wiring, pool: Tensor): Forwards {
    const { model, capacity, poolParts } = this;
    return {
      device: model.device,
      capacity,
      isRecurrent: model.config.trunk === "rnn",
      headsRead: wiring.reads,
      pool,
      proposals: poolParts.proposed,
      prepare: (k) => wiring.prepare(k),
      headOneLogits: (tokens, rows) => this.headOneLogits(tokens, rows, undefined),
      propose: (rows, last, draws, k) => this.drawProposals(rows, last, draws, k),
    };
  }

  // ---- the two forwards ---------------------------------------------------------------------------------------------

  /** A recorded step on the rows. */
  private replay(rows: readonly Row[], draws: readonly (Draw | undefined)[], withLogits: boolean): Step<StepInputs> {
    const { device, config } = this.model;
    const reach = this.reachOf(rows);
    const exactly = roundUp(rows.length);
    // Only the RNN asks which rows belong together.
    const runs = config.trunk === "rnn" ? [...runsOf(rows), ...Array<number>(exactly - rows.length).fill(1)] : [];
    const maker = {
      inputs: (count: number) => new StepInputs(device, count, 0, count, reach),
      run: (inputs: StepInputs, count: number) => {
        const results = empty([3 * count], { dtype: "i32", device });
        const logits = this.verdict(inputs, runs, false, results);
        return withLogits ? [results, logits] : [results];
      },
    };
    const kind = `verify ${withLogits} ${reach} ${runs.join()}`;
    const isRecurrent = config.trunk === "rnn";
    const step = isRecurrent ? this.steps.takeExactly(kind, exactly, maker) : this.steps.take(kind, rows.length, maker);
    step.inputs.write(rows, {
      tokens: this.sources(rows),
      wanted: [],
      draws: draws as readonly Draw[],
      capacity: this.capacity,
    });
    step.recording.replay();
    return step;
  }

  /**
   * results (R + 2·D) i32: tokens read, tokens drawn, the bits of the drawn ones' log-probabilities. Returns the logits
   * (D, V).
   */
  private verdict(inputs: StepInputs, runs: readonly number[], some: boolean, results: Tensor): Tensor {
    const token = gatherRows(this.pool, inputs.token);
    const logits = this.headOneLogits(token, inputs.rows(runs), some ? inputs.wanted : undefined);
    const { token: drawn, logProbability } = sample(logits, inputs.drawSettings, inputs.counters);
    copyInto(this.pool.view([drawn.size], this.poolParts.drawn), drawn);
    const [R, D] = [token.size, drawn.size];
    copyInto(results.view([R]), token.view([R]));
    copyInto(results.view([D], R), drawn);
    copyInto(results.view([D], R + D), logProbability.viewAs("i32", [D]));
    return logits;
  }

  /** Logits (M, V) of the rows at `wanted`, or of all. */
  private headOneLogits(tokens: Tensor, rows: StepRows, wanted: Tensor | undefined): Tensor {
    const z = this.trunk.forward(tokens.view([tokens.size]), rows);
    const output = this.wiring.headOne(z, rows);
    return this.logits(wanted ? gatherRows(output, wanted) : output, this.head(1));
  }

  /** What heads 2 to k draw after the rows at `last`, put where rows can read it; returns the logits. */
  private drawProposals(
    rows: PastRows,
    last: Tensor,
    draws: { readonly drawSettings: Tensor; readonly counters: Tensor },
    k: number,
  ): Tensor {
    const outputs = this.wiring.propose(rows, last, k);
    const shared = this.head(2).unembedding.weight === this.head(k).unembedding.weight;
    const logits = shared
      ? this.logits(concatenate(outputs), this.head(2))
      : concatenate(outputs.map((output, i) => this.logits(output, this.head(i + 2))));
    const { token } = sample(logits, draws.drawSettings, draws.counters, this.candidates);
    copyInto(this.pool.view([token.size], this.poolParts.proposed), token.view([token.size]));
    return logits;
  }

  /** output (R, d) of a head → its logits (R, V) in f32. */
  private logits(output: Tensor, head: PredictionHead): Tensor {
    const { weight, bias } = head.unembedding;
    const packed = this.unembeddings.get(valueOf(weight)) ?? weight;
    const dtype = this.model.dtype === "bf16" ? "f32" : undefined;
    return linear(this.model.finish(output), packed, { bias, dtype });
  }

  private head(ahead: number): PredictionHead {
    const head = this.model.heads[ahead - 1];
    if (!head) throw new RangeError(`the model has no head ${ahead}`);
    return head;
  }

  private packUnembeddings(k: number): void {
    for (const { unembedding } of this.model.heads.slice(0, k)) {
      const weight = valueOf(unembedding.weight);
      if (!this.unembeddings.has(weight))
        this.unembeddings.set(
          weight,
          owning(() => packWeight(weight)),
        );
    }
  }

  // ---- rows ---------------------------------------------------------------------------------------------------------

  /** 0 where every row's tokens lie at their positions. */
  private reachOf(rows: readonly Row[]): number {
    return rows.some(({ branch }) => branch) ? this.reach : 0;
  }

  /** Writes the rows' tokens to the pool; where in it each row finds its own. */
  private sources(rows: readonly Row[]): number[] {
    if (rows.length > this.rowsAtOnce) throw new RangeError(`${rows.length} rows, of ${this.rowsAtOnce} at once`);
    const places = new Array<number>(rows.length);
    let fromHost = false;
    for (const [i, { token }] of rows.entries()) {
      this.hostTokens[i] = token;
      fromHost ||= token >= 0;
      places[i] = token >= 0 ? this.poolParts.host + i : this.placeOf(token);
    }
    if (fromHost) this.pool.write(this.hostTokens.subarray(0, rows.length), this.poolParts.host);
    return places;
  }

  /** Where in the pool a row's token is that the host does not know. */
  private placeOf(token: number): number {
    if (token <= drawnPlace(0)) return this.poolParts.drawn + drawnPlace(0) - token;
    if (token <= lastPlace(0)) return lastPlace(0) - token;
    return this.poolParts.proposed - 1 - token;
  }

  /** Lets heads 2 to k read what is far behind; returns the position from which all of them are to read on, at most `most` positions. */
  private catchUp(slot: number, to: number, k: number, most = this.model.heads.length): number {
    if (!this.wiring.reads) return to;
    const read = this.positionsRead[slot] ?? [];
    const furthest = Math.max(...read.slice(0, k - 1));
    const start = to - furthest < most ? Math.min(furthest, to) : to;
    this.readBehind(slot, start, k);
    read.fill(to + 1, 0, k - 1);
    return start;
  }

  private readBehind(slot: number, start: number, k: number): void {
    const read = this.positionsRead[slot] ?? [];
    for (let head = 2; head <= k;) {
      const from = read[head - 2] ?? 0;
      let end = head;
      while (end < k && read[end - 1] === from) end++;
      for (let first = from; first < start; first += catchUpRows) {
        this.readPast(slot, first, Math.min(first + catchUpRows, start), head, end);
      }
      head = end + 1;
    }
    for (let i = 0; i < k - 1; i++) read[i] = Math.max(read[i] ?? 0, start);
  }

  private readPast(sequence: number, from: number, end: number, first: number, last: number): void {
    const rows = Array.from({ length: end - from }, (_, i) => ({ token: 0, sequence, position: from + i }));
    const inputs = new StepInputs(this.model.device, rows.length, 0, 0);
    try {
      inputs.write(rows, { tokens: [], wanted: [], draws: [], capacity: this.capacity });
      scope(() => this.wiring.read(inputs.rows([rows.length]), first, last));
    } finally {
      inputs.dispose();
    }
  }
}

/** What a row says in its token's place for the i-th token that the last `verify` drew. */
export const drawnPlace = (i: number): number => -(2 ** 30) - i;
/** The same for the last token of a slot's text, after `goOn`. */
export const lastPlace = (slot: number): number => -(2 ** 29) - slot;

async function readVerdict([results, logits]: readonly Tensor[], R: number): Promise<Verdict> {
  const [given, scores] = await Promise.all([results?.data(), logits?.data()]);
  const values = given as Int32Array;
  return verdictOf(values, 0, [R, (values.length - R) / 2], scores as Float32Array | undefined);
}

/** Whether a step is one of those that come again and again. */
const isSteady = (rows: readonly Row[], draws: readonly (Draw | undefined)[]): boolean =>
  rows.length <= recordedRows && draws.every((draw) => draw !== undefined);

/** (…) stacked along the first dimension. */
function concatenate(parts: readonly Tensor[]): Tensor {
  const [first] = parts;
  if (!first) throw new RangeError("nothing to concatenate");
  const rest = first.shape.slice(1);
  const rows = parts.reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0);
  const whole = empty([rows, ...rest], { dtype: first.dtype, device: first.device });
  let offset = 0;
  for (const part of parts) {
    copyInto(whole.view(part.shape, offset), part);
    offset += part.size;
  }
  return whole;
}
