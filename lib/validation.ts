// Options checked by zod schemas, with our errors: the option, what is wanted, what was given, the nearest name.
import type * as ZodPackage from "zod";
import type { z as Zod } from "zod";
import { ForetokenError, nearestName, type ErrorCode } from "./errors.js";
import { lazyPackage } from "./lazy.js";

const zod = lazyPackage<typeof ZodPackage>("zod");

/** A schema that is built at its first use: zod takes longer to load than the rest of the library together. */
export function lazySchema<Schema extends Zod.ZodObject>(build: (z: typeof Zod) => Schema): () => Schema {
  let schema: Schema | undefined;
  return () => (schema ??= build(zod().z));
}

/** The options with their defaults filled in. Throws `code` for the first that does not fit. */
export function parseOptions<Schema extends Zod.ZodObject>(
  schema: Schema,
  options: object,
  code: ErrorCode,
  op: string,
): Zod.output<Schema> {
  const parsed = schema.safeParse(options);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  if (issue?.code === "unrecognized_keys") {
    const name = issue.keys[0] ?? "";
    const nearest = nearestName(name, Object.keys(schema.shape));
    const remedy = nearest === undefined ? undefined : `Did you mean "${nearest}"?`;
    throw new ForetokenError(code, { op, argument: name, wanted: "a known option", got: "an unknown one", remedy });
  }
  const given: unknown = (options as Record<string, unknown>)[String(issue?.path[0] ?? "")];
  const argument = issue?.path.map(String).join(".") ?? "options";
  throw new ForetokenError(code, { op, argument, wanted: wantedOf(issue), got: describeValue(given) });
}

function wantedOf(issue: Zod.core.$ZodIssue | undefined): string {
  switch (issue?.code) {
    case "invalid_value":
      return `one of ${issue.values.map(String).join(", ")}`;
    case "invalid_type":
      return issue.expected === "int" ? "a whole number" : `a ${issue.expected}`;
    case "too_small":
      return `a number ${issue.inclusive ? "≥" : ">"} ${issue.minimum}`;
    case "too_big":
      return `a number ${issue.inclusive ? "≤" : "<"} ${issue.maximum}`;
    default:
      return issue?.message ?? "a valid value";
  }
}

function describeValue(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "number") return String(value);
  return typeof value === "object" || typeof value === "function" ? typeof value : JSON.stringify(value);
}
