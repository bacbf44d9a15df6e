// Path finding in a star graph, where every step but the first can be read off the step before it.
import { checkOptions } from "../errors.js";
import type { Random } from "./random.js";
import { type Bayes, checkSize, drawSequences, type PromptedSequence, type Task } from "./task.js";

export interface StarGraphOptions {
  /** d: paths that leave the start. Default 2. */
  readonly degree?: number | undefined;
  /** l: nodes of each path, the start among them. Default 5. */
  readonly pathLength?: number | undefined;
  /** N: labels that nodes are drawn from. Default 50. */
  readonly labels?: number | undefined;
  /** The path from goal to start: each step has one possible predecessor, so that nothing has to be planned. */
  readonly reverse?: boolean | undefined;
}

export interface StarGraphTask extends Task<PromptedSequence> {
  bayes(futureTokens: number): Bayes;
  /**
   * Of the best predictor that never looks at the goal, which is what the shortcut amounts to: it draws the first step at
   * random and follows the edges, so that whole paths are right once in d. Head i pays ln d at min(i, l−1) of its l
   * targets. NaN for heads that reach back into the list of edges.
   */
  withoutGoal(futureTokens: number): Bayes;
}

/** Tokens from the last edge's end to the path: `/ start goal =`. */
const gap = 4;
/** The goal is the last but one token before the path. */
const behindGoal = 2;

/**
 * Star graphs (Bachmann and Nagarajan, arXiv 2403.06963, section 4): d paths of l nodes, start included, with labels drawn
 * from N; edges in a shuffled list, then start and goal, then the path between them:
 *
 *     u v | u v | … | u v / start goal = start v₁ … goal
 *
 * Targets are the path's l nodes, judged those behind its first. The next token is always determined (floor 0); the
 * shortcut of following edges pays ln d at the first step alone. Split by graph and goal, whatever the order of the edges.
 *
 * @example
 * const data = taskDataset(starGraph({ degree: 2, pathLength: 5 }), "train", { count: 200_000 });
 */
export function starGraph(options: StarGraphOptions = {}): StarGraphTask {
  const name = "star-graph";
  checkOptions(name, options, ["degree", "pathLength", "labels", "reverse"]);
  const { degree = 2, pathLength = 5, labels = 50, reverse = false } = options;
  checkSize(name, "degree", degree, 2);
  checkSize(name, "pathLength", pathLength, 2);
  checkSize(name, "labels", labels, 1 + degree * (pathLength - 1));
  const marks = { bar: labels, equals: labels + 1, slash: labels + 2 };
  const promptLength = 3 * degree * (pathLength - 1) + gap - 1;
  const shape = { degree, pathLength, reverse };

  return {
    name,
    source: "arXiv 2403.06963, section 4",
    vocabSize: labels + 3,
    tokenNames: [...Array.from({ length: labels }, (_, label) => String(label)), "|", "=", "/"],
    maxLength: promptLength + pathLength,
    *sequences(split, draws = {}) {
      const draw = (random: Random): Star => drawStar(random, degree, pathLength, labels);
      const identify = ({ edges, start, goal }: Star): number[] => [start, goal, ...edges.toSorted(byNodes).flat()];
      for (const star of drawSequences(name, split, draws, draw, identify)) yield write(star);
    },
    bayes: (futureTokens) => floors(shape, futureTokens, (from) => from >= -behindGoal),
    withoutGoal: (futureTokens) => floors(shape, futureTokens, (from) => from >= (reverse ? 0 : 1)),
  };

  function write({ edges, start, goal, path }: Star): PromptedSequence {
    const list = edges.flatMap(([from, to], i) => (i === 0 ? [from, to] : [marks.bar, from, to]));
    const answer = reverse ? path.toReversed() : path;
    const tokens = Int32Array.of(...list, marks.slash, start, goal, marks.equals, ...answer);
    const lossMask = new Uint8Array(tokens.length).fill(1, promptLength);
    return { tokens, lossMask, judged: lossMask.slice().fill(0, promptLength, promptLength + 1), promptLength };
  }
}

interface Star {
  readonly edges: readonly (readonly [from: number, to: number])[];
  readonly start: number;
  readonly goal: number;
  /** (l): from start to goal. */
  readonly path: readonly number[];
}

function drawStar(random: Random, degree: number, pathLength: number, labels: number): Star {
  const [start = 0, ...others] = random.shuffle(Array.from({ length: labels }, (_, label) => label));
  const paths = Array.from({ length: degree }, (_, i) => [
    start,
    ...others.slice(i * (pathLength - 1), (i + 1) * (pathLength - 1)),
  ]);
  const edges = paths.flatMap((path) => path.slice(1).map((to, i) => [path[i] ?? start, to] as const));
  const path = paths[0] ?? [];
  return { edges: random.shuffle(edges), start, goal: path.at(-1) ?? start, path };
}

function byNodes(a: readonly [number, number], b: readonly [number, number]): number {
  return a[0] - b[0] || a[1] - b[1];
}

/**
 * Floors of a predictor that knows which of the d paths is meant from those columns on that `knows` says, counted from the
 * path's first. Before, all paths are as likely, and only the start is sure.
 */
function floors(
  { degree, pathLength, reverse }: { degree: number; pathLength: number; reverse: boolean },
  futureTokens: number,
  knows: (from: number) => boolean,
): Bayes {
  const columns = Array.from({ length: pathLength }, (_, column) => column);
  const start = reverse ? pathLength - 1 : 0;
  const unsure = Array.from({ length: futureTokens }, (_, i) => {
    const head = i + 1;
    if (head > gap + 1) return NaN; // the graph itself is not read to its end
    return columns.filter((column) => column !== start && !knows(column - head)).length / pathLength;
  });
  return {
    losses: unsure.map((share) => share * Math.log(degree)),
    accuracies: unsure.map((share) => 1 - share + share / degree),
  };
}
