// An error as a person gets it: one line that says what is wrong and what to do, and an exit code.
import { environment } from "../env.js";
import { type ErrorCode, ForetokenError } from "../errors.js";
import { flagOf } from "./train-flags.js";

/** Errors in what was typed, not in what happened. */
const wrongUse: readonly ErrorCode[] = ["BAD_OPTION", "BAD_CONFIG", "BAD_ARGUMENT"];

export function exitCodeOf(error: unknown): number {
  return error instanceof ForetokenError && wrongUse.includes(error.code) ? 2 : 1;
}

/** On stderr; with --json also as a line on stdout. FORETOKEN_DEBUG=1 adds the stack. */
export function tellError(program: string, error: unknown, json: boolean): void {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof ForetokenError ? error.code : "INTERNAL";
  if (json) process.stdout.write(`${JSON.stringify({ event: "error", code, message })}\n`);
  process.stderr.write(`${program}: ${message}${flagHint(error)}\n`);
  if (environment.debug > 0 && error instanceof Error) process.stderr.write(`${error.stack ?? ""}\n`);
  else if (!(error instanceof ForetokenError)) process.stderr.write("FORETOKEN_DEBUG=1 shows where.\n");
}

/** Which flag sets what the library names. */
function flagHint(error: unknown): string {
  if (!(error instanceof ForetokenError)) return "";
  const flag = error.code === "NO_DEVICE" ? "--device, --simd" : error.argument && flagOf(error.argument);
  return flag === undefined || error.message.includes(flag) ? "" : ` (${flag})`;
}
