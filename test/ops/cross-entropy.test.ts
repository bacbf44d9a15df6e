import { describe, expect, it } from "vitest";
import { openDevice } from "../../lib/device.js";
import { multiTokenCrossEntropy } from "../../lib/mtp/loss.js";
import { linearCrossEntropy, tokenLosses } from "../../lib/ops/cross-entropy.js";
import { scale } from "../../lib/ops/elementwise.js";
import { grad } from "../../lib/ops/grad.js";
import { linear } from "../../lib/ops/linear.js";
import { rmsNorm } from "../../lib/ops/rms-norm.js";
import { gradientBuffer, Parameter, Tape } from "../../lib/tape.js";
import { tensor, type Tensor } from "../../lib/tensor.js";
import { relativeError } from "../helpers/golden.js";
import { normalArray } from "../helpers/gradcheck.js";

const device = openDevice("cpu", { simd: "generic" });
const [T, d, V] = [6, 5, 11];
const hiddenValues = normalArray(T * d, 1);
const weightValues = normalArray(V * d, 2);
const targetValues = [3, 0, -100, 10, 2, 5];
const real = (values: ArrayLike<number>, shape: number[]): Tensor =>
  tensor(Float64Array.from(values), { dtype: "f64", device, shape });
const hidden = (): Tensor => real(hiddenValues, [T, d]);
const weight = (): Tensor => real(weightValues, [V, d]);
const targets = tensor(Int32Array.from(targetValues), { dtype: "i32", device });

/** The plain loop: logits, softmax, loss of one row. */
function plainRow(row: number): { loss: number; rank: number; entropy: number; argmax: number } {
  const logits = Array.from({ length: V }, (_, v) => {
    let sum = 0;
    for (let k = 0; k < d; k++) sum += (hiddenValues[row * d + k] ?? 0) * (weightValues[v * d + k] ?? 0);
    return sum;
  });
  const total = logits.reduce((sum, z) => sum + Math.exp(z), 0);
  const target = targetValues[row] ?? -100;
  const own = logits[target] ?? NaN;
  return {
    loss: target < 0 ? 0 : Math.log(total) - own,
    rank: target < 0 ? -1 : logits.filter((z) => z > own).length,
    entropy: -logits.reduce((sum, z) => sum + (Math.exp(z) / total) * (z - Math.log(total)), 0),
    argmax: logits.indexOf(Math.max(...logits)),
  };
}

describe("linearCrossEntropy", () => {
  const rows = targetValues.map((_, row) => plainRow(row));

  it("gives every token's loss, rank, entropy and the likeliest token", async () => {
    const out = tokenLosses(hidden(), weight(), { tokens: targets.view([1, T]), shift: 0 });
    const loss = await out.loss.toFloats();
    const entropy = await out.entropy.toFloats();
    for (const [row, expected] of rows.entries()) {
      expect(loss[row]).toBeCloseTo(expected.loss, 12);
      expect(entropy[row]).toBeCloseTo(expected.entropy, 12);
    }
    expect([...(await out.rank.data())]).toEqual(rows.map(({ rank }) => rank));
    expect([...(await out.argmax.data())]).toEqual(rows.map(({ argmax }) => argmax));
  });

  it.each([
    ["mean", rows.reduce((sum, { loss }) => sum + loss, 0) / 5],
    ["sum", rows.reduce((sum, { loss }) => sum + loss, 0)],
  ] as const)("reduces to the %s", async (reduction, expected) => {
    expect(await linearCrossEntropy(hidden(), weight(), targets, { reduction }).item()).toBeCloseTo(expected, 12);
  });

  it("is all zero, not NaN, when every target is ignored", async () => {
    const ignored = tensor(new Int32Array(T).fill(-100), { dtype: "i32", device });
    const { value, gradients } = grad((h, w) => linearCrossEntropy(h, w, ignored))(hidden(), weight());
    expect(await value.item()).toBe(0);
    for (const gradient of gradients) expect((await gradient.toFloats()).every((g) => g === 0)).toBe(true);
  });

  it("half of it has half the gradient, and forward without backward leaves nothing behind", async () => {
    const [h, w] = [hidden(), weight()];
    const before = device.memory().live;
    const whole = grad((a, b) => linearCrossEntropy(a, b, targets))(h, w);
    const half = grad((a, b) => scale(linearCrossEntropy(a, b, targets), 0.5))(h, w);
    for (const i of [0, 1]) {
      const doubled = Float64Array.from((await half.gradients[i]?.toFloats()) ?? [], (g) => 2 * g);
      expect(relativeError(doubled, (await whole.gradients[i]?.toFloats()) ?? [])).toBeLessThan(1e-14);
    }
    for (const each of [whole.value, half.value, ...whole.gradients, ...half.gradients]) each.dispose();
    const tape = new Tape();
    const leaf = tape.leaf(h);
    const loss = tape.run(() => linearCrossEntropy(leaf, w, targets));
    tape.dispose();
    loss.dispose();
    leaf.dispose();
    expect(device.memory().live).toBe(before);
  });
});

describe("backward on one tape", () => {
  const twice = async (retainGraph: boolean): Promise<ArrayLike<number>> => {
    const tape = new Tape();
    const [h, w, norm] = [hidden(), weight(), real(normalArray(d, 6), [d])];
    const sink = gradientBuffer(h);
    const leaf = tape.leaf(h, sink);
    const loss = tape.run(() =>
      linearCrossEntropy(linear(rmsNorm(leaf, norm), real(normalArray(d * d, 5), [d, d])), w, targets),
    );
    const seed = real([1], [1]);
    tape.backward([[loss, seed]], { retainGraph });
    tape.backward([[loss, seed]]);
    tape.dispose();
    return sink.tensor.toFloats();
  };

  it("adds up when the graph is retained, and is refused a second time when it is not", async () => {
    const double = await twice(true);
    const norm = real(normalArray(d, 6), [d]);
    const { gradients } = grad((x) =>
      linearCrossEntropy(linear(rmsNorm(x, norm), real(normalArray(d * d, 5), [d, d])), weight(), targets),
    )(hidden());
    const once = (await gradients[0]?.toFloats()) ?? [];
    expect(
      relativeError(
        double,
        Float64Array.from(once, (g) => 2 * g),
      ),
    ).toBeLessThan(1e-14);
    await expect(twice(false)).rejects.toMatchObject({ code: "BAD_ARGUMENT", argument: "backward" });
  });
});

describe("multiTokenCrossEntropy", () => {
  const stored = tensor(Int32Array.from([1, 4, 2, 9, 0, 3, 7, 5, 6, 2, 8, 1]), {
    dtype: "i32",
    device,
    shape: [1, 12],
  });
  const heads = [real(normalArray(d * d, 3), [d, d]), real(normalArray(d * d, 4), [d, d])];
  const z = (): Tensor => real(hiddenValues, [1, T, d]);
  const shifted = (ahead: number): Promise<Tensor> =>
    stored.data().then((tokens) => tensor(tokens.slice(ahead, ahead + T), { dtype: "i32", device, shape: [1, T] }));

  it("with heads as functions equals the sum of single losses", async () => {
    const unembedding = new Parameter("w", weight(), weight());
    const own = multiTokenCrossEntropy(
      { trunkOutput: z(), heads: heads.map((w) => (x) => linear(x, w)) },
      unembedding,
      stored,
      { headWeights: [1, 0.3] },
    );
    const targetsOf = [await shifted(1), await shifted(2)];
    let dz = new Float64Array(T * d);
    let dw = new Float64Array(V * d);
    for (const [i, factor] of [1, 0.3].entries()) {
      const head = heads[i];
      const aims = targetsOf[i];
      if (!head || !aims) throw new Error("two heads");
      const { value, gradients } = grad((x, w) => scale(linearCrossEntropy(linear(x, head), w, aims), factor))(
        z(),
        weight(),
      );
      const [gz, gw] = [await gradients[0]?.toFloats(), await gradients[1]?.toFloats()];
      dz = dz.map((sum, k) => sum + (gz?.[k] ?? NaN));
      dw = dw.map((sum, k) => sum + (gw?.[k] ?? NaN));
      const sums = await own.sums.toFloats();
      expect((factor * (sums[i * 8] ?? NaN)) / (sums[i * 8 + 1] ?? NaN)).toBeCloseTo(await value.item(), 10);
    }
    expect(relativeError((await own.gradients[0]?.toFloats()) ?? [], dz)).toBeLessThan(1e-12);
    expect(relativeError(await unembedding.tensor.toFloats(), dw)).toBeLessThan(1e-12);
  });

  it("takes hidden states and one unembedding per head", async () => {
    const weights = [new Parameter("a", weight(), weight()), new Parameter("b", weight(), weight())];
    const states = [z(), z()];
    const own = multiTokenCrossEntropy(states, weights, stored);
    expect(own.gradients).toHaveLength(2);
    for (const i of [0, 1]) {
      const aims = await shifted(i + 1);
      const { gradients } = grad((x, w) => linearCrossEntropy(x, w, aims))(z(), weight());
      expect(
        relativeError((await own.gradients[i]?.toFloats()) ?? [], (await gradients[0]?.toFloats()) ?? []),
      ).toBeLessThan(1e-12);
      expect(
        relativeError((await weights[i]?.tensor.toFloats()) ?? [], (await gradients[1]?.toFloats()) ?? []),
      ).toBeLessThan(1e-12);
    }
  });
});
