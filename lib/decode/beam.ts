// Beam search with head 1's exact scores. The other heads can save forwards: what they propose is read together with the
// beams' ends, and as long as the beams grow within it, they grow without another forward.
import type { z } from "zod";
import { ForetokenError } from "../errors.js";
import type { LanguageModel } from "../mtp/model.js";
import { lazySchema, parseOptions } from "../validation.js";
import { promptTokens, throwIfAborted } from "./generate.js";
import { type Draw, greedy, type Row } from "./inputs.js";
import { notFinite, type Ending } from "./sequence.js";
import { DecodeSession } from "./session.js";
import { checkTree, DraftShape, type DraftTree } from "./tree.js";

export interface BeamSearchOptions {
  /** Texts that are kept after each token. Default 4. */
  numBeams?: number | undefined;
  /** Default 200. */
  maxNewTokens?: number | undefined;
  /**
   * What the heads propose behind each beam, to save forwards; the result is the same. Default: nothing, since rows cost
   * more than they save where a forward is cheap.
   */
  tree?: DraftTree | undefined;
  signal?: AbortSignal | undefined;
  /** How many tokens of the prompt are read at once. Default 64. */
  promptChunk?: number | undefined;
}

export interface Hypothesis {
  /** What follows the prompt, without an end-of-text token. */
  readonly tokens: readonly number[];
  /** The same, of a model with a tokenizer. */
  readonly text: string | undefined;
  /** Natural log of head 1's probability of the tokens, and of the end of the text where it ends. */
  readonly logProbability: number;
  readonly finished: Ending;
}

export interface BeamSearchResult {
  /** The likeliest first. */
  readonly hypotheses: readonly Hypothesis[];
  /** Forwards behind the prompt. */
  readonly forwards: number;
}

const schema = lazySchema((z) =>
  z.strictObject({
    numBeams: z.int().positive().default(4),
    maxNewTokens: z.int().nonnegative().default(200),
    tree: z.array(z.array(z.number())).optional(),
    signal: z.instanceof(AbortSignal).optional(),
    promptChunk: z.int().positive().default(64),
  }),
);
type Settings = z.output<ReturnType<typeof schema>>;

/**
 * The likeliest continuations that are found by keeping, after each token, the `numBeams` likeliest of all texts so far and
 * their continuations by one token. A text that ends stays among them with its probability.
 * Throws as `generateTokens`.
 *
 * @example
 * const { hypotheses } = await beamSearch(model, "export function ", { numBeams: 4, maxNewTokens: 40 });
 */
export async function beamSearch(
  model: LanguageModel,
  prompt: string | readonly number[] | Int32Array,
  options: BeamSearchOptions = {},
): Promise<BeamSearchResult> {
  const settings = parseOptions(schema(), options, "BAD_OPTION", "beamSearch");
  const shape = shapeOf(model, settings);
  const search = new BeamSearch(model, promptTokens(model, prompt, { context: "stop" }), settings, shape);
  try {
    return await search.run();
  } finally {
    search.dispose();
  }
}

function shapeOf(model: LanguageModel, { tree }: Settings): DraftShape {
  if (!tree) return DraftShape.chain(0);
  if (model.config.trunk === "rnn") {
    throw new ForetokenError("BAD_OPTION", {
      ...{ op: "beamSearch", argument: "tree", got: "a tree" },
      wanted: "none with an RNN trunk, which reads one position after the other",
    });
  }
  checkTree(tree, { heads: model.heads.length, vocabSize: model.config.vocabSize });
  return new DraftShape(tree);
}

/** A token of all texts that share it and what is before it. The root is the prompt's last one. */
class Node {
  readonly position: number;
  readonly children = new Map<number, Node>();
  /** Where it is in the caches, once it has been read. */
  place: number | undefined;
  /** The likeliest tokens behind it, and the logs of their probabilities, once it has been read. */
  likeliest: Int32Array | undefined;
  logProbabilities: Float32Array | undefined;
  readByHeads = false;

  /** token: of a draft, where it will be found. */
  constructor(
    public token: number,
    readonly parent: Node | undefined,
    position?: number,
  ) {
    this.position = position ?? (parent?.position ?? -1) + 1;
  }

  /** Itself and its ancestors, the root first. */
  get path(): Node[] {
    const path: Node[] = [];
    for (let node: Node | undefined = this; node; node = node.parent) path.push(node); // eslint-disable-line @typescript-eslint/no-this-alias
    return path.reverse();
  }

  child(token: number): Node {
    const known = this.children.get(token);
    if (known) return known;
    const child = new Node(token, this);
    this.children.set(token, child);
    return child;
  }
}

interface Beam {
  readonly node: Node;
  readonly logProbability: number;
  readonly finished: Ending | undefined;
}

class BeamSearch {
  private readonly session: DecodeSession;
  private readonly count: number;
  /** Tokens that a text may get. */
  private readonly room: number;
  private readonly free: number[];
  private readonly root: Node;
  /** Those that have been read, but for the root. */
  private nodes: Node[] = [];
  private forwards = 0;

  constructor(
    private readonly model: LanguageModel,
    private readonly prompt: Int32Array,
    private readonly settings: Settings,
    private readonly shape: DraftShape,
  ) {
    const { numBeams, maxNewTokens, promptChunk } = settings;
    const { maxPositions, vocabSize } = model.config;
    this.count = Math.min(numBeams, vocabSize);
    this.room = Math.min(maxNewTokens, maxPositions - prompt.length + 1);
    const places = numBeams * (this.room + 1 + 2 * shape.size); // texts, drafts that may come true yet, new ones
    this.free = Array.from({ length: places }, (_, i) => prompt.length + places - 1 - i);
    this.session = new DecodeSession(model, 1, prompt.length + places, {
      drafts: shape.size > 0,
      rowsAtOnce: Math.max(promptChunk, numBeams * (1 + shape.size)),
      requestsAtOnce: numBeams,
      candidates: shape.candidates,
      reach: this.room + shape.depth,
    });
    const position = prompt.length - 1;
    this.root = new Node(prompt[position] ?? 0, undefined, position);
  }

  async run(): Promise<BeamSearchResult> {
    await this.readPrompt();
    let beams: readonly Beam[] = [{ node: this.root, logProbability: 0, finished: undefined }];
    for (let length = 0; length < this.room && beams.some(({ finished }) => !finished); length++) {
      throwIfAborted(this.settings.signal);
      const unread = beams.filter(({ node, finished }) => !finished && !node.likeliest).map(({ node }) => node);
      if (unread.length > 0) {
        this.forget(beams);
        await this.read(unread, this.room - length - 1);
      }
      beams = this.grow(beams);
    }
    const last = this.room < this.settings.maxNewTokens ? "context" : "length";
    return { hypotheses: beams.map((beam) => this.hypothesis(beam, last)), forwards: this.forwards };
  }

  private async readPrompt(): Promise<void> {
    const { promptChunk, signal } = this.settings;
    const end = this.prompt.length - 1;
    for (let start = 0; start < end; start += promptChunk) {
      throwIfAborted(signal);
      const rows = Array.from(this.prompt.subarray(start, Math.min(start + promptChunk, end)), (token, i) => {
        return { token, sequence: 0, position: start + i };
      });
      await this.session.verify(
        rows,
        rows.map(() => undefined),
      );
    }
  }

  /** The likeliest of the texts that have ended and of all others with one token more. */
  private grow(beams: readonly Beam[]): readonly Beam[] {
    const grown = beams.flatMap((beam) => {
      const { node, logProbability, finished } = beam;
      if (finished) return [beam];
      return Array.from(node.likeliest ?? [], (token, i) => {
        if (token < 0) throw notFinite();
        const all = logProbability + (node.logProbabilities?.[i] ?? NaN);
        if (token === this.model.tokenizer?.eosToken) return { node, logProbability: all, finished: "eos" as const };
        return { node: node.child(token), logProbability: all, finished: undefined };
      });
    });
    return grown.sort((a, b) => b.logProbability - a.logProbability).slice(0, this.settings.numBeams);
  }

  /** Reads nodes of one position, and what the heads propose behind them, at most `deepest` tokens. */
  private async read(unread: readonly Node[], deepest: number): Promise<void> {
    const drafts = this.propose(unread, this.shape.sizeWithin(deepest));
    const nodes = [...unread, ...drafts];
    for (const node of nodes) node.place = node === this.root ? node.position : this.free.pop();
    const { read, likeliest, logProbabilities } = await this.session.expand(
      nodes.map((node) => this.row(node)),
      this.count,
    );
    this.forwards++;
    for (const [i, node] of nodes.entries()) {
      node.token = read[i] ?? -1;
      node.likeliest = likeliest.slice(i * this.count, (i + 1) * this.count);
      node.logProbabilities = logProbabilities.slice(i * this.count, (i + 1) * this.count);
    }
    for (const node of drafts) node.parent?.children.set(node.token, node);
    this.nodes.push(...nodes.filter((node) => node !== this.root));
  }

  /** The shape's first `count` nodes behind each of these, whose tokens the heads draw from the position before them. */
  private propose(unread: readonly Node[], count: number): Node[] {
    const sources = unread.flatMap(({ parent }) => parent ?? []);
    if (count === 0 || sources.length === 0) return []; // the root's second token has nothing to go on from
    const k = 1 + this.shape.depthOf(count);
    this.session.readWithHeads(0, this.prompt.length - 1, k);
    const behind = sources.flatMap(({ path }) => path.filter(({ readByHeads }) => !readByHeads));
    const nodes = [...new Set([...behind, ...sources])].sort((a, b) => a.position - b.position);
    for (const node of nodes) node.readByHeads = true;
    void this.session.proposeAfter(
      nodes.map((node) => this.row(node)),
      sources.map((node) => nodes.indexOf(node)),
      Array<Draw>((k - 1) * sources.length).fill(greedy),
      k,
    );
    return unread.flatMap((node, i) => {
      const drafts: Node[] = [];
      for (const { parent, depth, rank } of this.shape.nodes.slice(0, count)) {
        const place = -1 - (((depth - 1) * sources.length + i) * this.shape.candidates + rank);
        drafts.push(new Node(place, drafts[parent] ?? node));
      }
      return drafts;
    });
  }

  private row(node: Node): Row {
    const branch = node.path.slice(1).map(({ place = 0 }) => place);
    return { token: node.token, sequence: 0, position: node.position, branch };
  }

  /** Gives back the places of all that is in none of the beams, nor a draft behind one. */
  private forget(beams: readonly Beam[]): void {
    const kept = new Set(beams.flatMap(({ node }) => node.path));
    const ends = new Set(beams.map(({ node }) => node));
    for (const node of this.nodes) {
      if (node.parent && ends.has(node.parent)) ends.add(node);
      if (kept.has(node) || ends.has(node)) {
        kept.add(node);
        continue;
      }
      if (node.place !== undefined) this.free.push(node.place);
      node.parent?.children.delete(node.token);
    }
    this.nodes = this.nodes.filter((node) => kept.has(node));
  }

  private hypothesis({ node, logProbability, finished }: Beam, otherwise: Ending): Hypothesis {
    const tokens = node.path.slice(1).map(({ token }) => token);
    const text = this.model.tokenizer?.decode(tokens);
    return { tokens, text, logProbability, finished: finished ?? otherwise };
  }

  dispose(): void {
    this.session.dispose();
  }
}
