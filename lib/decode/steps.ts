// Decoding steps, recorded once and replayed: by kind, and by how many rows they have room for.
import type { Device, Recording } from "../device.js";
import { owning, scope } from "../scope.js";
import type { Tensor } from "../tensor.js";

interface Inputs {
  dispose(): void;
}

export interface Step<I extends Inputs = Inputs> {
  /** Rows that it has room for: fewer are filled up with rows without effect. */
  readonly rows: number;
  readonly inputs: I;
  readonly recording: Recording;
  readonly outputs: readonly Tensor[];
}

/** Makes a step for so many rows. */
export interface Maker<I extends Inputs> {
  readonly inputs: (rows: number) => I;
  readonly run: (inputs: I, rows: number) => Tensor[];
}

/** Steps kept; each holds its temporary tensors. */
const keptSteps = 256;
/** Recording takes as long as a step or two: a size is worth it that is wanted more often than this. */
const worthRecording = 8;

export class RecordedSteps {
  private readonly steps = new Map<string, Step>();
  private readonly wanted = new Map<string, number>();
  /** Changes whenever a step comes or goes. */
  version = 0;

  constructor(private readonly device: Device) {}

  /** The step of that kind for `rows` rows: a somewhat larger one that there is, until its own has been wanted often. */
  take<I extends Inputs>(kind: string, rows: number, maker: Maker<I>): Step<I> {
    return this.takeExactly(kind, this.sizeFor(kind, roundUp(rows)), maker);
  }

  /** The same, of exactly that size. */
  takeExactly<I extends Inputs>(kind: string, rows: number, { inputs: inputsOf, run }: Maker<I>): Step<I> {
    const key = keyOf(kind, rows);
    let step = this.steps.get(key) as Step<I> | undefined;
    this.steps.delete(key);
    if (!step) {
      this.version++;
      const inputs = inputsOf(rows);
      let outputs: Tensor[] = [];
      try {
        const recording = this.device.record(() => {
          outputs = owning(() => scope(() => run(inputs, rows)));
        });
        step = { rows, inputs, recording, outputs };
      } catch (failure) {
        for (const each of [inputs, ...outputs]) each.dispose();
        throw failure;
      }
    }
    this.steps.set(key, step); // the latest used comes last
    this.dropOldest();
    return step;
  }

  /** The i-th has room for i + 1 rows: the smallest that there is, the last for `most` or somewhat more. */
  upTo<I extends Inputs>(kind: string, most: number, maker: Maker<I>): Step<I>[] {
    const found: Step<I>[] = [];
    let step = this.takeExactly(kind, roundUp(most), maker);
    for (let rows = most; rows >= 1; rows--) {
      step = (this.steps.get(keyOf(kind, rows)) as Step<I> | undefined) ?? step;
      found.unshift(step);
    }
    return found;
  }

  /** A step of `rows` rows would have done: it will be there once that has been said often. */
  want<I extends Inputs>(kind: string, maker: Maker<I>, rows: number): void {
    const key = keyOf(kind, rows);
    if (this.steps.has(key)) return;
    const times = (this.wanted.get(key) ?? 0) + 1;
    this.wanted.set(key, times);
    if (times > worthRecording) this.takeExactly(kind, rows, maker);
  }

  private sizeFor(kind: string, rows: number): number {
    const key = keyOf(kind, rows);
    if (this.steps.has(key)) return rows;
    const times = (this.wanted.get(key) ?? 0) + 1;
    this.wanted.set(key, times);
    if (times > worthRecording) return rows;
    for (let size = rows + 1; size <= 2 * rows; size++) if (this.steps.has(keyOf(kind, size))) return size;
    return rows <= 2 ? rows : Math.ceil(rows / 4) * 4;
  }

  private dropOldest(): void {
    const [oldest] = this.steps;
    if (!oldest || this.steps.size <= keptSteps) return;
    this.steps.delete(oldest[0]);
    this.version++;
    disposeStep(oldest[1]);
  }

  dispose(): void {
    for (const step of this.steps.values()) disposeStep(step);
    this.steps.clear();
  }
}

function disposeStep({ inputs, recording, outputs }: Step): void {
  recording.dispose();
  for (const each of [inputs, ...outputs]) each.dispose();
}

const keyOf = (kind: string, rows: number): string => `${kind}, ${rows} rows`;

/** Step sizes that are recorded: every one up to 16, then every eighth. */
export const roundUp = (rows: number): number => (rows <= 16 ? rows : Math.ceil(rows / 8) * 8);
