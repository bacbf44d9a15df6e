// Every error that foretoken throws: a stable code, and a message that says op, argument, wanted, got and the remedy.
import type * as Levenshtein from "fastest-levenshtein";
import { lazyPackage } from "./lazy.js";

const levenshtein = lazyPackage<typeof Levenshtein>("fastest-levenshtein");

export type ErrorCode =
  | "ABORTED"
  | "ASYNC_SCOPE"
  | "BAD_ARGUMENT"
  | "BAD_CHECKPOINT"
  | "BAD_CONFIG"
  | "BAD_DATA"
  | "BAD_OPTION"
  | "CUDA_ERROR"
  | "DISPOSED"
  | "DTYPE_MISMATCH"
  | "MEMORY_BUDGET"
  | "NOT_FINITE"
  | "NO_ADDON"
  | "NO_DEVICE"
  | "NO_KERNEL"
  | "NO_PACKAGE"
  | "NO_TOKENIZER"
  | "OUT_OF_MEMORY"
  | "SAVE_FAILED"
  | "SHAPE_MISMATCH"
  | "STREAM_FAILED"
  | "WRONG_DEVICE";

export interface ErrorDetails {
  /** The operation as the contract names it: `rms_norm`. */
  op?: string | undefined;
  argument?: string | undefined;
  /** What was wanted: `shape (512)`. */
  wanted?: string | undefined;
  got?: string | undefined;
  /** What to do about it: a sentence. */
  remedy?: string | undefined;
  cause?: unknown;
}

function compose(text: string | undefined, { op, argument, wanted, got, remedy }: ErrorDetails): string {
  const difference = [wanted && `expected ${wanted}`, got && `got ${got}`].filter(Boolean).join(", ");
  const fact = [text, difference].filter(Boolean).join(": ");
  const message = `${op ? `[${op}] ` : ""}${argument ? `${argument}: ` : ""}${fact}`;
  return remedy ? `${message}. ${remedy}` : message;
}

/**
 * `[rms_norm] weight: expected shape (512), got (256)`.
 *
 * @example
 * throw new ForetokenError("SHAPE_MISMATCH", { op: "rms_norm", argument: "weight", wanted: "shape (512)", got: "(256)" });
 * throw new ForetokenError("BAD_DATA", "the file holds a zero byte", { argument: path, remedy: "Leave binaries out." });
 */
export class ForetokenError extends Error {
  override readonly name = "ForetokenError";
  readonly code: ErrorCode;
  readonly op: string | undefined;
  readonly argument: string | undefined;
  readonly wanted: string | undefined;
  readonly got: string | undefined;
  readonly remedy: string | undefined;

  constructor(code: ErrorCode, what: string | ErrorDetails, more: ErrorDetails = {}) {
    const details = typeof what === "string" ? more : { ...what, ...more };
    super(
      compose(typeof what === "string" ? what : undefined, details),
      details.cause === undefined ? undefined : { cause: details.cause },
    );
    this.code = code;
    this.op = details.op;
    this.argument = details.argument;
    this.wanted = details.wanted;
    this.got = details.got;
    this.remedy = details.remedy;
  }
}

/** `(2, 3)`; the shape of a scalar is `()`. */
export function formatShape(shape: readonly (number | string)[]): string {
  return `(${shape.join(", ")})`;
}

/** Letters stand for sizes that may be anything: `shapeMismatch("linear", "weight", ["N", 64], [10, 32])`. */
export function shapeMismatch(
  op: string,
  argument: string,
  wanted: readonly (number | string)[],
  got: readonly number[],
): ForetokenError {
  const details = { op, argument, wanted: `shape ${formatShape(wanted)}`, got: formatShape(got) };
  return new ForetokenError("SHAPE_MISMATCH", details);
}

export function dtypeMismatch(op: string, argument: string, wanted: readonly string[], got: string): ForetokenError {
  return new ForetokenError("DTYPE_MISMATCH", { op, argument, wanted: wanted.join(" or "), got });
}

/** The known name that is fewest edits away from `name`, or undefined when none shares at least half of its letters. */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  if (known.length === 0) return undefined;
  const lower = new Map(known.map((candidate) => [candidate.toLowerCase(), candidate]));
  const nearest = levenshtein().closest(name.toLowerCase(), [...lower.keys()]);
  const shared = [...name.toLowerCase()].filter((letter) => nearest.includes(letter)).length;
  return shared * 2 >= Math.max(name.length, nearest.length) ? lower.get(nearest) : undefined;
}

/** Throws BAD_OPTION, with the nearest name, for any key of `options` that is not in `known`. */
export function checkOptions(op: string, options: object, known: readonly string[]): void {
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    const nearest = nearestName(name, known);
    throw new ForetokenError("BAD_OPTION", `unknown option "${name}"`, {
      op,
      argument: name,
      wanted: `one of ${known.join(", ")}`,
      remedy: nearest === undefined ? undefined : `Did you mean "${nearest}"?`,
    });
  }
}
