// Of a tree's branches the accepted one moves to where its positions are; a chain lies there already.
import type { Device } from "../device.js";
import type { CacheMoves } from "../nn/module.js";
import { owning } from "../scope.js";
import { empty, type Tensor } from "../tensor.js";

/** What is at place `from` of a sequence's slot shall be at place `to`. */
export interface Move {
  readonly sequence: number;
  readonly from: number;
  readonly to: number;
}

/** Device buffers for up to M moves at once, in caches with 1 or `groups` key/value heads. */
export class MoveInputs {
  private readonly integers: Tensor<"i32">;
  private readonly written: Int32Array<ArrayBuffer>;
  private readonly views: readonly Tensor[];
  readonly moves: CacheMoves;

  constructor(
    device: Device,
    private readonly count: number,
    private readonly groups: number,
    private readonly capacity: number,
  ) {
    const length = count * (3 + groups);
    this.written = new Int32Array(length);
    const [integers, views] = owning(() => {
      const all = empty([length], { dtype: "i32", device, tag: "data" });
      const views = [0, 1, 2].map((i) => all.view([count], i * count));
      return [all, [...views, all.view([count * groups], 3 * count)]] as const;
    });
    this.integers = integers;
    this.views = views;
    const [sequence, position, ofOne, ofGroups] = views as [Tensor, Tensor, Tensor, Tensor];
    this.moves = { sequence, position, from: (of) => (of === 1 ? ofOne : ofGroups) };
  }

  write(moves: readonly Move[]): void {
    const { count, groups, capacity, written } = this;
    for (let i = 0; i < count; i++) {
      const { sequence, from, to } = moves[i] ?? { sequence: -1, from: 0, to: 0 };
      const source = (of: number, g: number): number => (sequence < 0 ? -1 : (sequence * of + g) * capacity + from);
      written[i] = sequence;
      written[count + i] = to;
      written[2 * count + i] = source(1, 0);
      for (let g = 0; g < groups; g++) written[3 * count + i * groups + g] = source(groups, g);
    }
    this.integers.write(written);
  }

  dispose(): void {
    for (const tensor of [this.integers, ...this.views]) tensor.dispose();
  }
}
