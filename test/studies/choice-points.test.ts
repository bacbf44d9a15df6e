// The choice points study: every measuring function beside closed forms, enumerations and predictors that are known.
import { afterAll, describe, expect, test } from "vitest";
import { openDevice } from "../../lib/device.js";
import { choicePointsStudy } from "../../lib/studies/choice-points.js";
import { entropiesOf, pairsOf, stationaryShares, termsOf } from "../../lib/studies/choice-points-chain.js";
import { runChoicePoints, type ChoicePointsResult } from "../../lib/studies/choice-points-cell.js";
import {
  contextsOf,
  countTwoTokens,
  headsTwoTokens,
  lastOf,
  type Read,
} from "../../lib/studies/choice-points-heads.js";
import { beside, summariseChoicePoints } from "../../lib/studies/choice-points-summary.js";
import { targetsBehind } from "../../lib/studies/choice-points-trunk.js";
import { exactWeights, oddsGradient, trainedWeights, type Said } from "../../lib/studies/choice-points-weights.js";
import { studySizes } from "../../lib/studies/study.js";
import { choicePoints, type ChoicePointsTask } from "../../lib/tasks/choice-points.js";
import { workFolder } from "../cli/command.js";
import { runQuick } from "./quick.js";

const device = openDevice();
const work = workFolder();
afterAll(work.remove);

/** (V): what may stand `steps` behind a token, by walking. */
function ahead(task: ChoicePointsTask, token: number, steps: number): number[] {
  let now: number[] = Array.from({ length: task.vocabSize }, (_, v) => Number(v === token));
  for (let step = 0; step < steps; step++) {
    const then = now.map(() => 0);
    for (const [v, p] of now.entries())
      for (const to of task.successors(v)) then[to] = (then[to] ?? 0) + p / task.successors(v).length;
    now = then;
  }
  return now;
}

describe.each([
  [2, 2, [1, 2]],
  [4, 5, [1, 4]],
  [3, 4, [3, 1, 3]],
])("of %i branches, tails of %i, %j", (branches, tailLength, tails) => {
  const task = choicePoints({ branches, tailLength, tails });
  const most = tailLength + 1;

  test("the shares of tokens are those of a long walk", () => {
    const shares = stationaryShares(task);
    expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12);
    const next = new Float64Array(task.vocabSize);
    for (const [v, share] of shares.entries())
      for (const to of task.successors(v)) next[to] = (next[to] ?? 0) + share / task.successors(v).length;
    for (const [v, share] of shares.entries()) expect(next[v]).toBeCloseTo(share, 12);
  });

  test("terms: the targets are what may come, and the open ones are as many as counted", () => {
    const terms = termsOf(task, most);
    for (const { token, head, targets } of terms) {
      const distribution = ahead(task, token, head);
      const possible = [...distribution.keys()].filter((v) => (distribution[v] ?? 0) > 1e-12);
      expect([...new Set(targets)].sort((a, b) => a - b)).toEqual(possible);
    }
    for (let n = 1; n <= most; n++) {
      const counted = task.choiceTerms(n).map((each) => each.terms);
      const open = termsOf(task, n).filter(({ targets }) => new Set(targets).size > 1);
      const shares = task.segments.map((_, k) =>
        open.filter(({ segment }) => segment === k).reduce((sum, { share }) => sum + share, 0),
      );
      for (const [k, share] of shares.entries()) expect(share).toBeCloseTo(counted[k] ?? NaN, 10);
    }
  });

  test("pairs have the task's own entropies, each by its own definition", () => {
    const [got, wanted] = [entropiesOf(pairsOf(task)), task.twoTokens()];
    for (const key of Object.keys(wanted) as (keyof typeof wanted)[]) expect(got[key]).toBeCloseTo(wanted[key], 12);
  });

  test.each([1, 2, 3])("the exact predictor's weights are the counts, n = %i", async (n) => {
    for (const seed of [1, 2]) {
      const weights = await exactWeights(task, n, { device, seed });
      for (const [k, { terms }] of task.choiceTerms(n).entries()) expect(weights[k]).toBeCloseTo(terms, 4);
    }
  });
});

test("entropies by hand: two contexts, one of them certain", () => {
  const ln = Math.log;
  const entropies = entropiesOf([
    { token: 0, x: 1, y: 1, probability: 0.5 },
    { token: 7, x: 2, y: 3, probability: 0.25 },
    { token: 7, x: 4, y: 3, probability: 0.125 },
    { token: 7, x: 4, y: 5, probability: 0.125 },
  ]);
  const ofY = -0.75 * ln(0.75) - 0.25 * ln(0.25);
  expect(entropies.x).toBeCloseTo(0.5 * ln(2), 12);
  expect(entropies.y).toBeCloseTo(0.5 * ofY, 12);
  expect(entropies.yGivenX).toBeCloseTo(0.5 * 0.5 * ln(2), 12);
  expect(entropies.mutual).toBeCloseTo(0.5 * (ofY - 0.5 * ln(2)), 12);
  expect(entropies.xGivenY).toBeCloseTo(0.5 * (ln(2) - ofY + 0.5 * ln(2)), 12);
});

test("the gradient with respect to a choice's odds is that of differences of the loss, computed by walking", async () => {
  const task = choicePoints({ branches: 3, tailLength: 3 });
  const odds = [
    [0.3, -0.5, 0.1],
    [-1, 0.2, 0.6],
  ];
  const n = 3;
  /** Σ over heads and contexts of a round of −log P, the odds of segment k being softmax(θ_k), the process's even. */
  const loss = (theta: readonly (readonly number[])[]): number => {
    const skewed = (token: number, steps: number): number[] => {
      let now: number[] = Array.from({ length: task.vocabSize }, (_, v) => Number(v === token));
      for (let step = 0; step < steps; step++) {
        const then = now.map(() => 0);
        for (const [v, p] of now.entries()) {
          const next = task.successors(v);
          const own = theta[task.segments.findIndex(({ choices }) => choices[0] === next[0])] ?? [0];
          const total = own.reduce((sum, each) => sum + Math.exp(each), 0);
          for (const [j, to] of next.entries()) then[to] = (then[to] ?? 0) + (p * Math.exp(own[j] ?? 0)) / total;
        }
        now = then;
      }
      return now;
    };
    let sum = 0;
    for (const [token, share] of stationaryShares(task).entries()) {
      for (let head = 1; head <= n; head++) {
        const said = skewed(token, head);
        for (const [v, p] of ahead(task, token, head).entries()) {
          if (p > 0) sum -= 8 * share * p * Math.log(said[v] ?? NaN);
        }
      }
    }
    return sum;
  };
  const gradient = await oddsGradient(task, termsOf(task, n), odds, device);
  for (const k of [0, 1]) {
    for (const j of [0, 1, 2]) {
      const moved = (by: number) => odds.map((each, i) => each.map((v, w) => (i === k && w === j ? v + by : v)));
      expect(gradient[k]?.[j]).toBeCloseTo((loss(moved(1e-5)) - loss(moved(-1e-5))) / 2e-5, 5);
    }
  }
});

describe("weights of what heads say", () => {
  const task = choicePoints();
  const perfect: Said = {
    probability: (token, head, v) => ahead(task, token, head)[v] ?? NaN,
    logProbability: (token, head, v) => Math.log(ahead(task, token, head)[v] ?? NaN),
  };

  test.each([1, 3, 5])("n = %i: the counts, for a predictor of no error", (n) => {
    for (const [k, { gradient, loss }] of trainedWeights(task, n, perfect).entries()) {
      const terms = [n, (n * (n + 1)) / 2][k] ?? NaN;
      expect([gradient, loss]).toEqual([expect.closeTo(terms, 10), expect.closeTo(terms, 10)]);
    }
  });

  test("one that says everything is as likely pays ln V a term, and its odds' gradient lacks what is elsewhere", () => {
    const even: Said = { probability: () => 1 / 33, logProbability: () => -Math.log(33) };
    const [without, having] = trainedWeights(task, 3, even);
    // 6 terms ask for what follows from it, from before it, even where that is certain.
    expect(without?.loss).toBeCloseTo((6 * Math.log(33)) / Math.log(4), 10);
    const one = Math.sqrt(((32 / 33) ** 2 + 3 / 33 ** 2) / (3 / 4));
    expect([without?.gradient, having?.gradient]).toEqual([expect.closeTo(3 * one, 10), expect.closeTo(6 * one, 10)]);
  });

  test("heads that reach beyond the next choice, and tails that remember a part, are refused", () => {
    expect(() => termsOf(task, 7)).toThrow(expect.objectContaining({ code: "BAD_ARGUMENT", argument: "futureTokens" }));
    const part = choicePoints({ branches: 4, tails: [2] });
    expect(() => termsOf(part, 2)).toThrow(expect.objectContaining({ code: "BAD_ARGUMENT", argument: "tails" }));
  });
});

describe("two tokens", () => {
  const task = choicePoints({ branches: 3, tailLength: 3 });
  const contexts = contextsOf(task, 1, 2);
  /** Heads that know the process, but for the share `even` that they give to all tokens alike. */
  const knowing =
    (even: readonly number[]): Read =>
    (rows) =>
      Promise.resolve(
        rows.map((row) =>
          even.map((share, head) =>
            Float64Array.from(ahead(task, row[row.length - 1] ?? -1, head + 1), (p) =>
              Math.log((1 - share) * p + share / task.vocabSize),
            ),
          ),
        ),
      );

  test("contexts are held-out beginnings, two that end in each token", () => {
    const ends = contexts.map(lastOf).sort((a, b) => a - b);
    expect(ends).toEqual(Array.from({ length: 2 * task.vocabSize }, (_, i) => Math.floor(i / 2)));
    for (const context of contexts) {
      expect(context).toHaveLength(14);
      for (const [t, token] of context.entries())
        if (t > 0) expect(task.successors(context[t - 1] ?? -1)).toContain(token);
    }
  });

  test("heads that know the process have its entropies, and both sides are equal", async () => {
    const { entropies, left, right } = await headsTwoTokens(task, contexts, knowing([0, 0]));
    const exact = task.twoTokens();
    for (const key of Object.keys(exact) as (keyof typeof exact)[]) expect(entropies[key]).toBeCloseTo(exact[key], 12);
    expect(left).toBeCloseTo(right, 12);
  });

  test("a worse head 2 adds to the left side alone, a worse head 1 to both", async () => {
    const exact = task.twoTokens();
    const second = await headsTwoTokens(task, contexts, knowing([0, 0.2]));
    expect(second.right).toBeCloseTo(exact.x + exact.y, 12);
    expect(second.left).toBeGreaterThan(exact.x + exact.y + 0.01);
    const first = await headsTwoTokens(task, contexts, knowing([0.2, 0]));
    expect(first.left).toBeGreaterThan(exact.x + exact.y + 0.01);
    expect(first.entropies.xGivenY + first.entropies.mutual).toBeCloseTo(first.entropies.x, 12);
    expect(first.right - first.left).toBeCloseTo(first.entropies.mutual + first.entropies.yGivenX - exact.y, 12);
  });

  test("counted: by hand, and in many sequences near the process", () => {
    const { entropies, left, right } = countTwoTokens([Int32Array.of(0, 1, 2, 9), Int32Array.of(0, 2, 2)]);
    expect(entropies.x).toBeCloseTo((2 / 3) * Math.log(2), 12);
    expect([entropies.y, entropies.mutual, entropies.yGivenX]).toEqual(
      [0, 0, 0].map(() => expect.closeTo(0, 12) as number),
    );
    expect(left).toBeCloseTo(right, 12);
    const sequences = [...task.sequences("eval", { count: 500 })].map(({ tokens }) => tokens);
    const [many, exact] = [countTwoTokens(sequences).entropies, task.twoTokens()];
    for (const key of Object.keys(exact) as (keyof typeof exact)[]) expect(many[key]).toBeCloseTo(exact[key], 1);
  });
});

test("targets behind a choice: where n tokens come before it and its whole tail behind", () => {
  const tokens = Int32Array.of(5, 7, 1, 2, 5, 7, 1, 3, 5);
  const find = (choice: number, targets: number, n: number) =>
    targetsBehind([tokens], { choice, tailLength: 2, targets }, n);
  expect(find(5, 3, 2)).toEqual({ items: [{ tokens, lossMask: Uint8Array.of(0, 0, 0, 0, 1, 1, 1, 0, 0) }], count: 1 });
  expect(find(7, 1, 1)).toEqual({ items: [{ tokens, lossMask: Uint8Array.of(0, 1, 0, 0, 0, 1, 0, 0, 0) }], count: 2 });
  expect(find(3, 1, 2)).toEqual({ items: [], count: 0 });
});

test.each(studySizes)("%s: models of one b have equally many parameters, and but for quick read enough", (size) => {
  const counts = new Map<number | undefined, Set<number>>();
  for (const settings of choicePointsStudy.configurations(size)) {
    const { parameters, tokens, peakBytes } = choicePointsStudy.plan(settings, device);
    const { branches } = settings.task;
    counts.set(branches, (counts.get(branches) ?? new Set()).add(parameters));
    expect(peakBytes).toBeLessThan(100e6);
    if (size !== "quick") expect(tokens / parameters).toBeGreaterThan(20);
  }
  for (const each of counts.values()) expect(Math.max(...each) / Math.min(...each)).toBeLessThan(1.001);
});

test("a cell is the same again, and stops when told to", async () => {
  const [, settings] = choicePointsStudy.configurations("quick");
  if (!settings) throw new Error("no configuration");
  const cell = { settings: { ...settings, steps: 10 }, seed: 1 };
  const [first, again] = [await runChoicePoints(cell, { device }), await runChoicePoints(cell, { device })];
  expect(again).toEqual(first);
  const stop = new AbortController();
  stop.abort();
  await expect(runChoicePoints(cell, { device, signal: stop.signal })).rejects.toMatchObject({ code: "ABORTED" });
});

test("a weight is told beside its count: within its interval, more or less", () => {
  expect(beside({ n: 3, mean: 5.01, low: 4.9, high: 5.12 }, 5)).toBe("5.010 [4.900, 5.120]");
  expect(beside({ n: 3, mean: 5.2, low: 5.1, high: 5.3 }, 5)).toBe("5.200 [5.100, 5.300], more than counted,");
  expect(beside({ n: 3, mean: 4.2, low: 4.1, high: 4.3 }, 5)).toBe("4.200 [4.100, 4.300], less than counted,");
  expect(beside({ n: 1, mean: 4.2, low: null, high: null }, 5)).toBe("4.200 (one seed)");
});

test("the quick form, from data to files: weights near their counts, losses above their floors", async () => {
  const report = await runQuick(choicePointsStudy, device, work.path("out"));
  expect(report.figures.map(({ name }) => name)).toEqual(["weights", "trunk", "two-tokens-4"]);
  for (const { result } of report.cells) {
    const { terms, exact, trained, losses, floors, twoTokens, trunkGradient } = result as ChoicePointsResult;
    for (const [k, count] of terms.entries()) {
      expect(exact[k]).toBeCloseTo(count, 5);
      expect(trained[k]?.gradient).toBeCloseTo(count, 0);
      expect(trained[k]?.loss).toBeGreaterThan(count);
      const { choice, all } = trunkGradient[k] ?? { choice: NaN, all: NaN };
      expect(choice).toBeGreaterThan(0);
      // With one head nothing but the choice itself is open before it; what the tail still costs is little.
      if (losses.length === 1) expect(all / choice).toBeCloseTo(1, 0);
    }
    for (const [head, loss] of losses.entries()) expect(loss).toBeGreaterThan(floors[head] ?? NaN);
    const { counted, heads, exact: known } = twoTokens;
    expect(counted.left).toBeCloseTo(counted.right, 10);
    expect(known.left).toBeCloseTo(known.right, 12);
    expect(Math.abs(counted.left - known.left)).toBeLessThan(0.05);
    expect(heads === null).toBe(losses.length === 1);
    if (heads) expect(heads.left).toBeGreaterThan(known.left);
  }
  expect(report.verdict).toContain("weighs 6 times what it does with one head, one without 3 times");
  expect(report.verdict).toContain("agree with the counts of terms, n(n+1)/2 and n, within rounding.");
}, 120_000);

test("the verdict says so when weights differ from the counts", () => {
  const made = (wrong: number) =>
    choicePointsStudy.configurations("quick").flatMap((settings) =>
      [1, 2, 3].map((seed) => {
        const n = settings.futureTokens;
        const terms = [n, (n * (n + 1)) / 2];
        const entropies = { x: 0.2, y: 0.3, xGivenY: 0.1, yGivenX: 0.2, mutual: 0.1 };
        const sides = { entropies, left: 0.5, right: 0.5 };
        const result: ChoicePointsResult = {
          ...{ parameters: 10, losses: terms, floors: terms, terms, exact: terms.map((each) => each * wrong) },
          trained: terms.map((each) => ({ gradient: each + seed / 100, loss: each * (1 + (seed - 2) / 100) })),
          trunkGradient: [1, n].map((all) => ({ choice: 1, all: all * 2 ** seed })),
          twoTokens: { exact: sides, counted: sides, heads: n > 1 ? { ...sides, right: 0.4 + seed / 1000 } : null },
        };
        return { settings, seed, result };
      }),
    );
  expect(summariseChoicePoints(made(1)).verdict).toContain("agree with the counts of terms");
  const { verdict, findings } = summariseChoicePoints(made(1.01));
  expect(verdict).toContain("differ from the counts of terms, n(n+1)/2 and n, within 1.0e-2");
  expect(verdict).toMatch(
    /with consequences weighs 6\.020 \[\S+, \S+\] in the gradient and 6\.000 \[5\.\d+, 6\.\d+\] in/,
  );
  expect(findings[0]).toMatch(/apart by 0\.0980 \[0\.0955, 0\.1005\]/);
});
