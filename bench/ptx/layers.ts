// What a model does beside products and loss: attention, norms, element-wise work, the optimizer, sampling.
import { native } from "../../lib/native.js";
import type { Inputs } from "./inputs.js";
import type { Growth, Sizes, Workload } from "./workload.js";

/** Costs as many times as much as there are times as many of these; how a block works does not change. */
const proportional = (blocks: Growth["blocks"], bytes?: Growth["bytes"]): Workload["growth"] => [
  { kernel: /./, blocks, bytes },
];
const rows = proportional(({ R = 0 }) => R);
const elements = proportional(({ R = 0, d = 0 }) => R * d);

// ---- attention ------------------------------------------------------------------------------------------------------

/** Pairs of positions that see each other, whose products are the mathematics. */
const pairs = ({ B = 0, T = 0, H = 0 }: Sizes): number => (B * H * T * (T + 1)) / 2;

function attentionInputs(inputs: Inputs, { B = 0, T = 0, H = 0, G = 0, D = 0 }: Sizes) {
  const [q, out, dout, dq] = [0, 1, 2, 3].map(() => inputs.bf16([B, T, H, D])) as [number, number, number, number];
  const [k, v, dk, dv] = [0, 1, 2, 3].map(() => inputs.bf16([B, T, G, D])) as [number, number, number, number];
  return { q, k, v, out, dout, dq, dk, dv, lse: inputs.f32([B, H, T]), scale: 1 / Math.sqrt(D) };
}

function attention(inputs: Inputs, sizes: Sizes): () => void {
  const { q, k, v, out, lse, scale } = attentionInputs(inputs, sizes);
  return () => native().attention(q, k, v, 0, out, lse, scale);
}

function attentionBackward(inputs: Inputs, sizes: Sizes): () => void {
  const { q, k, v, out, lse, dout, dq, dk, dv, scale } = attentionInputs(inputs, sizes);
  native().attention(q, k, v, 0, out, lse, scale);
  return () => native().attentionBackward(q, k, v, 0, out, lse, dout, dq, dk, dv, scale);
}

/** Every tensor once: so many of q's shape, so many of k's, and floats per query and head. */
const attentionBytes =
  (queries: number, keys: number, floats: number): Growth["bytes"] =>
  ({ B = 0, T = 0, H = 0, G = 0, D = 0 }) => ({
    read: 0,
    rest: 2 * B * T * D * (queries * H + keys * G) + 4 * floats * B * T * H,
  });
const sequences = ({ B = 0, H = 0 }: Sizes): number => B * H;

const attentions: readonly Workload[] = [64, 128].flatMap((D): Workload[] => [
  {
    name: `attention, D=${D}`,
    measured: { B: 1, T: 256, H: 4, G: 2, D },
    modelled: { B: 1, T: 256, H: 512, G: 256, D },
    flop: (sizes) => 4 * D * pairs(sizes),
    growth: proportional(sequences, attentionBytes(2, 2, 1)),
    prepare: attention,
  },
  {
    name: `attention backward, D=${D}`,
    measured: { B: 1, T: 256, H: 4, G: 2, D },
    modelled: { B: 1, T: 256, H: 512, G: 256, D },
    flop: (sizes) => 10 * D * pairs(sizes),
    growth: proportional(sequences, attentionBytes(4, 4, 2)),
    prepare: attentionBackward,
  },
]);

function cached(inputs: Inputs, { R = 0, H = 0, G = 0, D = 0, S = 0 }: Sizes): () => void {
  const [q, out] = [inputs.bf16([R, H, D]), inputs.bf16([R, H, D])];
  const [keys, values] = [inputs.bf16([R, G, S, D]), inputs.bf16([R, G, S, D])];
  const [sequence, position] = [inputs.values("i32", [R], (r) => r), inputs.filled("i32", [R], S - 1)];
  return () => native().attentionCached(q, keys, values, sequence, position, 0, 0, out, 1 / Math.sqrt(D));
}

function append(inputs: Inputs, { R = 0, G = 0, D = 0, S = 0 }: Sizes): () => void {
  const [k, v] = [inputs.bf16([R, G, D]), inputs.bf16([R, G, D])];
  const [keys, values] = [inputs.bf16([R, G, S, D]), inputs.bf16([R, G, S, D])];
  const [sequence, position] = [inputs.values("i32", [R], (r) => r), inputs.filled("i32", [R], S - 1)];
  return () => native().cacheAppend(k, v, sequence, position, keys, values);
}

function ropeAppend(inputs: Inputs, { R = 0, H = 0, G = 0, D = 0, S = 0 }: Sizes): () => void {
  const [qkv, q] = [inputs.bf16([R, (H + 2 * G) * D]), inputs.bf16([R, H, D])];
  const [keys, values] = [inputs.bf16([R, G, S, D]), inputs.bf16([R, G, S, D])];
  const [sequence, position] = [inputs.values("i32", [R], (r) => r), inputs.filled("i32", [R], S - 1)];
  return () => native().ropeAppend(qkv, sequence, position, position, q, keys, values, 10000);
}

function rope(inputs: Inputs, { R = 0, H = 0, D = 0 }: Sizes): () => void {
  const x = inputs.bf16([R, H, D]);
  return () => native().rope(x, 0, R, 10000, false);
}

// ---- rows -----------------------------------------------------------------------------------------------------------

function norm(inputs: Inputs, { R = 0, d = 0 }: Sizes): () => void {
  const [x, weight, y] = [inputs.bf16([R, d]), inputs.bf16([d]), inputs.bf16([R, d])];
  return () => native().rmsNorm(x, weight, y, 1e-6);
}

function normBackward(inputs: Inputs, { R = 0, d = 0 }: Sizes): () => void {
  const [dy, x, weight] = [inputs.bf16([R, d]), inputs.bf16([R, d]), inputs.bf16([d])];
  const [dx, dweight] = [inputs.bf16([R, d]), inputs.filled("f32", [d], 0)];
  return () => native().rmsNormBackward(dy, x, weight, dx, dweight, 1e-6, true, true);
}

function swiglu(inputs: Inputs, { R = 0, d = 0 }: Sizes): () => void {
  const [gate, up, y] = [inputs.bf16([R, d]), inputs.bf16([R, d]), inputs.bf16([R, d])];
  return () => native().swiglu(gate, up, y);
}

function swigluBackward(inputs: Inputs, { R = 0, d = 0 }: Sizes): () => void {
  const [dy, gate, up] = [inputs.bf16([R, d]), inputs.bf16([R, d]), inputs.bf16([R, d])];
  const [dgate, dup] = [inputs.bf16([R, d]), inputs.bf16([R, d])];
  return () => native().swigluBackward(dy, gate, up, dgate, dup);
}

const vocabulary = 1000;
const token = (i: number): number => (i * 7919 + 13) % vocabulary;

function embedding(inputs: Inputs, { R = 0, d = 0 }: Sizes): () => void {
  const tokens = inputs.values("i32", [1, R], token);
  const [weight, y, status] = [inputs.bf16([vocabulary, d]), inputs.bf16([1, R, d]), inputs.filled("i32", [4], 0)];
  return () => native().embedding(tokens, weight, y, status);
}

function embeddingBackward(inputs: Inputs, { R = 0, d = 0 }: Sizes): () => void {
  const tokens = inputs.values("i32", [1, R], token);
  const [dy, dweight] = [inputs.bf16([1, R, d]), inputs.filled("f32", [vocabulary, d], 0)];
  return () => native().embeddingBackward(dy, tokens, dweight, true);
}

function add(inputs: Inputs, { R = 0, d = 0 }: Sizes): () => void {
  const [a, b, y] = [inputs.bf16([R, d]), inputs.bf16([R, d]), inputs.bf16([R, d])];
  return () => native().add(a, b, y);
}

function cast(inputs: Inputs, { R = 0, d = 0 }: Sizes): () => void {
  const [x, y] = [inputs.f32([R, d]), inputs.bf16([R, d])];
  return () => native().cast(x, y);
}

function rnn(inputs: Inputs, { R = 0, T = 0, d = 0 }: Sizes): () => void {
  const [a, weight, h] = [inputs.bf16([R, T, d]), inputs.bf16([d, d], 0.1), inputs.bf16([R, T, d])];
  return () => native().rnn(a, weight, 0, h);
}

function rnnBackward(inputs: Inputs, { R = 0, T = 0, d = 0 }: Sizes): () => void {
  const [dh, h, weight] = [inputs.bf16([R, T, d]), inputs.bf16([R, T, d], 0.1), inputs.bf16([d, d], 0.1)];
  const [da, dweight] = [inputs.bf16([R, T, d]), inputs.filled("f32", [d, d], 0)];
  return () => native().rnnBackward(dh, h, weight, 0, da, dweight, true);
}

// ---- the step's end, and decoding -----------------------------------------------------------------------------------

function adamw(inputs: Inputs, { R = 0, d = 0 }: Sizes): () => void {
  const shape = [R, d];
  const [p, g, m] = [inputs.f32(shape), inputs.f32(shape), inputs.f32(shape)];
  const [v, compute] = [inputs.filled("f32", shape, 1), inputs.bf16(shape)];
  const state = inputs.filled("f32", [4], 1);
  const [gradientNorm, status] = [inputs.filled("f32", [1], 1), inputs.filled("i32", [4], 0)];
  return () => {
    native().gradientNorm([g], gradientNorm);
    native().adamw([p], [g], [m], [v], [compute], [0.1], state, gradientNorm, status, 0.9, 0.95, 1e-8, 1);
  };
}

function sample(inputs: Inputs, { R = 0, V = 0 }: Sizes): () => void {
  const logits = inputs.f32([R, V]);
  const settings = inputs.values("f32", [R, 3], (i) => [0.8, 40, 0.95][i % 3] ?? 0);
  const counters = inputs.values("i32", [R, 4], (i) => i);
  const [chosen, logProbability] = [inputs.filled("i32", [R], 0), inputs.f32([R])];
  return () => native().sample(logits, settings, counters, chosen, logProbability);
}

function plainCrossEntropy(inputs: Inputs, { R = 0, V = 0 }: Sizes): () => void {
  const [logits, dlogits] = [inputs.f32([R, V]), inputs.f32([R, V])];
  const targets = inputs.values("i32", [1, R], (i) => (i * 7919 + 13) % V);
  const [loss, lse, argmax] = [inputs.f32([R]), inputs.f32([R]), inputs.filled("i32", [R], 0)];
  const upstream = inputs.filled("f32", [R], 1);
  return () => {
    native().crossEntropy(logits, targets, 0, 0, loss, lse, argmax);
    native().crossEntropyBackward(logits, targets, 0, 0, lse, upstream, dlogits);
  };
}

/** Texts that read four rows each. */
function drafts(inputs: Inputs, { R = 0 }: Sizes): () => void {
  const slots = Math.ceil(R / 4);
  const rows = inputs.values("i32", [R, 2], (i) => (i % 2 === 0 ? i >> 3 : (i >> 1) % 4));
  const draws = inputs.values("i32", [R, 5], (i) => (i % 5 === 0 ? Math.floor(i / 20) : i % 5));
  const progress = inputs.values("i32", [slots, 2], (i) => (i % 2 === 0 ? 100 : 1));
  const [columns, counters] = [inputs.filled("i32", [4, R], 0), inputs.filled("i32", [R, 4], 0)];
  const [read, drawn] = [inputs.values("i32", [R], (i) => i), inputs.values("i32", [R], (i) => i + 1)];
  const logs = inputs.f32([R]);
  const [last, step] = [inputs.filled("i32", [slots], 0), inputs.filled("i32", [2], 0)];
  const results = inputs.filled("i32", [8, 3, R], 0);
  return () => {
    native().draftRows(rows, draws, progress, 512, columns, counters);
    native().acceptDraft(rows, read, drawn, logs, progress, last, step, results);
  };
}

const tokens = { R: 8192, d: 4096 };
const perRow = (name: string, prepare: Workload["prepare"], d = 4096): Workload => {
  return { name, measured: { R: 64, d }, modelled: { ...tokens, d }, growth: rows, prepare };
};

export const layers: readonly Workload[] = [
  ...attentions,
  {
    name: "attention, cached",
    measured: { R: 4, H: 8, G: 2, D: 128, S: 512 },
    modelled: { R: 64, H: 8, G: 2, D: 128, S: 512 },
    growth: rows,
    prepare: cached,
  },
  {
    name: "cache append",
    measured: { R: 16, G: 8, D: 128, S: 64 },
    modelled: { R: 64, G: 8, D: 128, S: 64 },
    growth: rows,
    prepare: append,
  },
  {
    name: "rope append",
    measured: { R: 16, H: 8, G: 8, D: 128, S: 64 },
    modelled: { R: 64, H: 8, G: 8, D: 128, S: 64 },
    growth: rows,
    prepare: ropeAppend,
  },
  { name: "rope", measured: { R: 64, H: 8, D: 128 }, modelled: { R: 8192, H: 8, D: 128 }, growth: rows, prepare: rope },
  perRow("rms_norm", norm),
  perRow("rms_norm backward", normBackward),
  perRow("swiglu", swiglu),
  perRow("swiglu backward", swigluBackward),
  perRow("embedding", embedding),
  perRow("embedding backward", embeddingBackward),
  perRow("add", add),
  perRow("cast", cast),
  {
    name: "rnn",
    measured: { R: 4, T: 4, d: 256 },
    modelled: { R: 64, T: 4, d: 256 },
    growth: rows,
    prepare: rnn,
  },
  {
    name: "rnn backward",
    measured: { R: 4, T: 4, d: 256 },
    modelled: { R: 64, T: 4, d: 256 },
    growth: rows,
    prepare: rnnBackward,
  },
  { name: "adamw", measured: { R: 64, d: 4096 }, modelled: { R: 32768, d: 4096 }, growth: elements, prepare: adamw },
  {
    name: "sample",
    measured: { R: 2, V: 4096 },
    modelled: { R: 64, V: 4096 },
    growth: rows,
    prepare: sample,
  },
  {
    name: "cross-entropy, stored",
    measured: { R: 4, V: 4096 },
    modelled: { R: 64, V: 4096 },
    growth: rows,
    prepare: plainCrossEntropy,
  },
  { name: "drafts", measured: { R: 16 }, modelled: { R: 64 }, growth: rows, prepare: drafts },
];
