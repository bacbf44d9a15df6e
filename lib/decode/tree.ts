// The shape of a draft: a chain of tokens, or several continuations that share their beginnings (Medusa, arXiv 2401.10774).
import { ForetokenError } from "../errors.js";

/**
 * A sparse tree of candidates: each node is the path to it, the rank of the candidate that is taken of head 2's, then of
 * head 3's, and so on; 0 is the likeliest. A node comes after its parent. `[[0], [0, 0], [1]]`: head 2's likeliest token,
 * head 3's behind it, and head 2's second choice.
 */
export type DraftTree = readonly (readonly number[])[];

interface Node {
  /** Which node it follows; −1: the last known token. */
  readonly parent: number;
  readonly rank: number;
  /** 1 for the first token of a draft. */
  readonly depth: number;
  /** Where in the caches it is read, counted from the last known token's place. */
  readonly offset: number;
  /** The offsets of its ancestors and its own; undefined where they are its depths. */
  readonly branch: readonly number[] | undefined;
}

/** A tree, or the first nodes of one, to be read in order. */
export class DraftShape {
  readonly nodes: readonly Node[];
  /** Whether its nodes follow each other. */
  readonly isChain: boolean;
  /** What follows the last known token, node 0, node 1, … */
  private readonly followers: readonly (readonly number[])[];
  /** Depth of the first `count` nodes, for every count from 0 on. */
  private readonly depths: readonly number[];

  /** paths: as in DraftTree, checked. */
  constructor(paths: DraftTree) {
    const indices = new Map(paths.map((path, i) => [path.join(), i]));
    const depth = Math.max(0, ...paths.map(({ length }) => length));
    const nodes: Node[] = [];
    let aside = 0;
    for (const path of paths) {
      const parent = path.length === 1 ? -1 : (indices.get(path.slice(0, -1).join()) ?? -1);
      // The likeliest chain lies where it is to stay, the others behind it.
      const offset = path.every((rank) => rank === 0) ? path.length : depth + ++aside;
      const before = nodes[parent];
      const start = before ? (before.branch ?? ascending(before.depth)) : [];
      const branch = offset === path.length ? undefined : [...start, offset];
      nodes.push({ parent, rank: path.at(-1) ?? 0, depth: path.length, offset, branch });
    }
    this.nodes = nodes;
    this.isChain = nodes.every(({ branch }) => !branch);
    this.followers = [-1, ...nodes.keys()].map((node) => {
      return [...nodes.keys()].filter((i) => nodes[i]?.parent === node);
    });
    this.depths = nodes.reduce((depths, node) => [...depths, Math.max(depths.at(-1) ?? 0, node.depth)], [0]);
  }

  /** One token after the other. */
  static chain(length: number): DraftShape {
    return new DraftShape(Array.from({ length }, (_, i) => Array<number>(i + 1).fill(0)));
  }

  get size(): number {
    return this.nodes.length;
  }

  get depth(): number {
    return this.depthOf(this.size);
  }

  /** Of the first `count` nodes. */
  depthOf(count: number): number {
    return this.depths[count] ?? 0;
  }

  /** The most nodes, from the first on, that are at most so deep. */
  sizeWithin(depth: number): number {
    return this.depths.findLastIndex((each) => each <= depth);
  }

  /** The part that is at most so deep. */
  upTo(depth: number): DraftShape {
    return new DraftShape(this.paths.filter(({ length }) => length <= depth));
  }

  /** Candidates that each head has to name. */
  get candidates(): number {
    return 1 + Math.max(0, ...this.nodes.map(({ rank }) => rank));
  }

  /** Places that the caches need behind those of a text's positions: a chain never goes beyond them. */
  get placesBehind(): number {
    return this.isChain ? 0 : Math.max(...this.nodes.map(({ offset }) => offset));
  }

  /** The nodes that follow one, or for −1 the last known token. */
  following(node: number): readonly number[] {
    return this.followers[node + 1] ?? [];
  }

  get paths(): DraftTree {
    const paths: number[][] = [];
    for (const { parent, rank } of this.nodes) paths.push([...(paths[parent] ?? []), rank]);
    return paths;
  }
}

/** Throws BAD_OPTION for what is not a tree that `heads` heads over `vocabSize` tokens can propose. */
export function checkTree(paths: DraftTree, { heads, vocabSize }: { heads: number; vocabSize: number }): void {
  const seen = new Set<string>([""]);
  const refuse = (wanted: string, got: string): never => {
    throw new ForetokenError("BAD_OPTION", { op: "generate", argument: "tree", wanted, got });
  };
  if (paths.length === 0) refuse("at least one node", "none");
  for (const path of paths) {
    const shown = `[${path.join(", ")}]`;
    if (path.length < 1 || path.length >= heads) {
      refuse(`paths of 1 to ${heads - 1} ranks (the model's heads behind the first)`, shown);
    }
    if (!path.every((rank) => Number.isSafeInteger(rank) && rank >= 0 && rank < vocabSize)) {
      refuse(`ranks from 0 to ${vocabSize - 1} (the model's tokens)`, shown);
    }
    if (!seen.has(path.slice(0, -1).join())) refuse("every node after its parent", shown);
    if (seen.has(path.join())) refuse("every node once", shown);
    seen.add(path.join());
  }
}

const ascending = (length: number): number[] => Array.from({ length }, (_, i) => i + 1);
