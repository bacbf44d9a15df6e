// A model's memory while it generates: caches of the trunk and of the modules on the way to head 1, and packed weights.
import type { LanguageModel } from "../mtp/model.js";
import type { ModuleCache, StepRows, TrunkCache } from "../nn/module.js";
import { packWeight, linear } from "../ops/linear.js";
import { gatherRows } from "../ops/elementwise.js";
import { owning, scope } from "../scope.js";
import type { Parameter } from "../tape.js";
import { tensor, type Tensor } from "../tensor.js";

/** One token to be read: which sequence (cache slot) and which position it has. */
export interface Row {
  readonly token: number;
  readonly sequence: number;
  readonly position: number;
}

/**
 * Reads tokens and gives head 1's logits. A position's logits depend on its own prefix alone, bit for bit: not on how
 * many rows are read together, nor on what other sequences do.
 */
export class DecodeSession {
  private readonly trunk: TrunkCache;
  private readonly path: readonly ModuleCache[];
  private readonly unembedding: Tensor;
  private readonly bias: Parameter | undefined;

  /** slots: sequences held at once; capacity: positions each can hold. */
  constructor(
    private readonly model: LanguageModel,
    slots: number,
    readonly capacity: number,
  ) {
    const path = model.topology === "chain" ? model.headsInOrder : model.heads;
    const end = path.findIndex(({ ahead }) => ahead === 1) + 1;
    const first = path[end - 1];
    if (!first) throw new RangeError("a model has at least one head");
    const made = owning(() => ({
      trunk: model.trunk.newCache(slots, capacity),
      path: path.slice(0, end).map(({ module }) => module.newCache(slots, capacity)),
      unembedding: packWeight(first.unembedding.weight),
    }));
    this.trunk = made.trunk;
    this.path = made.path;
    this.unembedding = made.unembedding;
    this.bias = first.unembedding.bias;
  }

  /** Reads the rows, in order of position within a sequence; returns the logits (M, V) of the rows at `wanted`. */
  read(rows: readonly Row[], wanted: readonly number[]): Tensor {
    const { device } = this.model;
    const column = (values: readonly number[]): Tensor => tensor(Int32Array.from(values), { dtype: "i32", device });
    return scope(() => {
      const where: StepRows = {
        sequence: column(rows.map(({ sequence }) => sequence)),
        position: column(rows.map(({ position }) => position)),
        runs: runsOf(rows),
      };
      const z = this.trunk.forward(column(rows.map(({ token }) => token)), where);
      const output = this.path.reduce((x, cache) => cache.forward(x, where), z);
      const hidden = this.model.finish(gatherRows(output, column(wanted)));
      return linear(hidden, this.unembedding, {
        bias: this.bias,
        dtype: this.model.dtype === "bf16" ? "f32" : undefined,
      });
    });
  }

  dispose(): void {
    this.trunk.dispose();
    for (const cache of this.path) cache.dispose();
    this.unembedding.dispose();
  }
}

/** Lengths of the runs of consecutive rows of one sequence. */
function runsOf(rows: readonly Row[]): number[] {
  const runs: number[] = [];
  rows.forEach(({ sequence }, i) => {
    if (i > 0 && rows[i - 1]?.sequence === sequence) runs.push((runs.pop() ?? 0) + 1);
    else runs.push(1);
  });
  return runs;
}
