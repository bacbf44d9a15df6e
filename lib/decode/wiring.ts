// How the heads of each family hang together while decoding: what head 1's logits need, and what the other heads need to
// propose tokens once it is known how far a draft was right.
import type { LanguageModel } from "../mtp/model.js";
import { moveRows, someRows, type CacheMoves, type ModuleCache, type StepRows } from "../nn/module.js";
import { cacheAppend } from "../ops/attention.js";
import { gatherRows } from "../ops/elementwise.js";
import { owning } from "../scope.js";
import { zeros, type Tensor } from "../tensor.js";

/** Rows that were read before: as StepRows, and each one's place in a cache, slot·capacity + position, (R) i32. */
export interface PastRows extends StepRows {
  readonly place: Tensor;
}

/** Made under `owning`. */
export interface Wiring {
  /** z (R, d) of the trunk → head 1's output (R, d). Keeps what the other heads will read, when there will be drafts. */
  headOne(z: Tensor, rows: StepRows): Tensor;
  /** Makes the caches of heads 2 to k, under `owning`: the first token does not wait for packing their weights. */
  prepare(k: number): void;
  /** Whether a head has to read every position before it can propose from one. */
  readonly reads: boolean;
  /** Lets heads `from` to `to` read past rows. */
  read(rows: PastRows, from: number, to: number): void;
  /** Outputs (L, d) of heads 2 to k at the past rows `last` (L) i32, counted within rows; reads the rows too. */
  propose(rows: PastRows, last: Tensor, k: number): Tensor[];
  /** Moves what `headOne` has kept. */
  move(moves: CacheMoves): void;
  dispose(): void;
}

/** `drafts`: whether heads 2 and up will be asked for anything. */
export function wire(model: LanguageModel, slots: number, capacity: number, drafts: boolean): Wiring {
  const size = { model, slots, capacity };
  if (model.config.headFamily === "anticausal") return new FromFurthest(size, drafts);
  return new FromFirst(size, drafts);
}

interface Size {
  readonly model: LanguageModel;
  readonly slots: number;
  readonly capacity: number;
}

/** Hidden states (d) of every position of every slot. */
class History {
  private readonly states: Tensor;

  constructor({ model, slots, capacity }: Size) {
    const { hiddenSize } = model.config;
    this.states = zeros([slots, 1, capacity, hiddenSize], { dtype: model.dtype, device: model.device, tag: "cache" });
  }

  write(x: Tensor, rows: StepRows): void {
    const [count = 0, width = 0] = x.shape;
    const each = x.view([count, 1, width]);
    cacheAppend(each, each, rows, this.states, this.states);
  }

  move(moves: CacheMoves): void {
    moveRows(moves, this.states, this.states);
  }

  at(places: Tensor): Tensor {
    const [slots = 0, , capacity = 0, width = 0] = this.states.shape;
    return gatherRows(this.states.view([slots * capacity, width]), places);
  }

  dispose(): void {
    this.states.dispose();
  }
}

/**
 * Head 1 reads the trunk. The others read the trunk too (parallel, linear, none), or each the one before it (causal): what
 * they start from is kept for every position, since they read a position only once it is known to stay.
 */
class FromFirst implements Wiring {
  private readonly first: ModuleCache;
  private readonly history: History | undefined;
  private readonly others: ModuleCache[] = [];
  private readonly chain: boolean;

  constructor(
    private readonly size: Size,
    drafts: boolean,
  ) {
    const [first] = size.model.heads;
    if (!first) throw new RangeError("a model has at least one head");
    this.first = first.module.newCache(size.slots, size.capacity);
    this.history = drafts ? new History(size) : undefined;
    this.chain = size.model.topology === "chain";
  }

  headOne(z: Tensor, rows: StepRows): Tensor {
    const output = this.first.forward(z, rows);
    this.history?.write(this.chain ? output : z, rows);
    return output;
  }

  prepare(k: number): void {
    const { model, slots, capacity } = this.size;
    for (const { module } of model.heads.slice(1 + this.others.length, k)) {
      this.others.push(owning(() => module.newCache(slots, capacity)));
    }
  }

  get reads(): boolean {
    return this.first.remember !== undefined;
  }

  read(rows: PastRows, from: number, to: number): void {
    let x = this.start(rows);
    for (const cache of this.others.slice(this.chain ? 0 : from - 2, to - 1)) {
      if (this.chain && cache !== this.others[to - 2]) x = cache.forward(x, rows);
      else cache.remember?.(x, rows);
    }
  }

  propose(rows: PastRows, last: Tensor, k: number): Tensor[] {
    const some = someRows(rows, last);
    let x = this.start(rows);
    if (!this.chain) return this.others.slice(0, k - 1).map((cache) => cache.forward(x, rows, some));
    return this.others.slice(0, k - 1).map((cache) => {
      x = cache.forward(x, rows);
      return some ? gatherRows(x, last) : x;
    });
  }

  move(moves: CacheMoves): void {
    this.first.move?.(moves);
    this.history?.move(moves);
  }

  private start(rows: PastRows): Tensor {
    if (!this.history) throw new RangeError("this session was opened without drafts");
    return this.history.at(rows.place);
  }

  dispose(): void {
    this.first.dispose();
    this.history?.dispose();
    for (const cache of this.others) cache.dispose();
  }
}

/**
 * Anticausal: head n reads the trunk, each head the one after it, head 1 last. All have read a position when head 1 has, so
 * that their outputs only need to be kept.
 */
class FromFurthest implements Wiring {
  readonly reads = false;
  private readonly chain: readonly { readonly ahead: number; readonly cache: ModuleCache }[];
  private readonly outputs: readonly History[];

  constructor(size: Size, drafts: boolean) {
    const { model, slots, capacity } = size;
    this.chain = model.headsInOrder.map(({ ahead, module }) => ({ ahead, cache: module.newCache(slots, capacity) }));
    this.outputs = drafts ? model.heads.slice(1).map(() => new History(size)) : [];
  }

  headOne(z: Tensor, rows: StepRows): Tensor {
    return this.chain.reduce((x, { ahead, cache }) => {
      const output = cache.forward(x, rows);
      this.outputs[ahead - 2]?.write(output, rows);
      return output;
    }, z);
  }

  prepare(): void {
    // They are on the way to head 1.
  }

  read(): void {
    // As above.
  }

  propose(rows: PastRows, last: Tensor, k: number): Tensor[] {
    const places = gatherRows(rows.place.view([rows.place.size, 1]), last).view([last.size]);
    return this.outputs.slice(0, k - 1).map((history) => history.at(places));
  }

  move(moves: CacheMoves): void {
    for (const { cache } of this.chain) cache.move?.(moves);
    for (const history of this.outputs) history.move(moves);
  }

  dispose(): void {
    for (const { cache } of this.chain) cache.dispose();
    for (const history of this.outputs) history.dispose();
  }
}
