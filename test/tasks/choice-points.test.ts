// What is computed from the chain, against enumerations of all sequences and against closed forms.
import { describe, expect, test } from "vitest";
import { choicePoints, type ChoicePointsOptions, type ChoicePointsTask } from "../../lib/tasks/choice-points.js";
import { twoTokenEntropies } from "../../lib/tasks/entropy.js";
import { bruteForce, type WeightedSequence } from "./brute-force.js";
import { checkTask } from "./checks.js";

/**
 * Every sequence of so many tokens, from the description: a round of segments, a start anywhere in it. Tokens are written
 * as (segment, place, which), and numbered as they appear in the round.
 */
function allSequences(
  branches: number,
  tailLength: number,
  tails: readonly number[],
  length: number,
): WeightedSequence[] {
  const period = tailLength + 1;
  const name = (segment: number, place: number, which: number): number => {
    const before = tails.slice(0, segment).reduce((sum, count) => sum + branches + count * tailLength, 0);
    return before + (place === 0 ? which : branches + which * tailLength + place - 1);
  };
  const found: WeightedSequence[] = [];
  for (let phase = 0; phase < period * tails.length; phase++) {
    // The choice before the start decides what the first tokens are.
    const walk = (tokens: number[], at: number, choice: number, probability: number): void => {
      if (tokens.length === length) {
        found.push({ tokens, probability });
        return;
      }
      const [segment, place] = [Math.floor(at / period) % tails.length, at % period];
      if (place === 0) {
        for (let next = 0; next < branches; next++)
          walk([...tokens, name(segment, 0, next)], at + 1, next, probability / branches);
      } else {
        walk([...tokens, name(segment, place, choice % (tails[segment] ?? 1))], at + 1, choice, probability);
      }
    };
    const starts = phase % period === 0 ? 1 : branches;
    for (let choice = 0; choice < starts; choice++) walk([], phase, choice, 1 / (period * tails.length) / starts);
  }
  return found;
}

/** E over all contexts of one token of the joint distribution's entropies, from counting. */
function meanTwoTokens(
  sequences: readonly WeightedSequence[],
  vocabSize: number,
): ReturnType<typeof twoTokenEntropies> {
  const mean = { x: 0, y: 0, xGivenY: 0, yGivenX: 0, mutual: 0 };
  for (let context = 0; context < vocabSize; context++) {
    const rows = Array.from({ length: vocabSize }, () => new Array<number>(vocabSize).fill(0));
    let total = 0;
    for (const {
      tokens: [first, x = 0, y = 0],
      probability,
    } of sequences) {
      if (first !== context) continue;
      (rows[x] ??= [])[y] = (rows[x]?.[y] ?? 0) + probability;
      total += probability;
    }
    const own = twoTokenEntropies(rows.map((row) => row.map((p) => p / total)));
    for (const key of Object.keys(mean) as (keyof typeof mean)[]) mean[key] += total * own[key];
  }
  return mean;
}

const cases: [number, number, number[]][] = [
  [2, 2, [1, 2]],
  [4, 1, [1, 2, 4]],
  [3, 2, [2]],
  [3, 3, [3, 1]],
];

describe("choice points", () => {
  test("sequences", () => {
    checkTask(choicePoints(), 200);
    checkTask(choicePoints({ branches: 3, tailLength: 2, tails: [2, 1, 3], length: 40 }), 100);
  });

  test.each(cases)(
    "of %i branches, tails of %i, %j of them: losses of the enumeration",
    (branches, tailLength, tails) => {
      const length = 6;
      const sequences = allSequences(branches, tailLength, tails, length);
      expect(sequences.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 12);
      const wanted = bruteForce(sequences, 5);
      const got = choicePoints({ branches, tailLength, tails, length }).bayes(5);
      for (let i = 0; i < 5; i++) {
        expect(got.losses[i]).toBeCloseTo(wanted.losses[i] ?? NaN, 12);
        expect(got.accuracies[i]).toBeCloseTo(wanted.accuracies[i] ?? NaN, 12);
      }
    },
  );

  test("drawn sequences are those of the description, in its proportions", () => {
    const wanted = new Map(
      allSequences(2, 2, [1, 2], 12).map(({ tokens, probability }) => [tokens.join(" "), probability]),
    );
    const task = choicePoints({ branches: 2, tailLength: 2, length: 12 });
    const starts = new Map<number, number>();
    for (const split of ["train", "eval"] as const) {
      for (const { tokens } of task.sequences(split, { count: 500 })) {
        expect(wanted.has(tokens.join(" "))).toBe(true);
        if (split === "train") starts.set(tokens[0] ?? -1, (starts.get(tokens[0] ?? -1) ?? 0) + 1);
      }
    }
    expect(starts.size).toBe(task.vocabSize);
    // Segment 0: choices 0, 1 and the tail 2, 3 that they share: 1/12, 1/12, 1/6, 1/6 of the starts.
    for (const [token, share] of [1 / 12, 1 / 12, 1 / 6, 1 / 6].entries())
      expect(Math.abs((starts.get(token) ?? 0) - 500 * share)).toBeLessThan(4 * Math.sqrt(500 * share) + 10);
  });

  test("head i pays (1+i)·ln b / (2(L+1)), while i ≤ L+1", () => {
    const { losses } = choicePoints({ branches: 4, tailLength: 5 }).bayes(6);
    for (const [i, loss] of losses.entries()) expect(loss).toBeCloseTo(((2 + i) * Math.log(4)) / 12, 12);
  });

  test.each(cases)(
    "of %i branches, tails of %i, %j: entropies of two tokens, counted",
    (branches, tailLength, tails) => {
      const task = choicePoints({ branches, tailLength, tails });
      const wanted = meanTwoTokens(allSequences(branches, tailLength, tails, 3), task.vocabSize);
      const got = task.twoTokens();
      expect(got.mutual > 0.1).toBe(Math.max(...tails) > 1);
      for (const key of Object.keys(got) as (keyof typeof got)[]) expect(got[key]).toBeCloseTo(wanted[key], 12);
      expect(got.x + got.y).toBeCloseTo(got.xGivenY + 2 * got.mutual + got.yGivenX, 12);
    },
  );

  test("before a choice the tail tells of it what it keeps: I = ln m, H(X|Y) = ln(b/m)", () => {
    const task = choicePoints({ branches: 4, tailLength: 3, tails: [1, 2, 4] });
    for (const [i, m] of [1, 2, 4].entries()) {
      const before = task.segments.at(i - 1)?.tails[0]?.at(-1);
      const { x, y, mutual, xGivenY, yGivenX } = task.twoTokens(before);
      expect(x).toBeCloseTo(Math.log(4), 12);
      expect([y, mutual]).toEqual([expect.closeTo(Math.log(m), 12), expect.closeTo(Math.log(m), 12)]);
      expect(xGivenY).toBeCloseTo(Math.log(4 / m), 12);
      expect(yGivenX).toBeCloseTo(0, 12);
    }
  });

  describe("terms of the loss", () => {
    test.each([1, 2, 3, 5, 6])("n = %i: n for a choice without consequences, n(n+1)/2 for one with", (n) => {
      const [inconsequential, consequential] = choicePoints({ branches: 4, tailLength: 5 }).choiceTerms(n);
      expect(inconsequential).toEqual({ terms: n, nats: expect.closeTo(n * Math.log(4), 10) as number });
      const terms = (n * (n + 1)) / 2;
      expect(consequential).toEqual({ terms, nats: expect.closeTo(terms * Math.log(4), 10) as number });
    });

    test("n = 5: 5 and 15", () => {
      expect(
        choicePoints()
          .choiceTerms(5)
          .map(({ terms }) => terms),
      ).toEqual([5, 15]);
    });

    test("a tail shorter than the heads' reach ends the count; a tail that keeps half asks for half", () => {
      const [half] = choicePoints({ branches: 4, tailLength: 2, tails: [2] }).choiceTerms(4);
      expect(half).toEqual({ terms: 4 + 3 + 2, nats: expect.closeTo(4 * Math.log(4) + 5 * Math.log(2), 10) as number });
    });

    test.each([2, 4])("n = %i: what all heads pay over a round is what the terms ask for", (n) => {
      const task = choicePoints({ branches: 4, tailLength: 4, tails: [1, 2, 4] });
      const paid = task.bayes(n).losses.reduce((sum, loss) => sum + loss, 0) * 3 * 5;
      const asked = task.choiceTerms(n).reduce((sum, { nats }) => sum + nats, 0);
      expect(paid).toBeCloseTo(asked, 10);
    });
  });

  test("judged are the choices with consequences; each token may follow the one before it", () => {
    const task: ChoicePointsTask = choicePoints();
    const judging = new Set(task.segments[1]?.choices);
    for (const { tokens, judged } of task.sequences("train", { count: 50 })) {
      for (const [t, token] of tokens.entries()) {
        expect(judged[t]).toBe(judging.has(token) ? 1 : 0);
        if (t > 0) expect(task.successors(tokens[t - 1] ?? -1)).toContain(token);
      }
    }
  });

  test.each<[string, ChoicePointsOptions]>([
    ["branches", { branches: 1 }],
    ["tails[1]", { branches: 3, tails: [1, 4] }],
    ["tails.length", { tails: [] }],
    ["tailLength", { tailLength: 0 }],
  ])("refuses bad %s", (argument, options) => {
    expect(() => choicePoints(options)).toThrow(expect.objectContaining({ code: "BAD_OPTION", argument }));
  });
});
