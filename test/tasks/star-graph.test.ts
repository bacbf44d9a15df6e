// Star graphs against an enumeration of all of them, and what each sequence must be.
import { describe, expect, test } from "vitest";
import { starGraph, type StarGraphOptions } from "../../lib/tasks/star-graph.js";
import { bruteForce, type WeightedSequence } from "./brute-force.js";
import { checkTask } from "./checks.js";

function permutations<Value>(values: readonly Value[]): Value[][] {
  if (values.length === 0) return [[]];
  return values.flatMap((value, i) => permutations(values.toSpliced(i, 1)).map((rest) => [value, ...rest]));
}

/** Every graph with exactly as many labels as nodes, in every order of its edges; `blind`: with the goal hidden. */
function allGraphs(degree: number, pathLength: number, reverse: boolean, blind: boolean): WeightedSequence[] {
  const nodes = 1 + degree * (pathLength - 1);
  const places = Array.from({ length: nodes }, (_, i) => i); // 0 is the start; then path after path
  const before = (place: number): number => ((place - 1) % (pathLength - 1) === 0 ? 0 : place - 1);
  const edges = places.slice(1).map((place) => [before(place), place] as const);
  const path = places.slice(0, pathLength);
  const found: WeightedSequence[] = [];
  const orders = permutations(edges);
  const labellings = permutations(places);
  const probability = 1 / (orders.length * labellings.length);
  for (const labels of labellings) {
    const label = (place: number): number => labels[place] ?? 0;
    for (const order of orders) {
      const list = order.flatMap(([from, to], i) =>
        i > 0 ? [nodes, label(from), label(to)] : [label(from), label(to)],
      );
      const answer = (reverse ? path.toReversed() : path).map(label);
      const goal = label(pathLength - 1);
      const tokens = [...list, nodes + 2, label(0), goal, nodes + 1, ...answer];
      const prompt = list.length + 4;
      const seen = tokens.map((token, t) => (blind && t === prompt - 2 ? "?" : token));
      found.push({ tokens, probability, targets: tokens.map((_, t) => t >= prompt), seen });
    }
  }
  return found;
}

describe("star graphs", () => {
  test("sequences", () => {
    checkTask(starGraph(), 200);
    checkTask(starGraph({ degree: 3, pathLength: 3, labels: 7, reverse: true }), 100);
  });

  describe.each([
    [2, 3],
    [3, 2],
    [2, 2],
  ])("degree %i, path length %i", (degree, pathLength) => {
    const labels = 1 + degree * (pathLength - 1);
    test.each([false, true])("floors are those of the enumeration; reverse: %s", (reverse) => {
      const task = starGraph({ degree, pathLength, labels, reverse });
      const wanted = bruteForce(allGraphs(degree, pathLength, reverse, false), 5);
      const got = task.bayes(6);
      for (let i = 0; i < 5; i++) {
        expect(got.losses[i]).toBeCloseTo(wanted.losses[i] ?? NaN, 12);
        expect(got.accuracies[i]).toBeCloseTo(wanted.accuracies[i] ?? NaN, 12);
      }
      expect(got.losses.slice(0, 2)).toEqual([0, 0]);
      expect(got.losses[5]).toBeNaN();
    });

    test.each([false, true])("so are those without the goal; reverse: %s", (reverse) => {
      const task = starGraph({ degree, pathLength, labels, reverse });
      const wanted = bruteForce(allGraphs(degree, pathLength, reverse, true), 5);
      const got = task.withoutGoal(5);
      for (let i = 0; i < 5; i++) {
        expect(got.losses[i]).toBeCloseTo(wanted.losses[i] ?? NaN, 12);
        expect(got.losses[i]).toBeCloseTo((Math.min(i + 1, pathLength - 1) * Math.log(degree)) / pathLength, 12);
        expect(got.accuracies[i]).toBeCloseTo(wanted.accuracies[i] ?? NaN, 12);
      }
    });
  });

  test("the shortcut pays ln 2 at one of five targets", () => {
    expect(starGraph().withoutGoal(1).losses[0]).toBeCloseTo(Math.LN2 / 5, 14);
  });

  test.each<[string, StarGraphOptions]>([
    ["forward", {}],
    ["reverse", { reverse: true }],
    ["four paths", { degree: 4, pathLength: 4, labels: 20 }],
  ])("a sequence lists a star and its answer walks from start to goal: %s", (_, options) => {
    const { degree = 2, pathLength = 5, labels = 50, reverse = false } = options;
    for (const { tokens, lossMask, judged, promptLength } of starGraph(options).sequences("train", { count: 100 })) {
      const text = [...tokens];
      const slash = text.indexOf(labels + 2);
      const edges = text
        .slice(0, slash)
        .join(" ")
        .split(` ${labels} `)
        .map((edge) => edge.split(" ").map(Number));
      expect(edges).toHaveLength(degree * (pathLength - 1));
      const [start = -1, goal = -1, equals] = text.slice(slash + 1, promptLength);
      expect(equals).toBe(labels + 1);
      const next = new Map<number, number[]>();
      for (const [from = -1, to = -1] of edges) next.set(from, [...(next.get(from) ?? []), to]);
      expect(next.get(start)).toHaveLength(degree);
      const arms = (next.get(start) ?? []).map((first) => {
        const arm = [start, first];
        for (let at = next.get(first)?.[0]; at !== undefined; at = next.get(at)?.[0]) arm.push(at);
        return arm;
      });
      expect(new Set(arms.flat()).size).toBe(1 + degree * (pathLength - 1));
      const path = arms.find((arm) => arm.at(-1) === goal);
      expect(path).toHaveLength(pathLength);
      expect(text.slice(promptLength)).toEqual(reverse ? path?.toReversed() : path);
      expect([...(lossMask ?? [])]).toEqual(text.map((_, t) => (t >= promptLength ? 1 : 0)));
      expect([...judged]).toEqual(text.map((_, t) => (t > promptLength ? 1 : 0)));
    }
  });

  test("one graph in another order of its edges lies on the same side", () => {
    const task = starGraph({ degree: 2, pathLength: 2, labels: 5 });
    const sides = new Map<string, string>();
    for (const split of ["train", "eval"] as const) {
      for (const { tokens } of task.sequences(split, { count: 1000 })) {
        const [a, b, , c, d, , ...rest] = tokens;
        const graph = [[a, b].join(), [c, d].join()].sort().join("|") + rest.join();
        expect(sides.get(graph) ?? split).toBe(split);
        sides.set(graph, split);
      }
    }
    expect(new Set(sides.values()).size).toBe(2);
    expect(sides.size).toBe(60);
  });

  test.each<[string, StarGraphOptions]>([
    ["degree", { degree: 1 }],
    ["pathLength", { pathLength: 1 }],
    ["labels", { degree: 5, pathLength: 5, labels: 20 }],
  ])("refuses a bad %s", (argument, options) => {
    expect(() => starGraph(options)).toThrow(expect.objectContaining({ code: "BAD_OPTION", argument }));
  });
});
