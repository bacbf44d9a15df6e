// Steps that draft, one after the other without the host: see native/kernels.h.
import { native } from "../native.js";
import { empty, type Tensor } from "../tensor.js";
import { checkDType, checkNumber, checkShape } from "./check.js";

/** Where rows are read, (R) i32 each, and how tokens are drawn behind them, (D, 4) i32. */
export interface DraftRows {
  readonly sequence: Tensor;
  readonly position: Tensor;
  readonly previous: Tensor;
  readonly place: Tensor;
  readonly counters: Tensor;
}

/**
 * Rows (R, 2) i32 = slot, offset and draws (D, 5) i32 = slot, offset, seed low, seed high, request, from where the slots'
 * texts stand: progress (slots, 2) i32 = position of the last token, tokens kept of the last draft. A row that was read
 * before, at an offset below −1 − kept, has no effect. capacity: positions per slot.
 */
export function draftRows(rows: Tensor, draws: Tensor, progress: Tensor, capacity: number): DraftRows {
  const [count = 0] = rows.shape;
  const [drawCount = 0] = draws.shape;
  checkIntegers("draft_rows", "rows", rows, ["R", 2]);
  checkIntegers("draft_rows", "draws", draws, ["D", 5]);
  checkIntegers("draft_rows", "progress", progress, ["slots", 2]);
  const whole = Number.isInteger(capacity) && capacity >= 1;
  checkNumber("draft_rows", "capacity", capacity, whole, "a whole number of at least 1");
  const { device } = rows;
  const columns = empty([4, count], { dtype: "i32", device });
  const counters = empty([drawCount, 4], { dtype: "i32", device });
  native().draftRows(rows.handle, draws.handle, progress.handle, capacity, columns.handle, counters.handle);
  const column = (i: number): Tensor => columns.view([count], i * count);
  return { sequence: column(0), position: column(1), previous: column(2), place: column(3), counters };
}

/** What `acceptDraft` writes. */
export interface DraftState {
  /** (slots, 2) i32, as `draftRows` reads it. */
  readonly progress: Tensor;
  /** The texts' last tokens, (slots) i32. */
  readonly last: Tensor;
  /** (2) i32: steps that were taken, the most that any text kept of its draft in the last one. */
  readonly step: Tensor;
}

/**
 * Keeps of each text's draft what equals the tokens drawn before it (arXiv 1811.03115). rows as in {@link draftRows}; read
 * and drawn (R) i32, logProbability (R) f32. results (T, 3, R) i32: read, drawn and the bits of logProbability of step t go
 * to t mod T.
 */
export function acceptDraft(
  rows: Tensor,
  verdict: { readonly read: Tensor; readonly drawn: Tensor; readonly logProbability: Tensor },
  { progress, last, step }: DraftState,
  results: Tensor,
): void {
  const { read, drawn, logProbability } = verdict;
  const [count = 0] = rows.shape;
  const [slots = 0] = progress.shape;
  checkIntegers("accept_draft", "rows", rows, ["R", 2]);
  checkIntegers("accept_draft", "read", read, [count]);
  checkIntegers("accept_draft", "drawn", drawn, [count]);
  checkShape("accept_draft", "logProbability", logProbability, [count]);
  checkDType("accept_draft", "logProbability", logProbability, "f32");
  checkIntegers("accept_draft", "progress", progress, ["slots", 2]);
  checkIntegers("accept_draft", "last", last, [slots]);
  checkIntegers("accept_draft", "step", step, [2]);
  checkIntegers("accept_draft", "results", results, ["T", 3, count]);
  native().acceptDraft(
    rows.handle,
    read.handle,
    drawn.handle,
    logProbability.handle,
    progress.handle,
    last.handle,
    step.handle,
    results.handle,
  );
}

function checkIntegers(op: string, name: string, tensor: Tensor, shape: readonly (string | number)[]): void {
  checkShape(op, name, tensor, shape);
  checkDType(op, name, tensor, "i32");
}
