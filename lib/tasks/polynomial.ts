// Arithmetic with polynomials modulo 7 and X⁵: a question of several operations, an answer of five coefficients.
import { checkOptions, ForetokenError } from "../errors.js";
import type { Random } from "./random.js";
import { type Bayes, checkSize, drawSequences, type PromptedSequence, type Task } from "./task.js";

const modulus = 7;
const size = 5;

/** (5): coefficients of X⁰ to X⁴, each 0..6. */
export type Polynomial = readonly number[];

export type Expression =
  | { readonly kind: "polynomial"; readonly value: Polynomial }
  | { readonly kind: "negate"; readonly operand: Expression }
  | { readonly kind: BinaryKind; readonly left: Expression; readonly right: Expression };

type BinaryKind = "add" | "multiply" | "compose";
const kinds = ["negate", "add", "multiply", "compose"] as const;

/** Coefficients stand for themselves; then come the operations, in the order of `kinds`, and the two marks. */
const tokenNames = [...Array.from({ length: modulus }, (_, i) => String(i)), "neg", "+", "*", "o", "=", "."];
const equals = modulus + kinds.length;
const pause = equals + 1;

export interface PolynomialOptions {
  /** Operations of a question: one number, or the least and the most of a uniform draw. Default [1, 5]. */
  readonly operations?: number | readonly [least: number, most: number] | undefined;
  /** Tokens between question and answer that say nothing but give time. Default 0. */
  readonly pauseTokens?: number | undefined;
  /** Targets: the answer, or every token. Default: "answer". */
  readonly targets?: "answer" | "all" | undefined;
}

export interface PolynomialSequence extends PromptedSequence {
  readonly operations: number;
}

export interface PolynomialTask extends Task<PolynomialSequence> {
  bayes(futureTokens: number): Bayes;
}

/**
 * Polynomial arithmetic in F₇[X]/(X⁵) (arXiv 2404.19737, section 4.2): negation, addition, multiplication and composition,
 * operations and coefficients drawn uniformly, 1 to 5 operations in training and up to 10 out of domain. A question is
 * written operator first, which needs no brackets, each polynomial as its five coefficients from X⁰ up:
 *
 *     + 1 0 0 0 0 neg 2 3 0 0 0 =        6 4 0 0 0
 *
 * The number of operations is shared out by a uniform draw between the operands of each. Answers are determined: floor 0
 * for heads that see the whole question, which are those up to 2 + pauseTokens. Split by question, alike for all settings.
 *
 * @example
 * const data = taskDataset(polynomialArithmetic(), "train", { count: 100_000 });
 * const harder = taskDataset(polynomialArithmetic({ operations: 7 }), "eval", { count: 2000 });
 */
export function polynomialArithmetic(options: PolynomialOptions = {}): PolynomialTask {
  const name = "polynomial-arithmetic";
  checkOptions(name, options, ["operations", "pauseTokens", "targets"]);
  const { operations = [1, 5], pauseTokens = 0, targets = "answer" } = options;
  const [least, most] = typeof operations === "number" ? [operations, operations] : operations;
  checkSize(name, "operations", least, 1);
  checkSize(name, "operations", most, least);
  checkSize(name, "pauseTokens", pauseTokens, 0);
  checkTargets(name, targets);

  return {
    name,
    source: "arXiv 2404.19737, section 4.2",
    vocabSize: tokenNames.length,
    tokenNames,
    maxLength: most + size * (most + 1) + 1 + pauseTokens + size,
    *sequences(split, draws = {}) {
      const draw = (random: Random): Question => drawQuestion(random, least + random.below(most - least + 1));
      for (const question of drawSequences(name, split, draws, draw, ({ tokens }) => tokens)) yield write(question);
    },
    bayes(futureTokens) {
      const known = Array.from({ length: futureTokens }, (_, i) => targets === "answer" && i + 1 <= 2 + pauseTokens);
      return { losses: known.map((is) => (is ? 0 : NaN)), accuracies: known.map((is) => (is ? 1 : NaN)) };
    },
  };

  function write({ expression, tokens: question, operations }: Question): PolynomialSequence {
    const pauses = new Array<number>(pauseTokens).fill(pause);
    const tokens = Int32Array.of(...question, equals, ...pauses, ...evaluateExpression(expression));
    const promptLength = tokens.length - size;
    const judged = new Uint8Array(tokens.length).fill(1, promptLength);
    return { tokens, ...(targets === "answer" && { lossMask: judged }), judged, promptLength, operations };
  }
}

/** The value in F₇[X]/(X⁵); f∘g takes f as the polynomial of degree below 5 that stands for its class. */
export function evaluateExpression(expression: Expression): Polynomial {
  switch (expression.kind) {
    case "polynomial":
      return expression.value;
    case "negate":
      return evaluateExpression(expression.operand).map((coefficient) => (modulus - coefficient) % modulus);
    case "add":
      return add(evaluateExpression(expression.left), evaluateExpression(expression.right));
    case "multiply":
      return multiply(evaluateExpression(expression.left), evaluateExpression(expression.right));
    case "compose":
      return compose(evaluateExpression(expression.left), evaluateExpression(expression.right));
  }
}

function add(f: Polynomial, g: Polynomial): Polynomial {
  return f.map((coefficient, i) => (coefficient + (g[i] ?? 0)) % modulus);
}

function multiply(f: Polynomial, g: Polynomial): Polynomial {
  const product = new Array<number>(size).fill(0);
  for (const [i, a] of f.entries()) {
    for (let j = 0; i + j < size; j++) product[i + j] = ((product[i + j] ?? 0) + a * (g[j] ?? 0)) % modulus;
  }
  return product;
}

/** f(g(X)) by Horner's rule. */
function compose(f: Polynomial, g: Polynomial): Polynomial {
  const zero: Polynomial = new Array<number>(size).fill(0);
  return f.reduceRight<Polynomial>((sum, coefficient) => {
    const constant = zero.map((_, i) => (i === 0 ? coefficient : 0));
    return add(multiply(sum, g), constant);
  }, zero);
}

interface Question {
  readonly expression: Expression;
  readonly tokens: readonly number[];
  readonly operations: number;
}

function drawQuestion(random: Random, operations: number): Question {
  const expression = drawExpression(random, operations);
  return { expression, tokens: tokensOf(expression), operations };
}

function drawExpression(random: Random, operations: number): Expression {
  if (operations === 0) return { kind: "polynomial", value: Array.from({ length: size }, () => random.below(modulus)) };
  const kind = random.pick(kinds);
  if (kind === "negate") return { kind, operand: drawExpression(random, operations - 1) };
  const ofLeft = random.below(operations);
  const left = drawExpression(random, ofLeft);
  return { kind, left, right: drawExpression(random, operations - 1 - ofLeft) };
}

function tokensOf(expression: Expression): number[] {
  if (expression.kind === "polynomial") return [...expression.value];
  const operation = modulus + kinds.indexOf(expression.kind);
  if (expression.kind === "negate") return [operation, ...tokensOf(expression.operand)];
  return [operation, ...tokensOf(expression.left), ...tokensOf(expression.right)];
}

function checkTargets(task: string, targets: string): void {
  if (targets === "answer" || targets === "all") return;
  throw new ForetokenError("BAD_OPTION", { op: task, argument: "targets", wanted: "answer or all", got: targets });
}
