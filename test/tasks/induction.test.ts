// Stories against an enumeration of all of them, at a size where that can be done.
import { describe, expect, test } from "vitest";
import { induction, type InductionOptions } from "../../lib/tasks/induction.js";
import type { TaskSequence } from "../../lib/tasks/task.js";
import { bruteForce, type WeightedSequence } from "./brute-force.js";
import { checkTask } from "./checks.js";

type Settings = Required<{ [Name in keyof InductionOptions]: number }>;

/** Every story with its probability: all casts, all ways through the places. Judged are names said in full before. */
function allStories(settings: Settings): WeightedSequence[] {
  const { length, backgroundTokens: W, firstTokens: F, secondTokens: S, names, mentionEvery } = settings;
  const casts = ordered(F, names).flatMap((firsts) => ordered(S, names).map((seconds) => ({ firsts, seconds })));
  const found: WeightedSequence[] = [];
  for (const { firsts, seconds } of casts) {
    const grow = (tokens: number[], targets: boolean[], said: readonly number[], probability: number): void => {
      if (tokens.length >= length) {
        found.push({ tokens: tokens.slice(0, length), targets: targets.slice(0, length), probability });
        return;
      }
      const plain = (probability * (1 - 1 / mentionEvery)) / W;
      for (let w = 0; w < W; w++) grow([...tokens, w], [...targets, false], said, plain);
      for (let name = 0; name < names; name++) {
        const both = [W + (firsts[name] ?? 0), W + F + (seconds[name] ?? 0)];
        const judged = [false, said.includes(name)];
        grow([...tokens, ...both], [...targets, ...judged], [...said, name], probability / mentionEvery / names);
      }
    };
    grow([], [], [], 1 / casts.length);
  }
  return found;
}

/** All ways to draw `count` of 0..n−1 in order. */
function ordered(n: number, count: number): number[][] {
  if (count === 0) return [[]];
  return ordered(n, count - 1).flatMap((drawn) =>
    Array.from({ length: n }, (_, i) => i)
      .filter((i) => !drawn.includes(i))
      .map((i) => [...drawn, i]),
  );
}

const withoutTargets = (stories: readonly WeightedSequence[]): WeightedSequence[] =>
  stories.map(({ tokens, probability }) => ({ tokens, probability }));

describe("induction", () => {
  test("sequences", () => {
    checkTask(induction(), 200);
  });

  const small = { length: 6, backgroundTokens: 2, firstTokens: 2, secondTokens: 3, names: 2, mentionEvery: 2 };
  test.each<[string, Settings]>([
    ["two names", small],
    ["one name of three first tokens", { ...small, firstTokens: 3, names: 1, mentionEvery: 3 }],
    ["as many names as tokens", { ...small, length: 7, backgroundTokens: 1, secondTokens: 2 }],
    ["rare mentions", { ...small, length: 5, firstTokens: 3, mentionEvery: 5 }],
  ])("Bayes losses and accuracies are those of the enumeration: %s", (_, settings) => {
    const stories = allStories(settings);
    expect(stories.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 12);
    const heads = settings.length - 1;
    const [wanted, got] = [bruteForce(withoutTargets(stories), heads), induction(settings).bayes(heads)];
    for (let i = 0; i < heads; i++) {
      expect(got.losses[i]).toBeCloseTo(wanted.losses[i] ?? NaN, 12);
      expect(got.accuracies[i]).toBeCloseTo(wanted.accuracies[i] ?? NaN, 12);
    }
  });

  test.each<[string, Settings]>([
    ["two names", { ...small, length: 7 }],
    ["one name", { ...small, names: 1, length: 8, backgroundTokens: 1 }],
  ])("so are the losses on judged targets: %s", (_, settings) => {
    const wanted = bruteForce(allStories(settings), 3).losses;
    const got = induction(settings).judgedLosses(3);
    expect(got[0]).toBe(0);
    for (const i of [0, 1, 2]) expect(got[i]).toBeCloseTo(wanted[i] ?? NaN, 12);
  });

  test("a predictor that counts names in the text pays the Bayes loss of head 1, within the error of a sample", () => {
    const task = induction();
    const losses = [...task.sequences("train", { seed: 3, count: 4000 })].map(readingLoss);
    const mean = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
    const variance = losses.reduce((sum, loss) => sum + (loss - mean) ** 2, 0) / (losses.length - 1);
    const error = Math.sqrt(variance / losses.length);
    expect(Math.abs(mean - (task.bayes(1).losses[0] ?? NaN))).toBeLessThan(4 * error);
    expect(error).toBeLessThan(0.01);
  });

  /** −log P of the default process, token by token from its description, mean over a story's 47 targets. */
  function readingLoss({ tokens }: TaskSequence): number {
    const known = new Map<number, number>();
    let begun: number | undefined;
    let nats = 0;
    for (const [t, token] of tokens.entries()) {
      let p: number;
      if (begun !== undefined) {
        p = known.has(begun) ? Number(known.get(begun) === token) : 1 / (24 - known.size);
        known.set(begun, token);
        begun = undefined;
      } else if (token < 16) {
        p = 2 / 3 / 16;
      } else {
        p = known.has(token) ? 1 / 9 : (3 - known.size) / 9 / (8 - known.size);
        begun = token;
      }
      if (t > 0) nats -= Math.log(p);
    }
    return nats / (tokens.length - 1);
  }

  test("judged tokens repeat what followed the same first token before", () => {
    let judgedCount = 0;
    for (const { tokens, judged } of induction().sequences("train", { count: 100 })) {
      const pairs = new Map<number, number>();
      for (let t = 1; t < tokens.length; t++) {
        const [first = 0, second = 0] = tokens.subarray(t - 1, t + 1);
        const isName = first >= 16 && first < 24;
        expect(second >= 24).toBe(isName);
        expect(judged[t]).toBe(isName && pairs.has(first) ? 1 : 0);
        if (judged[t]) expect(second).toBe(pairs.get(first));
        if (isName) pairs.set(first, second);
        judgedCount += judged[t] ?? 0;
      }
      expect(new Set(pairs.values()).size).toBe(pairs.size);
      expect(pairs.size).toBeLessThanOrEqual(3);
    }
    expect(judgedCount).toBeGreaterThan(400);
  });

  test.each<[string, InductionOptions]>([
    ["firstTokens", { firstTokens: 2 }],
    ["secondTokens", { secondTokens: 2 }],
    ["mentionEvery", { mentionEvery: 1 }],
    ["length", { length: 1.5 }],
  ])("refuses a bad %s", (argument, options) => {
    expect(() => induction(options)).toThrow(expect.objectContaining({ code: "BAD_OPTION", argument }));
  });
});
