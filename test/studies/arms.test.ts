// Arms: seeds in order whatever order they come in, differences paired by seed, and what is said of them.
import { expect, test } from "vitest";
import { armsOf, pairedDifference, sayDifference } from "../../lib/studies/arms.js";
import { interval } from "../../lib/studies/statistics.js";

const cells = [
  { settings: { name: "b" }, seed: 2, result: { value: 5 } },
  { settings: { name: "a" }, seed: 1, result: { value: 1 } },
  { settings: { name: "b" }, seed: 1, result: { value: 2 } },
  { settings: { name: "a" }, seed: 2, result: { value: 3 } },
];

test("configurations come in their own order, seeds rising", () => {
  const arms = armsOf(cells, ({ name }) => name);
  expect(arms.map(({ settings, results }) => [settings.name, results.map(({ value }) => value)])).toEqual([
    ["b", [2, 5]],
    ["a", [1, 3]],
  ]);
});

test("differences are of the same seed; one that only one of them has is left out", () => {
  const [b, a] = armsOf(cells, ({ name }) => name);
  if (!a || !b) throw new Error("two arms");
  expect(pairedDifference(b, a, ({ value }) => value)).toEqual(interval([1, 2]));
  const more = { ...b, results: [...b.results, { value: 100 }] };
  expect(pairedDifference(more, a, ({ value }) => value)).toEqual(interval([1, 2]));
});

test.each([
  [{ n: 3, mean: -0.25, low: -0.375, high: -0.125 }, "0.25 bits less [-0.38, -0.13]"],
  [{ n: 3, mean: 0.25, low: 0.125, high: 0.375 }, "0.25 bits more [0.13, 0.38]"],
  [{ n: 3, mean: 0.25, low: -0.5, high: 1 }, "no difference that was seen (0.25 bits more, [-0.50, 1.00])"],
  [{ n: 1, mean: 0.25, low: null, high: null }, "0.25 bits more, of one seed"],
])("%o", (difference, sentence) => {
  expect(sayDifference(difference, { unit: "bits", digits: 2 })).toBe(sentence);
});
