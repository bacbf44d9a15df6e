import { describe, expect, it } from "vitest";
import { openDevice } from "../../lib/device.js";
import type { ErrorCode } from "../../lib/errors.js";
import { multiTokenCrossEntropy } from "../../lib/mtp/loss.js";
import {
  attention,
  attentionCached,
  cacheAppend,
  rope_,
  ropeAppend,
  type CacheBranch,
  type CacheRows,
} from "../../lib/ops/attention.js";
import { linearCrossEntropy } from "../../lib/ops/cross-entropy.js";
import { acceptDraft, draftRows } from "../../lib/ops/draft.js";
import { add, cast } from "../../lib/ops/elementwise.js";
import { embedding } from "../../lib/ops/embedding.js";
import { grad } from "../../lib/ops/grad.js";
import { linear, packWeight } from "../../lib/ops/linear.js";
import { crossEntropy } from "../../lib/ops/plain-cross-entropy.js";
import { rmsNorm } from "../../lib/ops/rms-norm.js";
import { rnn } from "../../lib/ops/rnn.js";
import { sample } from "../../lib/ops/sample.js";
import { swiglu } from "../../lib/ops/swiglu.js";
import { scope } from "../../lib/scope.js";
import { Parameter, tape } from "../../lib/tape.js";
import { tensor, zeros, type DType, type Tensor } from "../../lib/tensor.js";

const device = openDevice("cpu");
const of = (shape: number[], dtype: DType = "f32"): Tensor => zeros(shape, { dtype, device });
const disposed = of([2, 2]);
disposed.dispose();
const elsewhere = zeros([2, 2], { dtype: "f32", device: openDevice("dry") });

function unembedding(): Parameter {
  const weight = of([7, 4]);
  return new Parameter("lm_head.weight", weight, weight);
}

const cache = (): Tensor => of([1, 2, 5, 8]);

/** Two rows of a cache, with this in their branch. */
function branched(branch: Partial<CacheBranch>): CacheRows {
  const rows = { sequence: of([2], "i32"), position: of([2], "i32") };
  return { ...rows, branch: { own: of([2], "i32"), last: of([2, 1], "i32"), ...branch } };
}

/** What is kept of a draft of three rows, with this among the arguments. */
function accept({ drawn, logs, last, results }: Partial<Record<"drawn" | "logs" | "last" | "results", Tensor>>): void {
  const integers = (shape: number[]): Tensor => of(shape, "i32");
  const verdict = { read: integers([3]), drawn: drawn ?? integers([3]), logProbability: logs ?? of([3]) };
  const state = { progress: integers([2, 2]), last: last ?? integers([2]), step: integers([2]) };
  acceptDraft(integers([3, 2]), verdict, state, results ?? integers([4, 3, 3]));
}

const cases: [string, () => unknown, ErrorCode, RegExp][] = [
  [
    "add, shapes",
    () => add(of([2, 3]), of([3, 2])),
    "SHAPE_MISMATCH",
    /\[add\] b: expected shape \(2, 3\), got \(3, 2\)/,
  ],
  [
    "add, integers",
    () => add(of([2], "i32"), of([2], "i32")),
    "DTYPE_MISMATCH",
    /\[add\] a: expected f32 or bf16 or f64, got i32/,
  ],
  ["add, disposed", () => add(of([2, 2]), disposed), "DISPOSED", /add/],
  ["add, another device", () => add(of([2, 2]), elsewhere), "WRONG_DEVICE", /add/],
  ["cast to integers", () => cast(of([2]), "i32"), "DTYPE_MISMATCH", /cast/],
  [
    "linear, inner size",
    () => linear(of([2, 3]), of([5, 4])),
    "SHAPE_MISMATCH",
    /\[linear\] weight: expected shape \(N, 3\), got \(5, 4\)/,
  ],
  [
    "linear, dtypes",
    () => linear(of([2, 3]), of([5, 3], "bf16")),
    "DTYPE_MISMATCH",
    /\[linear\] weight: expected f32, got bf16/,
  ],
  [
    "linear, bias",
    () => linear(of([2, 3]), of([5, 3]), { bias: of([4]) }),
    "SHAPE_MISMATCH",
    /bias: expected shape \(5\), got \(4\)/,
  ],
  ["linear, residual", () => linear(of([2, 3]), of([5, 3]), { residual: of([2, 4]) }), "SHAPE_MISMATCH", /residual/],
  [
    "linear on a tape with a packed weight",
    () => tape((t) => linear(t.leaf(of([2, 4])), packWeight(of([3, 4])))),
    "BAD_ARGUMENT",
    /row-major/,
  ],
  [
    "rms_norm, weight",
    () => rmsNorm(of([2, 512]), of([256])),
    "SHAPE_MISMATCH",
    /\[rms_norm\] weight: expected shape \(512\), got \(256\)/,
  ],
  ["swiglu", () => swiglu(of([2, 3]), of([2, 4])), "SHAPE_MISMATCH", /\[swiglu\] up/],
  [
    "embedding, float tokens",
    () => embedding(of([2, 3]), of([5, 4])),
    "DTYPE_MISMATCH",
    /\[embedding\] tokens: expected i32, got f32/,
  ],
  [
    "embedding, length",
    () => embedding(of([2, 3], "i32"), of([5, 4]), { length: 4 }),
    "BAD_ARGUMENT",
    /length: expected 1 to 3, got 4/,
  ],
  ["rope, odd width", () => rope_(of([2, 1, 3]), { theta: 1e4 }), "BAD_ARGUMENT", /even width/],
  [
    "attention, heads",
    () => attention(of([1, 2, 4, 8]), of([1, 2, 3, 8]), of([1, 2, 3, 8])),
    "BAD_ARGUMENT",
    /divides 4, got 3/,
  ],
  [
    "attention, lengths",
    () => attention(of([1, 2, 4, 8]), of([1, 3, 4, 8]), of([1, 3, 4, 8])),
    "SHAPE_MISMATCH",
    /\[attention\] k/,
  ],
  [
    "attention, firstKey",
    () => attention(of([1, 2, 4, 8]), of([1, 2, 4, 8]), of([1, 2, 4, 8]), { firstKey: of([2, 2], "i32") }),
    "SHAPE_MISMATCH",
    /firstKey/,
  ],
  ["rnn", () => rnn(of([1, 2, 4]), of([3, 3])), "SHAPE_MISMATCH", /\[rnn\] weight: expected shape \(4, 4\)/],
  [
    "linear, bias of another dtype",
    () => linear(of([2, 3]), of([5, 3]), { bias: of([5], "bf16") }),
    "DTYPE_MISMATCH",
    /bias/,
  ],
  [
    "add, whole numbers",
    () => add(of([2]), of([2], "i32")),
    "DTYPE_MISMATCH",
    /\[add\] b: expected f32 or bf16, got i32/,
  ],
  [
    "rnn, h0 of another dtype",
    () => rnn(of([1, 2, 4]), of([4, 4]), of([1, 4], "bf16")),
    "DTYPE_MISMATCH",
    /\[rnn\] h0: expected f32, got bf16/,
  ],
  [
    "loss, weight of another dtype",
    () => linearCrossEntropy(of([2, 4]), of([7, 4]), of([2], "i32"), { weight: of([2], "bf16") }),
    "DTYPE_MISMATCH",
    /weight: expected f32, got bf16/,
  ],
  ["loss, targets", () => linearCrossEntropy(of([3, 4]), of([7, 4]), of([2], "i32")), "SHAPE_MISMATCH", /targets/],
  [
    "loss, float targets",
    () => linearCrossEntropy(of([3, 4]), of([7, 4]), of([3])),
    "DTYPE_MISMATCH",
    /targets: expected i32/,
  ],
  [
    "loss, smoothing",
    () => linearCrossEntropy(of([3, 4]), of([7, 4]), of([3], "i32"), { labelSmoothing: 1 }),
    "BAD_ARGUMENT",
    /labelSmoothing: expected a number in \[0, 1\), got 1/,
  ],
  [
    "loss, ignoreIndex",
    () => linearCrossEntropy(of([3, 4]), of([7, 4]), of([3], "i32"), { ignoreIndex: 2 }),
    "BAD_ARGUMENT",
    /ignoreIndex/,
  ],
  [
    "loss, weight",
    () => linearCrossEntropy(of([3, 4]), of([7, 4]), of([3], "i32"), { weight: of([4]) }),
    "SHAPE_MISMATCH",
    /weight/,
  ],
  ["sample, dtype", () => sample(of([2, 5], "bf16"), of([2, 3]), of([2, 4], "i32")), "DTYPE_MISMATCH", /logits/],
  [
    "sample, count",
    () => sample(of([2, 5]), of([2, 3]), of([2, 4], "i32"), 0),
    "BAD_ARGUMENT",
    /\[sample\] count: expected a whole number of at least 1, got 0/,
  ],
  [
    "attention_cached, branch",
    () => attentionCached(of([2, 4, 8]), cache(), cache(), branched({ last: of([3, 2], "i32") })),
    "SHAPE_MISMATCH",
    /\[attention_cached\] branch\.last: expected shape \(2, A\), got \(3, 2\)/,
  ],
  [
    "attention_cached, dtype of the branch",
    () => attentionCached(of([2, 4, 8]), cache(), cache(), branched({ last: of([2, 2]) })),
    "DTYPE_MISMATCH",
    /branch\.last/,
  ],
  [
    "cache_append, branch",
    () => cacheAppend(of([2, 2, 8]), of([2, 2, 8]), branched({ own: of([3], "i32") }), cache(), cache()),
    "SHAPE_MISMATCH",
    /\[cache_append\] branch\.own/,
  ],
  [
    "rope_append, columns",
    () => ropeAppend(of([2, 44]), 10000, branched({ own: of([2], "i32") }), cache(), cache()),
    "BAD_ARGUMENT",
    /\[rope_append\] qkv: .* H \+ 2G heads, got 44/,
  ],
  [
    "rope_append, dtype of the caches",
    () => ropeAppend(of([2, 48], "bf16"), 10000, branched({ own: of([2], "i32") }), cache(), cache()),
    "DTYPE_MISMATCH",
    /\[rope_append\] keyCache/,
  ],
  [
    "rope_append, places",
    () => ropeAppend(of([2, 48]), 10000, branched({ own: of([3], "i32") }), cache(), cache()),
    "SHAPE_MISMATCH",
    /\[rope_append\] branch\.own/,
  ],
  [
    "cross_entropy, targets",
    () => crossEntropy(of([6, 7]), { tokens: of([2, 3], "i32"), shift: 1 }),
    "SHAPE_MISMATCH",
    /\[cross_entropy\] targets: .* S ≥ rows\/B \+ 1, got \(2, 3\)/,
  ],
  [
    "cross_entropy, argmax",
    () => crossEntropy(of([6, 7]), { tokens: of([2, 3], "i32"), shift: 0 }, { loss: of([6]), argmax: of([6]) }),
    "DTYPE_MISMATCH",
    /\[cross_entropy\] argmax/,
  ],
  [
    "draft_rows, rows",
    () => draftRows(of([3, 3], "i32"), of([1, 5], "i32"), of([2, 2], "i32"), 8),
    "SHAPE_MISMATCH",
    /\[draft_rows\] rows: expected shape \(R, 2\), got \(3, 3\)/,
  ],
  [
    "draft_rows, dtype",
    () => draftRows(of([3, 2], "i32"), of([1, 5]), of([2, 2], "i32"), 8),
    "DTYPE_MISMATCH",
    /\[draft_rows\] draws/,
  ],
  [
    "draft_rows, capacity",
    () => draftRows(of([3, 2], "i32"), of([1, 5], "i32"), of([2, 2], "i32"), 0),
    "BAD_ARGUMENT",
    /capacity/,
  ],
  ["accept_draft, drawn", () => accept({ drawn: of([2], "i32") }), "SHAPE_MISMATCH", /\[accept_draft\] drawn/],
  ["accept_draft, logs", () => accept({ logs: of([3], "i32") }), "DTYPE_MISMATCH", /\[accept_draft\] logProbability/],
  ["accept_draft, results", () => accept({ results: of([4, 3, 2], "i32") }), "SHAPE_MISMATCH", /results/],
  ["accept_draft, last", () => accept({ last: of([3], "i32") }), "SHAPE_MISMATCH", /\[accept_draft\] last/],
  ["grad of many numbers", () => grad((x) => add(x, x))(of([3])), "SHAPE_MISMATCH", /one element, got \(3\)/],
  [
    "grad of a function that fails",
    () => grad((x, w) => linear(x, w))(of([2, 3]), of([5, 4])),
    "SHAPE_MISMATCH",
    /\[linear\] weight/,
  ],
  [
    "multi-token loss, too few tokens for the heads given as hidden states",
    () => multiTokenCrossEntropy([of([2, 3, 4]), of([2, 3, 4])], unembedding(), of([2, 3], "i32")),
    "SHAPE_MISMATCH",
    /targets/,
  ],
  [
    "multi-token loss, a head that fails",
    () =>
      multiTokenCrossEntropy(
        { trunkOutput: of([2, 3, 4]), heads: [(z) => linear(z, of([4, 5]))] },
        unembedding(),
        of([2, 4], "i32"),
      ),
    "SHAPE_MISMATCH",
    /\[linear\] weight/,
  ],
  [
    "multi-token loss, as many weights as heads",
    () => multiTokenCrossEntropy([of([2, 3, 4])], unembedding(), of([2, 4], "i32"), { headWeights: [1, 2] }),
    "BAD_OPTION",
    /headWeights/,
  ],
  ["an asynchronous tape", () => tape((t) => t.run(async () => Promise.resolve())), "ASYNC_SCOPE", /synchronous/],
];

describe("what does not fit is refused at the door, and nothing is lost", () => {
  it.each(cases)("%s", (_name, fn, code, message) => {
    const before = device.memory().live;
    expect(() => scope(fn)).toThrowError(
      expect.objectContaining({ code, message: expect.stringMatching(message) as string }) as Error,
    );
    expect(device.memory().live).toBe(before);
  });

  it("without a scope either: linear, packed weight on a tape", () => {
    const [x, w] = [of([2, 4]), of([3, 4])];
    const packed = packWeight(w);
    const before = device.memory().live;
    expect(() =>
      tape((t) => {
        const leaf = t.leaf(x);
        try {
          return linear(leaf, packed);
        } finally {
          leaf.dispose();
        }
      }),
    ).toThrowError(expect.objectContaining({ code: "BAD_ARGUMENT" }) as Error);
    expect(device.memory().live).toBe(before);
    for (const each of [x, w, packed]) each.dispose();
  });

  it("and the device goes on working", async () => {
    const sum = add(tensor([1, 2], { device }), tensor([10, 20], { device }));
    expect([...(await sum.data())]).toEqual([11, 22]);
  });
});
