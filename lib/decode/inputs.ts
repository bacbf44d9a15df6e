// What changes from step to step, in two device buffers that are written once per step.
import type { Device } from "../device.js";
import type { StepRows } from "../nn/module.js";
import { owning } from "../scope.js";
import { empty, type Tensor } from "../tensor.js";
import type { PastRows } from "./wiring.js";

/** One token to be read: which sequence (cache slot) and which position it has. */
export interface Row {
  /** A token, or −1 − i: the i-th that the last proposal drew, or a `drawnPlace`. */
  readonly token: number;
  /** −1: a row that fills up, without effect. */
  readonly sequence: number;
  readonly position: number;
  /** Places in the slot of the row's last tokens, its own last; undefined: where their positions are. */
  readonly branch?: readonly number[] | undefined;
}

/** How one token is drawn: see the kernel `sample`. position: the drawn token's, counted in its whole text. */
export interface Draw {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly seed: number;
  readonly request: number;
  readonly position: number;
}

/** A row without effect. */
export const idle: Row = { token: 0, sequence: -1, position: 0 };
/** The likeliest token. */
export const greedy: Draw = { temperature: 0, topK: 0, topP: 1, seed: 0, request: 0, position: 0 };

const columnNames = ["token", "sequence", "position", "previous", "place"] as const;
type Column = (typeof columnNames)[number];

/** Sizes: R rows, M of which are wanted, D draws, A last positions of each row that may lie elsewhere. */
export class StepInputs {
  private readonly integers: Tensor<"i32">;
  private readonly numbers: Tensor<"f32">;
  private readonly written: Int32Array<ArrayBuffer>;
  private readonly settings: Float32Array<ArrayBuffer>;
  private readonly views: Readonly<Record<Column | "wanted" | "counters" | "own" | "last", Tensor>>;

  constructor(
    device: Device,
    private readonly rowCount: number,
    private readonly wantedCount: number,
    readonly drawCount: number,
    private readonly reach = 0,
  ) {
    const ofBranches = reach > 0 ? (1 + reach) * rowCount : 0;
    this.written = new Int32Array(columnNames.length * rowCount + wantedCount + 4 * drawCount + ofBranches);
    this.settings = new Float32Array(3 * drawCount).fill(NaN); // unequal to whatever comes first
    const { length } = this.written;
    const [integers, numbers, views] = owning(() => {
      const all = empty([length], { dtype: "i32", device, tag: "data" });
      const column = (i: number): Tensor => all.view([rowCount], i * rowCount);
      const afterRows = columnNames.length * rowCount;
      const afterDraws = afterRows + wantedCount + 4 * drawCount;
      const views = {
        token: column(0),
        sequence: column(1),
        position: column(2),
        previous: column(3),
        place: column(4),
        wanted: all.view([wantedCount], afterRows),
        counters: all.view([drawCount, 4], afterRows + wantedCount),
        own: all.view([reach > 0 ? rowCount : 0], afterDraws),
        last: all.view([reach > 0 ? rowCount : 0, reach], length - rowCount * reach),
      };
      return [all, empty([drawCount, 3], { dtype: "f32", device, tag: "data" }), views] as const;
    });
    this.integers = integers;
    this.numbers = numbers;
    this.views = views;
  }

  /** Tokens read: places in the session's pool, (R) i32. */
  get token(): Tensor {
    return this.views.token;
  }

  /** Rows whose output is wanted, (M) i32. */
  get wanted(): Tensor {
    return this.views.wanted;
  }

  /** (D, 4) i32, as `sample` takes them. */
  get counters(): Tensor {
    return this.views.counters;
  }

  /** (D, 3) f32, as `sample` takes them. */
  get drawSettings(): Tensor {
    return this.numbers;
  }

  rows(runs: readonly number[]): PastRows {
    const { sequence, position, previous, place, own, last } = this.views;
    const branch = this.reach > 0 ? { own, last } : undefined;
    return { sequence, position, previous, place, runs, branch } satisfies StepRows & { place: Tensor };
  }

  /** Fewer rows than R are filled up with rows that have no effect. tokens: what the token column shall hold. */
  write(rows: readonly Row[], { tokens, wanted, draws, capacity }: StepNumbers): void {
    const { rowCount: R, written } = this;
    for (let i = 0; i < R; i++) {
      const row = rows[i] ?? idle;
      const start = row.sequence < 0 ? -1 : row.sequence * capacity;
      written[i] = tokens[i] ?? 0;
      written[R + i] = row.sequence;
      written[2 * R + i] = row.position;
      written[3 * R + i] = start < 0 || row.position === 0 ? -1 : start + placeOf(row, row.position - 1);
      written[4 * R + i] = start < 0 ? -1 : start + placeOf(row, row.position);
    }
    written.set(wanted, 5 * R);
    this.writeDraws(draws, 5 * R + this.wantedCount);
    if (this.reach > 0) this.writeBranches(rows);
    if (written.length > 0) this.integers.write(written);
  }

  private writeBranches(rows: readonly Row[]): void {
    const { rowCount: R, reach, written } = this;
    const own = written.length - R * (1 + reach);
    for (let i = 0; i < R; i++) {
      const row = rows[i] ?? idle;
      if ((row.branch?.length ?? 0) > reach) throw new RangeError(`a branch of more than ${reach} places`);
      written[own + i] = placeOf(row, row.position);
      for (let j = 0; j < reach; j++) {
        written[own + R + i * reach + j] = Math.max(0, placeOf(row, row.position - reach + 1 + j));
      }
    }
  }

  private writeDraws(draws: readonly Draw[], start: number): void {
    const { written, settings } = this;
    let changed = false;
    const set = (at: number, value: number): void => {
      if (settings[at] === Math.fround(value)) return;
      settings[at] = value;
      changed = true;
    };
    for (let i = 0; i < this.drawCount; i++) {
      const draw = draws[i] ?? greedy;
      const at = start + 4 * i;
      written[at] = draw.seed | 0;
      written[at + 1] = Math.floor(draw.seed / 2 ** 32) | 0;
      written[at + 2] = draw.request;
      written[at + 3] = draw.position;
      set(3 * i, draw.temperature);
      set(3 * i + 1, draw.topK);
      set(3 * i + 2, draw.topP);
    }
    if (changed) this.numbers.write(settings);
  }

  dispose(): void {
    for (const tensor of [this.integers, this.numbers, ...Object.values(this.views)]) tensor.dispose();
  }
}

/** Where in its slot a row finds what was read at a position up to its own. */
function placeOf({ position, branch }: Row, at: number): number {
  return branch?.[branch.length - 1 - (position - at)] ?? at;
}

export interface StepNumbers {
  readonly tokens: readonly number[];
  readonly wanted: readonly number[];
  readonly draws: readonly Draw[];
  /** Positions per slot of the caches. */
  readonly capacity: number;
}

/** Lengths of the runs of consecutive rows of one sequence. */
export function runsOf(rows: readonly Row[]): number[] {
  const runs: number[] = [];
  rows.forEach(({ sequence }, i) => {
    if (i > 0 && rows[i - 1]?.sequence === sequence) runs.push((runs.pop() ?? 0) + 1);
    else runs.push(1);
  });
  return runs;
}
