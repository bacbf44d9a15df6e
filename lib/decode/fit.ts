// A tree of drafts from what the heads get right on held-out data.
import { ForetokenError } from "../errors.js";
import type { Dataset } from "../io/dataset.js";
import { DeviceBatch } from "../mtp/batch.js";
import { checkVocabulary, type LanguageModel } from "../mtp/model.js";
import { tokenLosses, type Targets } from "../ops/cross-entropy.js";
import { owning, scope } from "../scope.js";
import { empty, type Tensor } from "../tensor.js";
import type { DraftTree } from "./tree.js";

export interface FitTreeOptions {
  /** Nodes wanted. Default 32. */
  nodes?: number | undefined;
  /** Default 8. */
  batchSize?: number | undefined;
  /** Default: the model's maxPositions. */
  contextLength?: number | undefined;
  /** Stop after so many batches. Default: all. */
  maxBatches?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface FittedTree {
  /** The nodes that were right most often, the most often first. */
  readonly tree: DraftTree;
  /** Tokens that a forward adds with none of the nodes, with the first, with the first two, and so on. */
  readonly expectedTokensPerForward: readonly number[];
  /** Positions that were counted. */
  readonly positions: number;
}

/**
 * Counts, at every position of the data, which candidate of each head is head 1's later choice, and takes the paths that
 * are right most often: with teacher forcing no other tree of so many nodes adds more tokens per forward.
 * Throws BAD_DATA for data that does not fit the model, BAD_OPTION for a model with one head or an RNN trunk, ABORTED.
 *
 * @example
 * const { tree } = await fitTree(model, heldOut, { nodes: 16 });
 * for await (const text of generate(model, prompt, { tree })) process.stdout.write(text);
 */
export async function fitTree(model: LanguageModel, data: Dataset, options: FitTreeOptions = {}): Promise<FittedTree> {
  checkVocabulary(model, data);
  const { nodes = 32, batchSize = 8, contextLength = model.config.maxPositions, maxBatches, signal } = options;
  checkSettings(model, nodes);
  const shape = { batchSize, contextLength, lookahead: model.config.futureTokens };
  const [batch, likeliest] = owning(() => [
    new DeviceBatch(model.device, shape),
    empty([batchSize, contextLength + shape.lookahead], { dtype: "i32", device: model.device, tag: "data" }),
  ]);
  const counts = new PathCounts(nodes);
  try {
    let count = 0;
    for (const host of data.evalBatches(shape)) {
      if (signal?.aborted) throw new ForetokenError("ABORTED", "the fit was cancelled", { op: "fitTree" });
      if (maxBatches !== undefined && count++ >= maxBatches) break;
      batch.write(host);
      const ranks = await headRanks(model, batch, likeliest);
      for (let row = 0; row < batchSize * contextLength; row++) counts.add(ranks.map((each) => each[row] ?? -1));
    }
  } finally {
    batch.dispose();
    likeliest.dispose();
  }
  return counts.best(nodes);
}

function checkSettings(model: LanguageModel, nodes: number): void {
  const refuse = (argument: string, wanted: string, got: string): never => {
    throw new ForetokenError("BAD_OPTION", { op: "fitTree", argument, wanted, got });
  };
  if (model.config.trunk === "rnn") refuse("model", "a transformer trunk, which can read a tree", "an RNN trunk");
  if (model.heads.length < 2) refuse("model", "at least 2 prediction heads", String(model.heads.length));
  if (!Number.isSafeInteger(nodes) || nodes < 1) refuse("nodes", "a whole number above 0", String(nodes));
}

/**
 * Of heads 2 and up, for every position: how many tokens the head finds likelier than the one that head 1 chooses at the
 * place in question; −1 past the end of the document. likeliest (B, T + n) i32: room for head 1's choices.
 */
async function headRanks(model: LanguageModel, batch: DeviceBatch, likeliest: Tensor): Promise<Int32Array[]> {
  const [first] = forwardHeads(model, batch, { tokens: batch.targets, limit: batch.limit, shift: 1 }, [1]);
  const { length, batchSize } = batch;
  const chosen = (await first?.argmax.data()) as Int32Array;
  first?.argmax.dispose();
  first?.rank.dispose();
  const stored = likeliest.shape[1] ?? 0;
  const targets = new Int32Array(batchSize * stored).fill(-1);
  for (let b = 0; b < batchSize; b++) targets.set(chosen.subarray(b * length, (b + 1) * length), b * stored + 1);
  likeliest.write(targets);
  const others = model.heads.slice(1).map(({ ahead }) => ahead);
  const ranked = forwardHeads(model, batch, { tokens: likeliest, limit: batch.limit, shift: 0 }, others);
  try {
    return await Promise.all(ranked.map(async ({ rank }) => (await rank.data()) as Int32Array));
  } finally {
    for (const { argmax, rank } of ranked) {
      argmax.dispose();
      rank.dispose();
    }
  }
}

/** Of the heads `wanted`, in order, what each says of its own targets. */
function forwardHeads(
  model: LanguageModel,
  batch: DeviceBatch,
  targets: Targets,
  wanted: readonly number[],
): { argmax: Tensor; rank: Tensor }[] {
  return scope(() => {
    const context = { firstKey: batch.firstKey };
    const z = model.trunk.forward(batch.tokens, batch.length, context);
    const all = model.mapHeads(z, context, ({ ahead, unembedding: { weight, bias } }, hidden) => {
      if (!wanted.includes(ahead)) return undefined;
      const { argmax, rank } = tokenLosses(hidden, weight, { ...targets, shift: ahead }, { bias });
      return { argmax, rank };
    });
    return all.filter((each) => each !== undefined);
  });
}

/** How often each path of candidates was right. */
class PathCounts {
  private readonly right = new Map<string, { readonly path: readonly number[]; count: number }>();
  private positions = 0;

  /** Candidates of a rank of `ranks` and more are in no tree. */
  constructor(private readonly ranks: number) {}

  /** path: which candidate of each head was right; positions where a head's place is past the document do not count. */
  add(path: readonly number[]): void {
    if (path.includes(-1)) return;
    this.positions++;
    for (let length = 1; length <= path.length && (path[length - 1] ?? 0) < this.ranks; length++) {
      const start = path.slice(0, length);
      const known = this.right.get(start.join());
      if (known) known.count++;
      else this.right.set(start.join(), { path: start, count: 1 });
    }
  }

  /** A path is right at most as often as its beginning: those that are right most often are a tree. */
  best(nodes: number): FittedTree {
    const { positions } = this;
    if (positions === 0) {
      throw new ForetokenError("BAD_DATA", {
        ...{ op: "fitTree", argument: "data", got: "none" },
        wanted: "documents longer than the model's prediction heads look ahead",
      });
    }
    const byCount = [...this.right.values()].sort((a, b) => b.count - a.count || a.path.length - b.path.length);
    const chosen = byCount.slice(0, nodes);
    const expectedTokensPerForward = [1];
    for (const { count } of chosen) {
      expectedTokensPerForward.push((expectedTokensPerForward.at(-1) ?? 1) + count / positions);
    }
    return { tree: chosen.map(({ path }) => path), expectedTokensPerForward, positions };
  }
}
