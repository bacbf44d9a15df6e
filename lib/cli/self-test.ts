// Every kernel of a device, at every SIMD level that this processor can run or on a GPU, against the plain loops of the
// CPU's generic level.
import { type Device, openDevice } from "../device.js";
import { tokenDataset } from "../io/dataset.js";
import { LanguageModel } from "../mtp/model.js";
import { type Native, native } from "../native.js";
import type { Kernels } from "../native.generated.js";
import { detach, scope } from "../scope.js";
import { type DType, emptyPacked, type Tensor, tensor, zeros } from "../tensor.js";
import { Trainer } from "../train/trainer.js";
import type { ComputeType } from "./common.js";

/** Largest difference allowed, as a share of the largest value: sums in another order; in bf16 results keep 8 bits. */
const tolerance = { f32: 1e-4, bf16: 2e-2 } as const satisfies Record<ComputeType, number>;

/** R×K times N×K, R×K with a vocabulary of V; B rows of T tokens with H query and G key heads of width D. */
interface Size {
  readonly R: number;
  readonly K: number;
  readonly N: number;
  readonly V: number;
  readonly B: number;
  readonly T: number;
  readonly H: number;
  readonly G: number;
  readonly D: number;
}

/** A whole block of every level's vectors and a rest. */
const small: Size = { R: 5, K: 72, N: 40, V: 67, B: 2, T: 9, H: 4, G: 2, D: 16 };
/** Whole tiles of a GPU's products and a rest. */
const large: Size = { R: 136, K: 264, N: 328, V: 1032, B: 2, T: 140, H: 4, G: 2, D: 64 };

/** Tensors for one kernel: equal values on every device, as a function of the order they are asked for. */
class Inputs {
  private state = 1;

  constructor(
    private readonly device: Device,
    private readonly dtype: ComputeType,
    readonly size: Size,
  ) {}

  /** Uniform in [−1, 1), in the dtype under test. */
  float(...shape: number[]): Tensor {
    return this.random(shape, this.dtype);
  }

  f32(...shape: number[]): Tensor {
    return this.random(shape, "f32");
  }

  integers(values: readonly number[], ...shape: number[]): Tensor {
    return tensor(Int32Array.from(values), { dtype: "i32", device: this.device, shape });
  }

  numbers(...values: number[]): Tensor {
    return tensor(Float32Array.from(values), { dtype: "f32", device: this.device });
  }

  /** An output in the dtype under test, or in another. */
  out(shape: readonly number[], dtype: DType = this.dtype): Tensor {
    return zeros(shape, { dtype, device: this.device });
  }

  packed(rows: number, columns: number): Tensor {
    return emptyPacked(rows, columns, { dtype: this.dtype, device: this.device, tag: "parameter" });
  }

  private random(shape: readonly number[], dtype: ComputeType): Tensor {
    const size = shape.reduce((product, length) => product * length, 1);
    return tensor(
      Float32Array.from({ length: size }, () => this.next()),
      { dtype, device: this.device, shape },
    );
  }

  private next(): number {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
    return this.state / 2 ** 31 - 1;
  }
}

/** Runs a kernel on inputs of its own; returns what it wrote. */
type Case = (make: Inputs, kernels: Native) => Tensor[];

const tokensOf = ({ B, T, V }: Size): number[] => Array.from({ length: B * (T + 1) }, (_, i) => (i * 29) % V);
/** One in five is ignored. */
const targetsOf = ({ R, V }: Size): number[] =>
  Array.from({ length: R }, (_, i) => (i % 5 === 2 ? -100 : (i * 29 + 3) % V));

const crossEntropySettings = [0, 0.1, 1e-3, 0.9, 20] as const; // shift, label smoothing, z-loss, logit scale, softcap

const cases = {
  fill: (make, kernels) => {
    const { R, K } = make.size;
    const y = make.out([R, K]);
    kernels.fill(y.handle, 0.75);
    return [y];
  },
  cast: (make, kernels) => {
    const { R, K } = make.size;
    const y = make.out([R, K], "bf16");
    kernels.cast(make.f32(R, K).handle, y.handle);
    return [y];
  },
  add: (make, kernels) => {
    const { R, K } = make.size;
    const y = make.out([R, K]);
    kernels.add(make.float(R, K).handle, make.float(R, K).handle, y.handle);
    return [y];
  },
  scale: (make, kernels) => {
    const { R, K } = make.size;
    const y = make.out([R, K]);
    kernels.scale(make.float(R, K).handle, -1.5, y.handle);
    return [y];
  },
  multiply: (make, kernels) => {
    const { R, K } = make.size;
    const y = make.out([R, K]);
    kernels.multiply(make.float(R, K).handle, make.float(R, K).handle, y.handle);
    return [y];
  },
  accumulate: (make, kernels) => {
    const { R, K } = make.size;
    const y = make.f32(R, K);
    kernels.accumulate(make.float(R, K).handle, 0.5, y.handle);
    return [y];
  },
  randomNormal: (make, kernels) => {
    const { R, K } = make.size;
    const y = make.out([R, K]);
    kernels.randomNormal(y.handle, 0.5, 2, 7, 3);
    return [y];
  },
  gatherRows: (make, kernels) => {
    const { R, K } = make.size;
    const y = make.out([3, K]);
    kernels.gatherRows(make.float(R, K).handle, make.integers([4, 0, 2], 3).handle, y.handle);
    return [y];
  },
  linear: (make, kernels) => {
    const { R, K, N } = make.size;
    const y = make.out([R, N]);
    const [x, weight, bias, residual] = [make.float(R, K), make.float(N, K), make.float(N), make.float(R, N)];
    kernels.linear(x.handle, weight.handle, bias.handle, residual.handle, y.handle);
    return [y];
  },
  linearBackwardInput: (make, kernels) => {
    const { R, K, N } = make.size;
    const dx = make.out([R, K]);
    kernels.linearBackwardInput(make.float(R, N).handle, make.float(N, K).handle, dx.handle, false);
    return [dx];
  },
  linearBackwardWeight: (make, kernels) => {
    const { R, K, N } = make.size;
    const [dweight, dbias] = [make.f32(N, K), make.f32(N)];
    kernels.linearBackwardWeight(make.float(R, N).handle, make.float(R, K).handle, dweight.handle, dbias.handle, true);
    return [dweight, dbias];
  },
  packWeight: (make, kernels) => {
    const { R, K, N } = make.size;
    const [packed, y] = [make.packed(N, K), make.out([R, N])];
    kernels.packWeight(make.float(N, K).handle, packed.handle);
    kernels.linear(make.float(R, K).handle, packed.handle, 0, 0, y.handle);
    return [y];
  },
  rmsNorm: (make, kernels) => {
    const { R, K } = make.size;
    const y = make.out([R, K]);
    kernels.rmsNorm(make.float(R, K).handle, make.float(K).handle, y.handle, 1e-5);
    return [y];
  },
  rmsNormBackward: (make, kernels) => {
    const { R, K } = make.size;
    const [dy, x, weight] = [make.float(R, K), make.float(R, K), make.float(K)];
    const [dx, dweight] = [make.out([R, K]), make.f32(K)];
    kernels.rmsNormBackward(dy.handle, x.handle, weight.handle, dx.handle, dweight.handle, 1e-5, false, true);
    return [dx, dweight];
  },
  rope: (make, kernels) => {
    const { B, T, H, D } = make.size;
    const x = make.float(B * T, H, D);
    kernels.rope(x.handle, 0, T, 10000, false);
    return [x];
  },
  attention: (make, kernels) => attend(make, kernels).outputs,
  attentionBackward: (make, kernels) => {
    const { B, T, H, G, D } = make.size;
    const { q, k, v, firstKey, outputs } = attend(make, kernels);
    const [out, lse] = outputs;
    const [dq, dk, dv] = [make.out([B, T, H, D]), make.out([B, T, G, D]), make.out([B, T, G, D])];
    const forward = [q, k, v, firstKey, out, lse, make.float(B, T, H, D)].map((each) => each.handle);
    const [q_, k_, v_, firstKey_, out_, lse_, dout_] = forward as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    kernels.attentionBackward(q_, k_, v_, firstKey_, out_, lse_, dout_, dq.handle, dk.handle, dv.handle, 0.25);
    return [dq, dk, dv];
  },
  cacheAppend: (make, kernels) => {
    const { keys, values } = cached(make, kernels);
    return [keys, values];
  },
  ropeAppend: (make, kernels) => {
    const { R, H, G, D } = make.size;
    const { keys, values, sequence, position } = cached(make, kernels);
    const [qkv, q, at] = [make.float(R, (H + 2 * G) * D), make.out([R, H, D]), position.handle];
    kernels.ropeAppend(qkv.handle, sequence.handle, at, at, q.handle, keys.handle, values.handle, 10000);
    return [q, keys, values];
  },
  attentionCached: (make, kernels) => {
    const { R, H, D } = make.size;
    const { keys, values, sequence, position, branch } = cached(make, kernels);
    const q = make.float(R, H, D);
    const rows = [q, keys, values, sequence, position].map(({ handle }) => handle);
    const [q_, keys_, values_, sequence_, position_] = rows as [number, number, number, number, number];
    const [inOrder, branched] = [make.out([R, H, D]), make.out([R, H, D])];
    kernels.attentionCached(q_, keys_, values_, sequence_, position_, 0, 0, inOrder.handle, 0.25);
    kernels.attentionCached(q_, keys_, values_, sequence_, position_, 0, branch.handle, branched.handle, 0.25);
    return [inOrder, branched];
  },
  swiglu: (make, kernels) => {
    const { R, K } = make.size;
    const y = make.out([R, K]);
    kernels.swiglu(make.float(R, K).handle, make.float(R, K).handle, y.handle);
    return [y];
  },
  swigluBackward: (make, kernels) => {
    const { R, K } = make.size;
    const [dy, gate, up] = [make.float(R, K), make.float(R, K), make.float(R, K)];
    const [dgate, dup] = [make.out([R, K]), make.out([R, K])];
    kernels.swigluBackward(dy.handle, gate.handle, up.handle, dgate.handle, dup.handle);
    return [dgate, dup];
  },
  embedding: (make, kernels) => {
    const { K, V, B, T } = make.size;
    const y = make.out([B, T, K]);
    kernels.embedding(make.integers(tokensOf(make.size), B, T + 1).handle, make.float(V, K).handle, y.handle, 0);
    return [y];
  },
  embeddingBackward: (make, kernels) => {
    const { K, V, B, T } = make.size;
    const dweight = make.f32(V, K);
    kernels.embeddingBackward(
      make.float(B, T, K).handle,
      make.integers(tokensOf(make.size), B, T + 1).handle,
      dweight.handle,
      true,
    );
    return [dweight];
  },
  rnn: (make, kernels) => {
    const { K, B, T } = make.size;
    const h = make.out([B, T, K]);
    kernels.rnn(make.float(B, T, K).handle, smallMatrix(make, kernels).handle, make.float(B, K).handle, h.handle);
    return [h];
  },
  rnnBackward: (make, kernels) => {
    const { K, B, T } = make.size;
    const [dh, h, weight, h0] = [
      make.float(B, T, K),
      make.float(B, T, K),
      smallMatrix(make, kernels),
      make.float(B, K),
    ];
    const [da, dweight] = [make.out([B, T, K]), make.f32(K, K)];
    kernels.rnnBackward(dh.handle, h.handle, weight.handle, h0.handle, da.handle, dweight.handle, true);
    return [da, dweight];
  },
  linearCrossEntropy: (make, kernels) => {
    const { loss, lse, argmax, rank, entropy } = crossEntropy(make, kernels);
    return [loss, lse, argmax, rank, entropy];
  },
  linearCrossEntropyBackward: (make, kernels) => {
    const { R, K, V } = make.size;
    const { hidden, weight, bias, targets, lse } = crossEntropy(make, kernels);
    const [dhidden, dweight, dbias] = [make.f32(R, K), make.f32(V, K), make.f32(V)];
    const [data, gradients] = [
      [hidden, weight, bias, targets],
      [dhidden, dweight, dbias],
    ];
    const [hidden_, weight_, bias_, targets_] = data.map(({ handle }) => handle) as [number, number, number, number];
    const [dhidden_, dweight_, dbias_] = gradients.map(({ handle }) => handle) as [number, number, number];
    const upstream = make.f32(R).handle;
    kernels.linearCrossEntropyBackward(
      hidden_,
      weight_,
      bias_,
      targets_,
      0,
      ...crossEntropySettings,
      lse.handle,
      upstream,
      dhidden_,
      dweight_,
      dbias_,
      false,
      true,
    );
    return gradients;
  },
  reduceLoss: (make, kernels) => {
    const { R } = make.size;
    const [total, share] = [make.out([1], "f32"), make.out([R], "f32")];
    kernels.reduceLoss(
      make.f32(R).handle,
      make.integers(targetsOf(make.size), 1, R).handle,
      0,
      true,
      total.handle,
      share.handle,
    );
    return [total, share];
  },
  linearCrossEntropyTrain: (make, kernels) => {
    const { R, K, V } = make.size;
    const { hidden, weight, bias, targets } = crossEntropy(make, kernels);
    const [loss, argmax] = [make.out([R], "f32"), make.out([R], "i32")];
    const [dhidden, dweight, dbias] = [make.f32(R, K), make.f32(V, K), make.f32(V)];
    const scale = make.numbers(0.25).handle;
    const data = [hidden, weight, bias, targets].map(({ handle }) => handle) as [number, number, number, number];
    kernels.linearCrossEntropyTrain(
      ...data,
      0,
      ...crossEntropySettings,
      scale,
      0,
      loss.handle,
      argmax.handle,
      dhidden.handle,
      dweight.handle,
      dbias.handle,
      false,
      true,
    );
    return [loss, argmax, dhidden, dweight, dbias];
  },
  crossEntropy: (make, kernels) => plainCrossEntropy(make, kernels).slice(0, 3),
  crossEntropyBackward: (make, kernels) => plainCrossEntropy(make, kernels).slice(3),
  multiTokenMetrics: (make, kernels) => {
    const { V, B, T } = make.size;
    const sums = make.out([2, 8], "f32");
    const argmax = make.integers(
      Array.from({ length: 2 * B * T }, (_, i) => (i * 29 + 29) % V),
      2,
      B * T,
    );
    const targets = make.integers(
      Array.from({ length: B * (T + 2) }, (_, i) => (i * 29) % V),
      B,
      T + 2,
    );
    kernels.multiTokenMetrics(make.f32(2, B * T).handle, argmax.handle, targets.handle, 0, sums.handle, false);
    return [sums];
  },
  gradientNorm: (make, kernels) => {
    const { R, K, N } = make.size;
    const norm = make.out([1], "f32");
    kernels.gradientNorm([make.f32(R, K).handle, make.f32(N).handle], norm.handle);
    return [norm];
  },
  adamw: (make, kernels) => {
    const { R, K } = make.size;
    const [parameter, gradient, m, copy] = [make.f32(R, K), make.f32(R, K), make.f32(R, K), make.out([R, K], "bf16")];
    const v = make.out([R, K], "f32");
    const [state, norm, status] = [make.numbers(0.01, 3, 0, 0), make.numbers(2), make.integers([0, 0, 0, 0], 4)];
    kernels.adamw(
      [parameter.handle],
      [gradient.handle],
      [m.handle],
      [v.handle],
      [copy.handle],
      [0.1],
      state.handle,
      norm.handle,
      status.handle,
      0.9,
      0.95,
      1e-8,
      1,
    );
    return [parameter, m, v, copy];
  },
  sample: (make, kernels) => {
    const { V } = make.size;
    const settings = tensor2x(make, [0.8, 10, 0.9], [0, 0, 1]);
    const counters = make.integers([1, 0, 0, 5, 2, 0, 0, 6], 2, 4);
    const logits = make.f32(2, V);
    return [[2], [2, 3]].flatMap((shape) => {
      const [token, logProbability] = [make.out(shape, "i32"), make.out(shape, "f32")];
      kernels.sample(logits.handle, settings.handle, counters.handle, token.handle, logProbability.handle);
      return [token, logProbability];
    });
  },
  draftRows: (make, kernels) => {
    const rows = make.integers([0, -3, 0, -1, 0, 0, 1, 0, 1, 1, -1, 0], 6, 2);
    const draws = make.integers([0, 1, 11, 12, 13, 1, 2, 21, 22, 23], 2, 5);
    const progress = make.integers([7, 1, 0, 0], 2, 2);
    const [columns, counters] = [make.out([4, 6], "i32"), make.out([2, 4], "i32")];
    kernels.draftRows(rows.handle, draws.handle, progress.handle, 16, columns.handle, counters.handle);
    return [columns, counters];
  },
  acceptDraft: (make, kernels) => {
    const rows = make.integers([1, 0, 1, 1, 1, 2, 0, 0, 0, 1, -1, 0], 6, 2);
    const [read, drawn] = [make.integers([4, 5, 6, 7, 8, 0], 6), make.integers([5, 6, 7, 9, 1, 0], 6)];
    const [progress, last, step] = [
      make.integers([3, 0, 8, 1], 2, 2),
      make.integers([0, 0], 2),
      make.integers([3, 0], 2),
    ];
    const results = make.integers(Array<number>(36).fill(0), 2, 3, 6);
    const given = [rows, read, drawn, make.f32(6)].map(({ handle }) => handle) as [number, number, number, number];
    kernels.acceptDraft(...given, progress.handle, last.handle, step.handle, results.handle);
    return [progress, last, step, results];
  },
} satisfies Record<keyof Kernels, Case>;

function attend(make: Inputs, kernels: Native) {
  const { B, T, H, G, D } = make.size;
  const [q, k, v] = [make.float(B, T, H, D), make.float(B, T, G, D), make.float(B, T, G, D)];
  const firstKey = make.integers(
    Array.from({ length: B * T }, (_, i) => (i < T ? 0 : Math.floor((i - T) / 4) * 4)),
    B,
    T,
  );
  const outputs: [Tensor, Tensor] = [make.out([B, T, H, D]), make.out([B, H, T], "f32")];
  const [out, lse] = outputs;
  kernels.attention(q.handle, k.handle, v.handle, firstKey.handle, out.handle, lse.handle, 0.25);
  return { q, k, v, firstKey, outputs };
}

function cached(make: Inputs, kernels: Native) {
  const { R, G, D } = make.size;
  const places = Math.ceil(R / 2);
  const [keys, values] = [make.out([2, G, places, D]), make.out([2, G, places, D])];
  const rows = Array.from({ length: R }, (_, i) => i);
  const [slots, positions] = [rows.map((row) => row % 2), rows.map((row) => Math.floor(row / 2))];
  const [sequence, position] = [make.integers(slots, R), make.integers(positions, R)];
  const [k, v] = [make.float(R, G, D), make.float(R, G, D)];
  kernels.cacheAppend(k.handle, v.handle, sequence.handle, position.handle, keys.handle, values.handle);
  // Each row's last three positions at the places of others.
  const branch = make.integers(
    rows.flatMap((row) => [0, 1, 2].map((i) => (row * 7 + i * 2) % places)),
    R,
    3,
  );
  return { keys, values, sequence, position, branch };
}

/** (K,K), small enough that an RNN does not amplify rounding. */
function smallMatrix(make: Inputs, kernels: Native): Tensor {
  const { K } = make.size;
  const weight = make.out([K, K]);
  kernels.scale(make.float(K, K).handle, 0.85 / Math.sqrt(K), weight.handle);
  return weight;
}

function crossEntropy(make: Inputs, kernels: Native) {
  const { R, K, V } = make.size;
  const [hidden, weight, bias] = [make.float(R, K), make.float(V, K), make.f32(V)];
  const targets = make.integers(targetsOf(make.size), 1, R);
  const [loss, lse, entropy] = [make.out([R], "f32"), make.out([R], "f32"), make.out([R], "f32")];
  const [argmax, rank] = [make.out([R], "i32"), make.out([R], "i32")];
  kernels.linearCrossEntropy(
    hidden.handle,
    weight.handle,
    bias.handle,
    targets.handle,
    0,
    ...crossEntropySettings,
    loss.handle,
    lse.handle,
    argmax.handle,
    rank.handle,
    entropy.handle,
  );
  return { hidden, weight, bias, targets, loss, lse, entropy, argmax, rank };
}

function plainCrossEntropy(make: Inputs, kernels: Native): Tensor[] {
  const { R, V } = make.size;
  const [logits, targets, upstream] = [make.float(R, V), make.integers(targetsOf(make.size), 1, R), make.f32(R)];
  const [loss, lse, argmax] = [make.out([R], "f32"), make.out([R], "f32"), make.out([R], "i32")];
  const dlogits = make.out([R, V]);
  kernels.crossEntropy(logits.handle, targets.handle, 0, 0, loss.handle, lse.handle, argmax.handle);
  kernels.crossEntropyBackward(logits.handle, targets.handle, 0, 0, lse.handle, upstream.handle, dlogits.handle);
  return [loss, lse, argmax, dlogits];
}

function tensor2x(make: Inputs, first: readonly number[], second: readonly number[]): Tensor {
  return make.numbers(...first, ...second).view([2, first.length]);
}

export interface SelfTestResult {
  readonly level: string;
  readonly dtype: ComputeType;
  /** How many kernels were compared, a whole training counted as one. */
  readonly tested: number;
  /** What differs from the generic level, in words. */
  readonly failures: readonly string[];
}

type Values = ArrayLike<number>[];
type Outcome = Values | Error;

/** Compares the kernels of each SIMD level, and a short training, with the generic level's. */
export async function selfTest(levels: readonly string[]): Promise<SelfTestResult[]> {
  const devices = levels.filter((level) => level !== "generic").map((simd) => openDevice("cpu", { simd }));
  return compare(devices, [small]);
}

/** Compares a GPU's kernels, and a short training, with the CPU's generic level. */
export async function selfTestGpu(gpu: Device): Promise<SelfTestResult[]> {
  return compare([gpu], [small, large]);
}

async function compare(devices: readonly Device[], sizes: readonly Size[]): Promise<SelfTestResult[]> {
  const results: SelfTestResult[] = [];
  for (const dtype of ["f32", "bf16"] as const) {
    const wanted = await outputsOf(openDevice("cpu", { simd: "generic" }), dtype, sizes);
    for (const device of devices) {
      const got = await outputsOf(device, dtype, sizes);
      const failures = [...wanted].flatMap(([name, values]) => verdict(name, got.get(name), values, dtype) ?? []);
      results.push({ level: device.simd, dtype, tested: wanted.size, failures });
    }
  }
  return results;
}

/** Of each kernel for every size, and of a training; of one that fails its error. */
async function outputsOf(device: Device, dtype: ComputeType, sizes: readonly Size[]): Promise<Map<string, Outcome>> {
  const outputs = new Map<string, Outcome>();
  for (const [name, run] of Object.entries<Case>(cases))
    outputs.set(name, await outcome(async () => outputsOfCase(run, device, dtype, sizes)));
  outputs.set("training", await outcome(async () => [await trainingLosses(device, dtype)]));
  return outputs;
}

async function outputsOfCase(run: Case, device: Device, dtype: ComputeType, sizes: readonly Size[]): Promise<Values> {
  const outputs: Values = [];
  for (const size of sizes) {
    const tensors = scope(() => run(new Inputs(device, dtype, size), native()).map((each) => detach(each)));
    outputs.push(...(await Promise.all(tensors.map((each) => each.toFloats()))));
    for (const each of tensors) each.dispose();
  }
  return outputs;
}

async function outcome(run: () => Promise<Values>): Promise<Outcome> {
  try {
    return await run();
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

function verdict(name: string, got: Outcome | undefined, wanted: Outcome, dtype: ComputeType): string | undefined {
  if (wanted instanceof Error) return `${name}: ${wanted.message}`;
  if (got instanceof Error) return `${name}: ${got.message}`;
  return difference(name, got ?? [], wanted, dtype);
}

/** The heads' losses after two steps of a small model. */
async function trainingLosses(device: Device, dtype: ComputeType): Promise<readonly number[]> {
  const data = tokenDataset([{ tokens: Array.from({ length: 200 }, (_, i) => (i * i * 7 + i) % 61) }], {
    vocabSize: 61,
  });
  using model = LanguageModel.create(
    { vocabSize: 61, hiddenSize: 64, trunkLayers: 1, numAttentionHeads: 2, maxPositions: 32, futureTokens: 2 },
    { device, dtype, seed: 1 },
  );
  const { losses } = await new Trainer(model, { data, steps: 2, batchSize: 2, warmupSteps: 0 }).run();
  return losses;
}

/** What is wrong with a kernel's outputs, or undefined. */
export function difference(name: string, got: Values, wanted: Values, dtype: ComputeType): string | undefined {
  let worst = 0;
  wanted.forEach((values, output) => {
    const largest = Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value)), 1e-6);
    for (let i = 0; i < values.length; i++) {
      const error = Math.abs((got[output]?.[i] ?? NaN) - (values[i] ?? NaN)) / largest;
      worst = Math.max(worst, Number.isNaN(error) ? Infinity : error);
    }
  });
  if (worst <= tolerance[dtype]) return undefined;
  return `${name}: differs by ${worst.toExponential(1)} of the largest value (at most ${tolerance[dtype]} is right)`;
}
