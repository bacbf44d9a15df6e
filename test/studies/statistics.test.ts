// Intervals beside the printed tables of Student's t, and beside a case worked by hand.
import { expect, test } from "vitest";
import {
  interval,
  lossInterval,
  median,
  ratioInterval,
  shareInterval,
  shown,
  studentQuantile,
} from "../../lib/studies/statistics.js";

test.each([
  [0.975, 1, 12.7062],
  [0.975, 2, 4.3027],
  [0.975, 3, 3.1824],
  [0.975, 4, 2.7764],
  [0.975, 9, 2.2622],
  [0.975, 10, 2.2281],
  [0.975, 30, 2.0423],
  [0.975, 120, 1.9799],
  [0.95, 4, 2.1318],
  [0.95, 5, 2.015],
  [0.995, 7, 3.4995],
  [0.9, 1, 3.0777],
  [0.5, 3, 0],
])("t(%d; %d) = %d", (share, freedom, t) => {
  expect(studentQuantile(share, freedom)).toBeCloseTo(t, 3);
});

test("the interval of 1, 2, 3, 4, 5 is 3 ± 2.776·√(2.5/5)", () => {
  const { n, mean, low, high } = interval([1, 2, 3, 4, 5]);
  expect([n, mean]).toEqual([5, 3]);
  expect(low).toBeCloseTo(3 - 1.96324, 4);
  expect(high).toBeCloseTo(3 + 1.96324, 4);
});

test("one value has no interval", () => {
  expect(interval([7])).toEqual({ n: 1, mean: 7, low: null, high: null });
});

test.each([
  [[3], 3],
  [[3, 1, 2], 2],
  [[4, 1, 2, 3], 2.5],
])("the median of %j is %d", (values, middle) => {
  expect(median(values)).toBe(middle);
});

test("an interval stays within what is possible, and its mean where it is", () => {
  const { low, high } = interval([0.8, 0.9, 1]);
  expect(high).toBeGreaterThan(1);
  expect(shareInterval([0.8, 0.9, 1])).toEqual({ n: 3, mean: interval([0.8, 0.9, 1]).mean, low, high: 1 });
  expect(lossInterval([0.1, 2]).low).toBe(0);
  expect(lossInterval([0.1, 2]).high).toBe(interval([0.1, 2]).high);
  expect(lossInterval([3])).toEqual({ n: 1, mean: 3, low: null, high: null });
});

test("an interval is shown with its bounds where they are known", () => {
  expect(shown({ n: 2, mean: 1, low: -0.25, high: 2.25 }, 2)).toBe("1.00 [-0.25, 2.25]");
  expect(shown(interval([7]))).toBe("7.000");
});

test("ratios: half and twice make one, with bounds as many times below as above", () => {
  const { n, mean, low, high } = ratioInterval([0.5, 2]);
  expect([n, mean]).toEqual([2, 1]);
  expect(high).toBeCloseTo(2 ** 12.7062, 0);
  expect((low ?? NaN) * (high ?? NaN)).toBeCloseTo(1, 10);
  expect(ratioInterval([3]).low).toBeNull();
});
