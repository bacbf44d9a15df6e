// Steps that follow each other without the host: each reads the token that the one before it drew last and what the heads
// propose behind it; how much of that is right (arXiv 1811.03115), and so where the next one starts, stays on the device.
import { Recording, type Device } from "../device.js";
import type { StepRows } from "../nn/module.js";
import { acceptDraft, draftRows, type DraftState } from "../ops/draft.js";
import { copyInto, gatherRows } from "../ops/elementwise.js";
import { sample } from "../ops/sample.js";
import { owning, scope } from "../scope.js";
import { empty, zeros, type Tensor } from "../tensor.js";
import { greedy, type Draw } from "./inputs.js";
import { roundUp, type Maker, type RecordedSteps, type Step } from "./steps.js";
import { verdictOf, type Verdict } from "./verdict.js";
import type { PastRows } from "./wiring.js";

export interface SteadyText {
  readonly slot: number;
  /** Tokens that it reads per step: its last one, and a draft. */
  readonly rows: number;
  /** How its tokens are drawn. position: where in the text the slot's position 0 is. */
  readonly draw: Draw;
}

/** Who takes part in steps, and with how long a draft: the same until a text comes, goes, or changes its draft. */
export class SteadyLayout {
  readonly rows: number;
  readonly longest: number;
  /** Those with a draft. */
  readonly asking: readonly SteadyText[];

  constructor(readonly texts: readonly SteadyText[]) {
    this.rows = texts.reduce((sum, { rows }) => sum + rows, 0);
    this.longest = Math.max(...texts.map(({ rows }) => rows));
    this.asking = texts.filter(({ rows }) => rows > 1);
  }

  /** Whether a text has drafted with heads 2 to k, and how many tokens it read. */
  drafted(slot: number, k: number): boolean {
    return this.longest >= k && this.asking.some((text) => text.slot === slot);
  }
}

/** Where a text stands: the device takes it from there. */
export interface Standing {
  readonly slot: number;
  /** Of its last token. */
  readonly position: number;
  /** How many positions before the last but one heads 2 and up have not read. */
  readonly kept: number;
  /** Where in the pool the last token is. */
  readonly place: number;
}

/** The two forwards, as the session makes them. */
export interface Forwards {
  readonly device: Device;
  readonly capacity: number;
  readonly isRecurrent: boolean;
  /** Whether heads have to read every position. */
  readonly headsRead: boolean;
  /** Tokens that rows can read, (…, 1) i32. The slots' last ones come first. */
  readonly pool: Tensor;
  /** Where in the pool the heads' proposals are. */
  readonly proposals: number;
  /** Gets ready for heads 2 to k. */
  prepare(k: number): void;
  /** Logits (R, V) of head 1. */
  headOneLogits(tokens: Tensor, rows: StepRows): Tensor;
  /** Heads 2 to k go on from the rows at `last` (L). */
  propose(rows: PastRows, last: Tensor, draws: { drawSettings: Tensor; counters: Tensor }, k: number): void;
}

/** Steps whose results wait on the device, to be read together. */
export const inTurn = 8;

export class SteadySteps {
  private readonly state: DraftState;
  private readonly most: Tensor;
  private readonly rings = new Map<number, Tensor>();
  private taken = 0;
  private before: SteadyLayout | undefined;
  private ready: Ready | undefined;
  private combined: Recording | undefined;

  constructor(
    private readonly forwards: Forwards,
    private readonly steps: RecordedSteps,
    slots: number,
  ) {
    const { device, pool } = forwards;
    [this.state, this.most] = owning(() => {
      const step = zeros([2], { dtype: "i32", device, tag: "cache" });
      const progress = zeros([slots, 2], { dtype: "i32", device, tag: "cache" });
      return [{ progress, last: pool.view([slots]), step }, step.view([1], 1)] as const;
    });
  }

  /** Whether such a step can come next as things stand; else texts have to be settled first. */
  follows(layout: SteadyLayout): boolean {
    const { before, forwards } = this;
    const { texts, longest } = layout;
    if (!before || before === layout) return before === layout;
    return texts.every(({ slot, rows }) => {
      const took = before.texts.some((text) => text.slot === slot);
      return took && (rows === 1 || !forwards.headsRead || before.drafted(slot, longest));
    });
  }

  /** Tells the device where texts stand. Only enqueues. */
  settle(texts: readonly Standing[]): void {
    const { pool } = this.forwards;
    for (const { slot, position, kept, place } of texts) {
      this.state.progress.write([position, kept], 2 * slot);
      if (place !== slot) scope(() => copyInto(pool.view([1], slot), pool.view([1], place)));
    }
    this.most.write([Math.max(...texts.map(({ kept }) => kept))]);
    this.before = undefined;
  }

  /** Something else was read: texts stand elsewhere. */
  interrupt(): void {
    this.before = undefined;
  }

  /** Takes so many steps. Only enqueues. */
  step(layout: SteadyLayout, count: number): void {
    this.prepare(layout).recording.replay(count);
    this.before = layout;
    this.taken += count;
  }

  /** What came of the last `count` steps, all with this layout. */
  async results(layout: SteadyLayout, count: number): Promise<Verdict[]> {
    const { rows } = this.prepare(layout).verify;
    const first = this.taken - count;
    const values = (await this.ring(rows).data()) as Int32Array; // all of it: it is small
    const verdicts: Verdict[] = [];
    for (let i = 0; i < count; i++) verdicts.push(verdictOf(values, 3 * rows * ((first + i) % inTurn), [rows, rows]));
    return verdicts;
  }

  /** A step has kept so much of its longest draft: the heads of the next had one position more to read, not all that they might. */
  kept(layout: SteadyLayout, most: number): void {
    if (!this.readsJustThat(layout)) return;
    const { ready } = this;
    if (ready?.layout === layout && ready.proposing[most]?.rows === most + 1) return;
    this.steps.want(...this.catchUp(layout), most + 1);
  }

  /** For measuring: `count` steps, each with so many positions more for the heads to read than one. Only enqueues. */
  rehearse(layout: SteadyLayout, texts: readonly Standing[], count: number): void {
    const drafts = layout.asking.length > 0;
    const [kind, maker] = this.catchUp(layout);
    if (this.readsJustThat(layout)) this.steps.takeExactly(kind, 1 + Math.max(...texts.map(({ kept }) => kept)), maker);
    for (let i = 0; i < count; i++) {
      if (i === 0 || drafts) this.settle(texts);
      this.step(layout, 1);
    }
    this.interrupt();
  }

  /** Whether heads can read as many positions as there are: a GPU is told beforehand, and reads all that there might be. */
  private readsJustThat({ asking }: SteadyLayout): boolean {
    const { device, headsRead } = this.forwards;
    return device.kind === "cpu" && headsRead && asking.length > 0;
  }

  dispose(): void {
    this.combined?.dispose();
    const { progress, last, step } = this.state;
    for (const each of [progress, last, step, this.most, ...this.rings.values()]) each.dispose();
  }

  // ---- recordings ---------------------------------------------------------------------------------------------------

  /** The recordings of a step with this layout, and their inputs as it wants them. */
  private prepare(layout: SteadyLayout): Ready {
    const behind = this.forwards.headsRead ? Math.max(layout.longest, this.before?.longest ?? 0) : 1;
    const { ready, steps } = this;
    if (ready?.layout === layout && ready.behind >= behind && ready.version === steps.version) return ready;
    const verify = this.verifying(layout);
    const proposing = layout.asking.length > 0 ? this.proposing(layout, behind) : [];
    const recording = this.combine(verify, proposing);
    return (this.ready = { layout, behind, verify, proposing, recording, version: steps.version });
  }

  /** The whole step: heads read what is new, then the verdict. */
  private combine(verify: Step, proposing: readonly Step[]): Recording {
    this.combined?.dispose();
    this.combined = undefined;
    if (proposing.length === 0) return verify.recording;
    const choices = proposing.map(({ recording }) => recording);
    return (this.combined = Recording.combine(choices, this.most, [verify.recording]));
  }

  private verifying(layout: SteadyLayout): Step<SteadyInputs> {
    const { device, pool, capacity, isRecurrent } = this.forwards;
    const size = roundUp(layout.rows);
    const runs = isRecurrent
      ? [...layout.texts.map(({ rows }): number => rows), ...Array<number>(size - layout.rows).fill(1)]
      : [];
    const results = this.ring(size); // made before the step is recorded: memory of its own
    const step = this.steps.takeExactly(`steady ${runs.join()}`, size, {
      inputs: (R) => new SteadyInputs(device, R, R, R),
      run: (inputs, R) => {
        const { counters, ...rows } = draftRows(inputs.rows, inputs.draws, this.state.progress, capacity);
        const read = gatherRows(pool, inputs.index).view([R]);
        const logits = this.forwards.headOneLogits(read, { ...rows, runs });
        const { token: drawn, logProbability } = sample(logits, inputs.drawSettings, counters);
        acceptDraft(inputs.rows, { read, drawn, logProbability }, this.state, results);
        return [];
      },
    });
    step.inputs.write(layout, () => rowsToVerify(layout, this.forwards.proposals));
    return step;
  }

  /** For every number of positions that the heads may have to read, from 1 to `behind`. */
  private proposing(layout: SteadyLayout, behind: number): Step<SteadyInputs>[] {
    const [kind, maker] = this.catchUp(layout);
    this.forwards.prepare(layout.longest);
    const steps = this.steps.upTo(kind, behind, maker);
    for (const { inputs, rows } of new Set(steps)) inputs.write(layout, () => rowsToGoOnFrom(layout, rows));
    return steps;
  }

  private catchUp(layout: SteadyLayout): readonly [string, Maker<SteadyInputs>] {
    const { device, capacity } = this.forwards;
    const [L, k] = [layout.asking.length, layout.longest];
    const maker: Maker<SteadyInputs> = {
      inputs: (rows) => new SteadyInputs(device, L * rows, (k - 1) * L, L),
      run: ({ rows, draws, index, drawSettings }) => {
        const { counters, ...past } = draftRows(rows, draws, this.state.progress, capacity);
        this.forwards.propose({ ...past, runs: [] }, index, { drawSettings, counters }, k);
        return [];
      },
    };
    return [`catch up ${L} ${k}`, maker];
  }

  /** Where steps of so many rows leave their results, (inTurn, 3, rows) i32. */
  private ring(rows: number): Tensor {
    let ring = this.rings.get(rows);
    if (!ring) {
      const { device } = this.forwards;
      ring = owning(() => zeros([inTurn, 3, rows], { dtype: "i32", device, tag: "data" }));
      this.rings.set(rows, ring);
    }
    return ring;
  }
}

interface Ready {
  readonly layout: SteadyLayout;
  readonly behind: number;
  readonly version: number;
  readonly verify: Step<SteadyInputs>;
  /** By how many positions the heads have to read beside one. */
  readonly proposing: readonly Step[];
  readonly recording: Recording;
}

/** As `draftRows` takes them: slot, offset; slot, offset, how. */
type RowAt = readonly [slot: number, offset: number];
type DrawAt = readonly [slot: number, offset: number, draw: Draw];

interface Laid {
  readonly rows: readonly RowAt[];
  readonly draws: readonly DrawAt[];
  readonly index: readonly number[];
}

/** index: the tokens' places in the pool. */
function rowsToVerify({ texts, asking }: SteadyLayout, proposals: number): Laid {
  const rows: RowAt[] = [];
  const draws: DrawAt[] = [];
  const index: number[] = [];
  for (const text of texts) {
    const { slot, draw } = text;
    const request = asking.indexOf(text);
    for (let i = 0; i < text.rows; i++) {
      rows.push([slot, i]);
      draws.push([slot, draw.position + i + 1, draw]);
      index.push(i === 0 ? slot : proposals + (i - 1) * asking.length + request);
    }
  }
  return { rows, draws, index };
}

/** The last `count` positions before each text's last. index: of its last row. */
function rowsToGoOnFrom({ asking, longest }: SteadyLayout, count: number): Laid {
  const rows = asking.flatMap(({ slot }) => Array.from({ length: count }, (_, i): RowAt => [slot, i - count]));
  const draws: DrawAt[] = [];
  for (let head = 2; head <= longest; head++) {
    for (const { slot, draw } of asking) draws.push([slot, draw.position + head - 1, draw]);
  }
  return { rows, draws, index: asking.map((_, i) => (i + 1) * count - 1) };
}

/** What a recorded step is told of its layout: R rows, D draws, I indices. */
class SteadyInputs {
  private readonly integers: Tensor;
  private readonly views: readonly Tensor[];
  /** (D, 3) f32, as `sample` takes them. */
  readonly drawSettings: Tensor;
  readonly rows: Tensor;
  readonly draws: Tensor;
  /** (I) i32. */
  readonly index: Tensor;
  private writtenFor: SteadyLayout | undefined;

  constructor(
    device: Device,
    private readonly rowCount: number,
    private readonly drawCount: number,
    indexCount: number,
  ) {
    const made = owning(() => {
      const integers = empty([2 * rowCount + 5 * drawCount + indexCount], { dtype: "i32", device, tag: "data" });
      const drawSettings = empty([drawCount, 3], { dtype: "f32", device, tag: "data" });
      const rows = integers.view([rowCount, 2]);
      const draws = integers.view([drawCount, 5], 2 * rowCount);
      const index = integers.view([indexCount], 2 * rowCount + 5 * drawCount);
      return { integers, drawSettings, rows, draws, index };
    });
    ({ integers: this.integers, drawSettings: this.drawSettings } = made);
    ({ rows: this.rows, draws: this.draws, index: this.index } = made);
    this.views = [made.rows, made.draws, made.index];
  }

  /** Rows and draws that the layout does not fill have no effect. */
  write(layout: SteadyLayout, laid: () => Laid): void {
    if (this.writtenFor === layout) return;
    this.writtenFor = layout;
    const { rows, draws, index } = laid();
    const integers = new Int32Array(this.integers.size);
    const settings = new Float32Array(3 * this.drawCount);
    for (let i = 0; i < this.rowCount; i++) integers.set(rows[i] ?? [-1, 0], 2 * i);
    for (let i = 0; i < this.drawCount; i++) {
      const [slot, offset, { seed, request, temperature, topK, topP }] = draws[i] ?? [-1, 0, greedy];
      integers.set([slot, offset, seed | 0, Math.floor(seed / 2 ** 32) | 0, request], 2 * this.rowCount + 5 * i);
      settings.set([temperature, topK, topP], 3 * i);
    }
    integers.set(index, 2 * this.rowCount + 5 * this.drawCount);
    this.integers.write(integers);
    if (settings.length > 0) this.drawSettings.write(settings);
  }

  dispose(): void {
    for (const each of [this.integers, this.drawSettings, ...this.views]) each.dispose();
  }
}
