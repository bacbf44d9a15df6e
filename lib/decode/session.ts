// A model's memory while it generates, and the two things done with it: reading tokens for head 1's verdict on them, and
// proposing tokens with heads 2 to k.
import type { Recording } from "../device.js";
import type { LanguageModel, PredictionHead } from "../mtp/model.js";
import type { StepRows, TrunkCache } from "../nn/module.js";
import { copyInto, gatherRows } from "../ops/elementwise.js";
import { linear, packWeight } from "../ops/linear.js";
import { sample } from "../ops/sample.js";
import { owning, scope } from "../scope.js";
import { valueOf } from "../tape.js";
import { empty, zeros, type Tensor } from "../tensor.js";
import { type Draw, type Row, runsOf, StepInputs } from "./inputs.js";
import { wire, type Wiring } from "./wiring.js";

export type { Draw, Row } from "./inputs.js";

export interface SessionOptions {
  /** Whether `propose` will be called. Default false. */
  readonly drafts?: boolean | undefined;
  /** Rows that `verify` is given at most. Default 64. */
  readonly rowsAtOnce?: number | undefined;
}

/** What one sequence asks of heads 2 to k: to go on from position `to`, the last of its text that was read. */
export interface ProposalRequest {
  readonly sequence: number;
  readonly to: number;
  /** k − 1 draws, head 2's first. */
  readonly draws: readonly Draw[];
}

export interface Verdict {
  /** The tokens read, (R); those that had been proposed among them. */
  readonly read: Int32Array;
  /** Drawn after each wanted row, (M); −1 where the logits were not numbers. */
  readonly drawn: Int32Array;
  /** Natural logs, of the drawn tokens, under head 1's untempered distribution. */
  readonly logProbabilities: Float32Array;
  /** Where asked for: of each wanted row, (M, V). */
  readonly logits: Float32Array | undefined;
}

interface Step {
  readonly inputs: StepInputs;
  readonly recording: Recording;
  readonly outputs: readonly Tensor[];
}

/** Longer steps are not recorded: prompts, whose ops run long enough to hide the enqueueing of the next. */
const recordedRows = 64;
/** Steps kept; each holds its temporary tensors. */
const keptSteps = 96;
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
  /** Tokens that rows read: `rowsAtOnce` from the host, as many that `verify` drew last, then the last proposal's. (…, 1) i32 */
  private readonly pool: Tensor;
  private readonly rowsAtOnce: number;
  private readonly hostTokens: Int32Array;
  private readonly steps = new Map<string, Step>();
  /** Of each slot: how many positions heads 2 to n have read. */
  private readonly positionsRead: number[][];

  /** slots: sequences held at once; capacity: positions each can hold. */
  constructor(
    readonly model: LanguageModel,
    slots: number,
    readonly capacity: number,
    { drafts = false, rowsAtOnce = recordedRows }: SessionOptions = {},
  ) {
    const { device, heads } = model;
    this.rowsAtOnce = rowsAtOnce;
    this.hostTokens = new Int32Array(rowsAtOnce);
    this.positionsRead = Array.from({ length: slots }, () => heads.slice(1).map(() => 0));
    const made = owning(() => ({
      trunk: model.trunk.newCache(slots, capacity),
      wiring: wire(model, slots, capacity, drafts),
      pool: zeros([2 * rowsAtOnce + slots * heads.length, 1], { dtype: "i32", device, tag: "cache" }),
    }));
    this.trunk = made.trunk;
    this.wiring = made.wiring;
    this.pool = made.pool;
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
    const wanted: number[] = [];
    const given: Draw[] = [];
    for (const [i, draw] of draws.entries()) {
      if (!draw) continue;
      wanted.push(i);
      given.push(draw);
    }
    const all = wanted.length === rows.length;
    const steady = all && rows.length <= recordedRows;
    const count = steady ? roundUp(rows.length) : rows.length;
    const numbers = { tokens: this.sources(rows), wanted, draws: given };
    // Only the RNN asks which rows belong together.
    const runs =
      this.model.config.trunk === "rnn" ? [...runsOf(rows), ...Array<number>(count - rows.length).fill(1)] : [];
    const drawn = all ? count : wanted.length;
    const run = (inputs: StepInputs): Tensor[] => {
      const { tokens, logProbability, logits } = this.verdict(inputs, runs, !all);
      return withLogits ? [tokens, logProbability, logits] : [tokens, logProbability];
    };
    if (steady) {
      const key = `${withLogits ? "verify with logits" : "verify"} ${count} ${runs.join()}`;
      const step = this.step(key, () => new StepInputs(this.model.device, count, 0, drawn), run);
      step.inputs.write(rows, { ...numbers, wanted: [], capacity: this.capacity });
      step.recording.replay();
      return readVerdict(step.outputs, count);
    }
    const inputs = new StepInputs(this.model.device, count, wanted.length, drawn);
    let outputs: Tensor[] = [];
    try {
      inputs.write(rows, { ...numbers, capacity: this.capacity });
      outputs = owning(() => scope(() => run(inputs)));
      return await readVerdict(outputs, count);
    } finally {
      for (const each of [inputs, ...outputs]) each.dispose();
    }
  }

  /**
   * Draws tokens with heads 2 to k, for the next `verify` to read: of L requests, the r-th one's from head i is row token
   * −1 − ((i − 2)·L + r). Only enqueues. Where asked for, the logits that they are drawn from, ((k − 1)·L, V).
   */
  propose(requests: readonly ProposalRequest[], k: number, withLogits = false): Promise<Float32Array> | undefined {
    this.packUnembeddings(k);
    this.wiring.prepare(k);
    const rows: Row[] = [];
    const last: number[] = [];
    for (const { sequence, to } of requests) {
      for (let position = this.catchUp(sequence, to, k); position <= to; position++) {
        rows.push({ token: 0, sequence, position });
      }
      last.push(rows.length - 1);
    }
    const count = roundUp(rows.length);
    const draws = Array.from({ length: k - 1 }, (_, i) => requests.map((request) => request.draws[i]));
    const numbers = { tokens: [], wanted: last, draws: draws.flat() as Draw[], capacity: this.capacity };
    const step = this.step(
      `${withLogits ? "propose with logits" : "propose"} ${count} ${requests.length} ${k}`,
      () => new StepInputs(this.model.device, count, last.length, (k - 1) * last.length),
      (inputs) => {
        const logits = this.drawProposals(inputs, k);
        return withLogits ? [logits] : [];
      },
    );
    step.inputs.write(rows, numbers);
    step.recording.replay();
    return step.outputs[0]?.data() as Promise<Float32Array> | undefined;
  }

  dispose(): void {
    for (const step of this.steps.values()) disposeStep(step);
    this.trunk.dispose();
    this.wiring.dispose();
    for (const each of [this.pool, ...this.unembeddings.values()]) each.dispose();
  }

  // ---- the two forwards ---------------------------------------------------------------------------------------------

  /** tokens: (R) read and (D) drawn, one after the other; of the drawn ones log-probabilities (D) and logits (D, V). */
  private verdict(inputs: StepInputs, runs: readonly number[], some: boolean) {
    const token = gatherRows(this.pool, inputs.token);
    const logits = this.headOneLogits(token, inputs.rows(runs), some ? inputs.wanted : undefined);
    const { token: drawn, logProbability } = sample(logits, inputs.drawSettings, inputs.counters);
    copyInto(this.pool.view([drawn.size], this.rowsAtOnce), drawn);
    return { tokens: concatenate([token.view([token.size]), drawn]), logProbability, logits };
  }

  /** Logits (M, V) of the rows at `wanted`, or of all. */
  private headOneLogits(tokens: Tensor, rows: StepRows, wanted: Tensor | undefined): Tensor {
    const z = this.trunk.forward(tokens.view([tokens.size]), rows);
    const output = this.wiring.headOne(z, rows);
    return this.logits(wanted ? gatherRows(output, wanted) : output, this.head(1));
  }

  /** Puts the drawn tokens where rows can read them; returns the logits. */
  private drawProposals(inputs: StepInputs, k: number): Tensor {
    const outputs = this.wiring.propose(inputs.rows([]), inputs.wanted, k);
    const shared = this.head(2).unembedding.weight === this.head(k).unembedding.weight;
    const logits = shared
      ? this.logits(concatenate(outputs), this.head(2))
      : concatenate(outputs.map((output, i) => this.logits(output, this.head(i + 2))));
    const { token } = sample(logits, inputs.drawSettings, inputs.counters);
    copyInto(this.pool.view([token.size], 2 * this.rowsAtOnce), token);
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

  // ---- steps --------------------------------------------------------------------------------------------------------

  /** The recorded step of that key; made with `run` when it is new. */
  private step(key: string, inputsOf: () => StepInputs, run: (inputs: StepInputs) => Tensor[]): Step {
    let step = this.steps.get(key);
    this.steps.delete(key);
    if (!step) {
      const inputs = inputsOf();
      let outputs: Tensor[] = [];
      try {
        const recording = this.model.device.record(() => {
          outputs = owning(() => scope(() => run(inputs)));
        });
        step = { inputs, recording, outputs };
      } catch (failure) {
        for (const each of [inputs, ...outputs]) each.dispose();
        throw failure;
      }
    }
    this.steps.set(key, step); // the latest used comes last
    const [oldest] = this.steps;
    if (oldest && this.steps.size > keptSteps) {
      this.steps.delete(oldest[0]);
      disposeStep(oldest[1]);
    }
    return step;
  }

  /** Writes the rows' tokens to the pool; where in it each row finds its own. */
  private sources(rows: readonly Row[]): number[] {
    if (rows.length > this.rowsAtOnce) throw new RangeError(`${rows.length} rows, of ${this.rowsAtOnce} at once`);
    const places = new Array<number>(rows.length);
    let fromHost = false;
    for (const [i, { token }] of rows.entries()) {
      this.hostTokens[i] = token;
      fromHost ||= token >= 0;
      if (token >= 0) places[i] = i;
      else if (token <= drawnPlace(0)) places[i] = this.rowsAtOnce + drawnPlace(0) - token;
      else places[i] = 2 * this.rowsAtOnce - 1 - token;
    }
    if (fromHost) this.pool.write(this.hostTokens.subarray(0, rows.length));
    return places;
  }

  /** Lets heads 2 to k read what is far behind; returns the position from which all of them are to read on. */
  private catchUp(slot: number, to: number, k: number): number {
    if (!this.wiring.reads) return to;
    const read = this.positionsRead[slot] ?? [];
    const furthest = Math.max(...read.slice(0, k - 1));
    const start = to - furthest < this.model.heads.length ? furthest : to;
    for (let head = 2; head <= k;) {
      const from = read[head - 2] ?? 0;
      let end = head;
      while (end < k && read[end - 1] === from) end++;
      for (let first = from; first < start; first += catchUpRows) {
        this.readPast(slot, first, Math.min(first + catchUpRows, start), head, end);
      }
      head = end + 1;
    }
    read.fill(to + 1, 0, k - 1);
    return start;
  }

  private readPast(sequence: number, from: number, end: number, first: number, last: number): void {
    const rows = Array.from({ length: end - from }, (_, i) => ({ token: 0, sequence, position: from + i }));
    const inputs = new StepInputs(this.model.device, rows.length, 0, 0);
    inputs.write(rows, { tokens: [], wanted: [], draws: [], capacity: this.capacity });
    scope(() => this.wiring.read(inputs.rows([rows.length]), first, last));
    inputs.dispose();
  }
}

/** What a row says in its token's place for the i-th token that the last `verify` drew. */
export const drawnPlace = (i: number): number => -(2 ** 30) - i;

function disposeStep({ inputs, recording, outputs }: Step): void {
  recording.dispose();
  for (const each of [inputs, ...outputs]) each.dispose();
}

async function readVerdict(outputs: readonly Tensor[], rows: number): Promise<Verdict> {
  const [tokens, logProbabilities, logits] = (await Promise.all(outputs.map((each) => each.data()))) as [
    Int32Array,
    Float32Array,
    Float32Array?,
  ];
  return { read: tokens.subarray(0, rows), drawn: tokens.subarray(rows), logProbabilities, logits };
}

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

/** Step sizes that are recorded: every one up to 16, then every eighth. */
const roundUp = (rows: number): number => (rows <= 16 ? rows : Math.ceil(rows / 8) * 8);
