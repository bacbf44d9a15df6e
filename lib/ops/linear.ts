// Matrix products with weights as PyTorch stores them: (out, in).
import { ForetokenError } from "../errors.js";
import { native } from "../native.js";
import { activeTape, begin, gradientBuffer, untaped, valueOf, type Tape, type Weight } from "../tape.js";
import { empty, emptyPacked, tensor, type Tensor } from "../tensor.js";
import { checkDType, checkFloat, checkShape, dimension } from "./check.js";
import { cast, copyInto, gatherRows } from "./elementwise.js";

export interface LinearOptions {
  /** (N) */
  bias?: Weight | undefined;
  /** (…, N), added to the product: the residual stream. */
  residual?: Tensor | undefined;
  /** Whoever needs y for its backward pass has it computed again instead of keeping it. */
  recompute?: boolean | undefined;
  /** dtype of the result: x's, or f32 for bf16 operands. */
  dtype?: "f32" | undefined;
}

/** y = x·weightᵀ + bias + residual. x (…, K), weight (N, K), y (…, N); sums in f32. A row's bits do not depend on the number of rows. */
export function linear(x: Tensor, weight: Weight, options: LinearOptions = {}): Tensor {
  const w = valueOf(weight);
  checkFloat("linear", "x", x);
  checkShape("linear", "weight", w, ["N", dimension("linear", "x", x, 1)]);
  checkDType("linear", "weight", w, x.dtype);
  const columns = dimension("linear", "weight", w, 2);
  const bias = options.bias && valueOf(options.bias);
  if (bias) {
    checkShape("linear", "bias", bias, [columns]);
    checkDType("linear", "bias", bias, x.dtype);
  }
  const shape = [...x.shape.slice(0, -1), columns];
  if (options.residual) {
    checkShape("linear", "residual", options.residual, shape);
    checkDType("linear", "residual", options.residual, x.dtype);
  }
  const tape = activeTape();
  const recorded = tape && linearNeedsGradient(tape, x, weight, options);
  if (options.recompute && options.residual) {
    const details = { op: "linear", argument: "recompute", wanted: "no residual beside it", got: "one" };
    throw new ForetokenError("BAD_ARGUMENT", details);
  }
  if (recorded && w.layout === "packed") {
    throw new ForetokenError("BAD_ARGUMENT", {
      op: "linear",
      argument: "weight",
      wanted: "a row-major weight where gradients are recorded",
      got: "a packed one",
    });
  }
  const forward = (from: Tensor): Tensor => {
    const y = empty(shape, { dtype: options.dtype ?? x.dtype, device: x.device });
    native().linear(from.handle, w.handle, bias?.handle ?? 0, options.residual?.handle ?? 0, y.handle);
    return y;
  };
  const y = forward(x);
  if (recorded) {
    const savedX = tape.save(x);
    tape.record(
      y,
      [savedX],
      (dy) => {
        linearBackward(tape, dy.tensor, x, savedX.tensor, weight, options.bias);
        if (tape.wants(options.residual)) tape.give(options.residual, dy.take());
      },
      options.recompute ? { recompute: () => untaped(() => forward(savedX.tensor)) } : {},
    );
  }
  return y;
}

function linearNeedsGradient(tape: Tape, x: Tensor, weight: Weight, { bias, residual }: LinearOptions): boolean {
  return tape.wants(x) || tape.wants(residual) || tape.wantsWeight(weight) || tape.wantsWeight(bias);
}

function linearBackward(
  tape: Tape,
  dy: Tensor,
  x: Tensor,
  savedX: Tensor,
  weight: Weight,
  bias: Weight | undefined,
): void {
  const w = valueOf(weight);
  const upstream = dy.dtype === w.dtype ? dy : cast(dy, w.dtype);
  if (tape.wantsWeight(weight) || tape.wantsWeight(bias)) {
    const dw = tape.wantsWeight(weight) ? tape.weightSink(weight) : gradientBuffer(w);
    const db = bias && tape.wantsWeight(bias) ? tape.weightSink(bias) : undefined;
    const accumulate = begin(dw, db);
    const dbias = db?.tensor.handle ?? 0;
    native().linearBackwardWeight(upstream.handle, savedX.handle, dw.tensor.handle, dbias, accumulate);
  }
  if (tape.wants(x)) {
    const dx = tape.sink(x);
    native().linearBackwardInput(upstream.handle, w.handle, dx.tensor.handle, begin(dx));
  }
  if (upstream !== dy) upstream.dispose();
}

/** The weight in the order that `linear` reads fastest; same results bit for bit. For inference. */
export function packWeight(weight: Weight): Tensor {
  const w = valueOf(weight);
  checkShape("pack_weight", "weight", w, ["N", "K"]);
  const packed = emptyPacked(w.shape[0] ?? 0, w.shape[1] ?? 0, { dtype: w.dtype, device: w.device, tag: "parameter" });
  native().packWeight(w.handle, packed.handle);
  return packed;
}

/** Rows up to which `JointWeights` keeps where the parts of each row lie. */
const keptRows = 64;

/**
 * Weights (N₁, K), (N₂, K), … that multiply the same x, packed as one: of few rows each product waits for all threads, so
 * that fewer of them are faster. A part's bits are those of a product of its own. All N are multiples of the smallest. For
 * inference.
 */
export class JointWeights {
  private readonly packed: Tensor;
  private readonly widths: readonly number[];
  /** Columns that move together when a row is taken apart. */
  private readonly unit: number;
  /** Of each part: the units that it takes of the first `keptRows` rows. i32 */
  private readonly places: readonly Tensor[];

  constructor(weights: readonly Weight[]) {
    const values = weights.map(valueOf);
    const [first] = values;
    if (!first) throw new RangeError("no weights");
    const { dtype, device } = first;
    const columns = dimension("linear", "weight", first, 1);
    this.widths = values.map((weight) => dimension("linear", "weight", weight, 2));
    this.unit = Math.min(...this.widths);
    const whole = empty([this.width, columns], { dtype, device });
    let at = 0;
    for (const weight of values) {
      const part = whole.view(weight.shape, at * columns);
      copyInto(part, weight);
      part.dispose();
      at += weight.shape[0] ?? 0;
    }
    this.packed = packWeight(whole);
    whole.dispose();
    this.places = this.widths.map((_, part) => this.placesOf(part, keptRows));
  }

  /** x·weightᵀ for each of the weights. x (R, K) → (R, N₁), (R, N₂), … */
  linear(x: Tensor): Tensor[] {
    const y = linear(x, this.packed);
    const [rows = 0] = y.shape;
    // Other ops may take memory at multiples of 64 bytes for granted.
    const aligned = this.widths.every((width) => (width * (x.dtype === "bf16" ? 2 : 4)) % 64 === 0);
    if (rows === 1 && aligned) return this.widths.map((width, part) => y.view([1, width], this.start(part)));
    const units = y.view([y.size / this.unit, this.unit]);
    return this.widths.map((width, part) => {
      const kept = rows <= keptRows ? this.places[part] : undefined;
      const places = kept ? kept.view([(rows * width) / this.unit]) : this.placesOf(part, rows);
      return gatherRows(units, places).view([rows, width]);
    });
  }

  dispose(): void {
    for (const each of [this.packed, ...this.places]) each.dispose();
  }

  private get width(): number {
    return this.widths.reduce((sum, width) => sum + width, 0);
  }

  private start(part: number): number {
    return this.widths.slice(0, part).reduce((sum, width) => sum + width, 0);
  }

  private placesOf(part: number, rows: number): Tensor {
    const [perRow, start] = [this.width / this.unit, this.start(part) / this.unit];
    const count = (this.widths[part] ?? 0) / this.unit;
    const places = Int32Array.from({ length: rows * count }, (_, i) => {
      return Math.floor(i / count) * perRow + start + (i % count);
    });
    return tensor(places, { dtype: "i32", device: this.packed.device, tag: "parameter" });
  }
}
