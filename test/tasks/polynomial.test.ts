// Arithmetic against an evaluator of its own, over the integers, that reads the question's tokens.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  evaluateExpression,
  polynomialArithmetic,
  type Expression,
  type Polynomial,
  type PolynomialOptions,
} from "../../lib/tasks/polynomial.js";
import { checkTask } from "./checks.js";

/** Integer polynomials of any degree; modulo 7 and X⁵ only where an operation ends. */
const reduce = (f: readonly bigint[]): bigint[] => Array.from({ length: 5 }, (_, i) => (((f[i] ?? 0n) % 7n) + 7n) % 7n);

function times(f: readonly bigint[], g: readonly bigint[]): bigint[] {
  const product = new Array<bigint>(f.length + g.length - 1).fill(0n);
  for (const [i, a] of f.entries()) for (const [j, b] of g.entries()) product[i + j] = (product[i + j] ?? 0n) + a * b;
  return product;
}

function plus(f: readonly bigint[], g: readonly bigint[]): bigint[] {
  return Array.from({ length: Math.max(f.length, g.length) }, (_, i) => (f[i] ?? 0n) + (g[i] ?? 0n));
}

/** Σ fᵢ gⁱ with powers in full. */
function substitute(f: readonly bigint[], g: readonly bigint[]): bigint[] {
  let [sum, power] = [[0n], [1n]];
  for (const coefficient of f) {
    sum = plus(sum, times([coefficient], power));
    power = times(power, g);
  }
  return sum;
}

/** The value of what begins at a token, where it ends, and how many operations it has. */
function read(tokens: readonly string[], at: number): { value: bigint[]; end: number; operations: number } {
  const operator = tokens[at] ?? "";
  if (/^[0-6]$/.test(operator)) return { value: tokens.slice(at, at + 5).map(BigInt), end: at + 5, operations: 0 };
  const left = read(tokens, at + 1);
  if (operator === "neg") {
    return { value: reduce(left.value.map((c) => -c)), end: left.end, operations: left.operations + 1 };
  }
  const right = read(tokens, left.end);
  const operation = { "+": plus, "*": times, o: substitute }[operator];
  if (!operation) throw new Error(`no operator ${operator}`);
  const value = reduce(operation(left.value, right.value));
  return { value, end: right.end, operations: left.operations + right.operations + 1 };
}

const polynomial = fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 5, maxLength: 5 });
const leaf = (value: Polynomial): Expression => ({ kind: "polynomial", value });
const binary =
  (kind: "add" | "multiply" | "compose") =>
  (f: Polynomial, g: Polynomial): Polynomial =>
    evaluateExpression({ kind, left: leaf(f), right: leaf(g) });
const [add, multiply, compose] = [binary("add"), binary("multiply"), binary("compose")];
const negate = (f: Polynomial): Polynomial => evaluateExpression({ kind: "negate", operand: leaf(f) });
const [zero, one, x] = [
  [0, 0, 0, 0, 0],
  [1, 0, 0, 0, 0],
  [0, 1, 0, 0, 0],
] as const;

describe("F₇[X]/(X⁵)", () => {
  test("by hand", () => {
    expect(add([1, 2, 3, 4, 5], [6, 6, 6, 6, 6])).toEqual([0, 1, 2, 3, 4]);
    expect(multiply([1, 1, 0, 0, 0], [1, 6, 0, 0, 0])).toEqual([1, 0, 6, 0, 0]); // (1+X)(1−X) = 1−X²
    expect(multiply([0, 0, 0, 1, 0], [0, 0, 1, 0, 0])).toEqual(zero); // X³·X² = 0
    expect(compose([0, 0, 1, 0, 0], [1, 1, 0, 0, 0])).toEqual([1, 2, 1, 0, 0]); // X² at 1+X
    expect(negate([0, 1, 2, 3, 6])).toEqual([0, 6, 5, 4, 1]);
  });

  test("is a commutative ring", () => {
    fc.assert(
      fc.property(polynomial, polynomial, polynomial, (f, g, h) => {
        expect(add(f, g)).toEqual(add(g, f));
        expect(add(add(f, g), h)).toEqual(add(f, add(g, h)));
        expect(add(f, zero)).toEqual(f);
        expect(add(f, negate(f))).toEqual(zero);
        expect(multiply(f, g)).toEqual(multiply(g, f));
        expect(multiply(multiply(f, g), h)).toEqual(multiply(f, multiply(g, h)));
        expect(multiply(f, one)).toEqual(f);
        expect(multiply(f, add(g, h))).toEqual(add(multiply(f, g), multiply(f, h)));
      }),
    );
  });

  test("composition: X on either side, sums on the left, and products where the right has no constant term", () => {
    fc.assert(
      fc.property(polynomial, polynomial, polynomial, (f, g, h) => {
        const inner = [0, ...h.slice(1)];
        expect(compose(f, x)).toEqual(f);
        expect(compose(x, f)).toEqual(f);
        expect(compose(add(f, g), h)).toEqual(add(compose(f, h), compose(g, h)));
        expect(compose(multiply(f, g), inner)).toEqual(multiply(compose(f, inner), compose(g, inner)));
        expect(compose(compose(f, [0, ...g.slice(1)]), inner)).toEqual(compose(f, compose([0, ...g.slice(1)], inner)));
      }),
    );
  });
});

describe("polynomial arithmetic", () => {
  test("sequences", () => {
    checkTask(polynomialArithmetic(), 200);
    checkTask(polynomialArithmetic({ operations: 10, pauseTokens: 5 }), 50);
  });

  test.each<[PolynomialOptions, number, number]>([
    [{}, 1, 5],
    [{ operations: 10 }, 10, 10],
    [{ operations: [6, 8], pauseTokens: 3 }, 6, 8],
  ])("answers are those of an evaluator that reads the question: %o", (options, least, most) => {
    const task = polynomialArithmetic(options);
    const { pauseTokens = 0 } = options;
    const counts = new Map<number, number>();
    let longest = 0;
    for (const sequence of task.sequences("train", { count: 400 })) {
      const { tokens, promptLength, operations, judged, lossMask } = sequence;
      const names = Array.from(tokens, (token) => task.tokenNames[token] ?? "?");
      const { value, end, operations: found } = read(names, 0);
      expect(names.slice(end, promptLength)).toEqual(["=", ...new Array<string>(pauseTokens).fill(".")]);
      expect(names.slice(promptLength)).toEqual(value.map(String));
      expect(found).toBe(operations);
      expect([...judged]).toEqual(names.map((_, t) => (t >= promptLength ? 1 : 0)));
      expect(lossMask).toEqual(judged);
      counts.set(found, (counts.get(found) ?? 0) + 1);
      longest = Math.max(longest, tokens.length);
    }
    expect([...counts.keys()].sort((a, b) => a - b)).toEqual(
      Array.from({ length: most - least + 1 }, (_, i) => least + i),
    );
    expect(Math.min(...counts.values())).toBeGreaterThan((0.6 * 400) / (most - least + 1));
    expect(longest).toBeGreaterThan(0.7 * task.maxLength);
  });

  test("operations are drawn alike, and so are coefficients", () => {
    const task = polynomialArithmetic({ operations: 3 });
    const seen = new Map<string, number>();
    for (const { tokens, promptLength } of task.sequences("train", { count: 1000 })) {
      for (const token of tokens.subarray(0, promptLength - 1)) {
        const name = task.tokenNames[token] ?? "";
        seen.set(name, (seen.get(name) ?? 0) + 1);
      }
    }
    for (const operator of ["neg", "+", "*", "o"]) expect(Math.abs((seen.get(operator) ?? 0) - 750)).toBeLessThan(95); // 4σ
    const digits = Array.from({ length: 7 }, (_, i) => seen.get(String(i)) ?? 0);
    const mean = digits.reduce((sum, count) => sum + count, 0) / 7;
    expect(digits.reduce((sum, count) => sum + (count - mean) ** 2 / mean, 0)).toBeLessThan(22.5); // χ²₆, p = 0.001
  });

  test("a question lies on one side whatever the settings", () => {
    const train = new Set<string>();
    const question = ({ tokens, promptLength }: { tokens: Int32Array; promptLength: number }): string =>
      tokens.subarray(0, promptLength).join(" ").split(" 11")[0] ?? "";
    for (const sequence of polynomialArithmetic({ operations: 1 }).sequences("train", { count: 3000 }))
      train.add(question(sequence));
    const held = [...polynomialArithmetic({ operations: [1, 2], pauseTokens: 2 }).sequences("eval", { count: 3000 })];
    expect(held.filter((sequence) => train.has(question(sequence)))).toEqual([]);
    expect(held.filter(({ operations }) => operations === 1).length).toBeGreaterThan(1000);
  });

  test("heads that see the whole question pay nothing; beyond them nothing is claimed", () => {
    expect(polynomialArithmetic().bayes(4)).toEqual({ losses: [0, 0, NaN, NaN], accuracies: [1, 1, NaN, NaN] });
    expect(polynomialArithmetic({ pauseTokens: 2 }).bayes(4).losses).toEqual([0, 0, 0, 0]);
    expect(polynomialArithmetic({ targets: "all" }).bayes(1).losses).toEqual([NaN]);
    expect(polynomialArithmetic({ targets: "all" }).sequences("train", { count: 1 }).next().value).not.toHaveProperty(
      "lossMask",
    );
  });

  test.each<[string, PolynomialOptions]>([
    ["operations", { operations: 0 }],
    ["operations", { operations: [3, 2] }],
    ["pauseTokens", { pauseTokens: -1 }],
    ["targets", { targets: "question" as "all" }],
  ])("refuses bad %s", (argument, options) => {
    expect(() => polynomialArithmetic(options)).toThrow(expect.objectContaining({ code: "BAD_OPTION", argument }));
  });
});
