// Evaluation over held-out data, and the log-probability of a text.
import { ForetokenError } from "../errors.js";
import type { Batch } from "../io/batch.js";
import type { Dataset } from "../io/dataset.js";
import { DeviceBatch } from "../mtp/batch.js";
import { checkTokens, checkVocabulary, type LanguageModel } from "../mtp/model.js";
import { evaluatePass, PassState } from "../mtp/pass.js";
import { tokenLosses } from "../ops/cross-entropy.js";
import { owning, scope } from "../scope.js";
import { tensor } from "../tensor.js";
import { headMetrics, type HeadMetrics } from "./metrics.js";

export interface EvaluateOptions {
  /** Default 8. */
  batchSize?: number | undefined;
  /** Default: the model's maxPositions. */
  contextLength?: number | undefined;
  /** Stop after so many batches. Default: all. */
  maxBatches?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface Evaluation extends HeadMetrics {
  /** Valid targets of head 1. */
  readonly tokens: number;
  /** losses / ln 2: bits per token, which are bits per byte for a byte model. */
  readonly bitsPerToken: readonly number[];
}

/** Per-head figures over a dataset in order. Throws BAD_DATA when its vocabulary does not fit, ABORTED by the signal. */
export async function evaluate(
  model: LanguageModel,
  data: Dataset,
  options: EvaluateOptions = {},
): Promise<Evaluation> {
  checkVocabulary(model, data);
  const shape = {
    batchSize: options.batchSize ?? 8,
    contextLength: options.contextLength ?? model.config.maxPositions,
    lookahead: model.config.futureTokens,
  };
  const [batch, state] = owning(() => [new DeviceBatch(model.device, shape), new PassState(model)]);
  try {
    const sums = new Float64Array(model.heads.length * 8);
    let count = 0;
    for (const host of data.evalBatches(shape)) {
      if (options.signal?.aborted) throw new ForetokenError("ABORTED", "evaluation was cancelled", { op: "evaluate" });
      if (options.maxBatches !== undefined && count++ >= options.maxBatches) break;
      addInto(sums, await batchSums(model, host, batch, state));
    }
    const metrics = headMetrics(
      sums,
      model.heads.map(() => 1),
    );
    return { ...metrics, tokens: sums[1] ?? 0, bitsPerToken: metrics.losses.map((loss) => loss / Math.LN2) };
  } finally {
    batch.dispose();
    state.dispose();
  }
}

async function batchSums(
  model: LanguageModel,
  host: Batch,
  batch: DeviceBatch,
  state: PassState,
): Promise<ArrayLike<number>> {
  batch.write(host);
  evaluatePass(model, batch, state, true);
  return state.sums.toFloats();
}

function addInto(total: Float64Array, part: ArrayLike<number>): void {
  for (let i = 0; i < total.length; i++) total[i] = (total[i] ?? 0) + (part[i] ?? 0);
}

/** log P(token t | tokens before it) under head 1, nats, for every token but the first. */
export async function score(model: LanguageModel, text: string | readonly number[]): Promise<Float32Array> {
  const tokens = typeof text === "string" ? encode(model, text) : Int32Array.from(text);
  checkTokens("score", tokens, model.config.vocabSize);
  if (tokens.length < 2 || tokens.length > model.config.maxPositions) {
    throw new ForetokenError("BAD_DATA", {
      op: "score",
      argument: "text",
      wanted: `2 to ${model.config.maxPositions} tokens`,
      got: String(tokens.length),
    });
  }
  const loss = scope(() => {
    const row = tensor(tokens, { dtype: "i32", device: model.device, shape: [1, tokens.length] });
    const z = model.trunk.forward(row, tokens.length - 1, {});
    const [first] = model.mapHeads(z, {}, ({ ahead, unembedding: { weight, bias } }, hidden) =>
      ahead === 1 ? tokenLosses(hidden, weight, { tokens: row, shift: 1 }, { bias }).loss : undefined,
    );
    return first;
  });
  try {
    return Float32Array.from((await loss?.toFloats()) ?? [], (nats) => -nats);
  } finally {
    loss?.dispose();
  }
}

function encode(model: LanguageModel, text: string): Int32Array {
  if (!model.tokenizer) {
    throw new ForetokenError("NO_TOKENIZER", "the model carries no tokenizer", {
      op: "score",
      remedy: "Give one to LanguageModel.create, or pass tokens.",
    });
  }
  return model.tokenizer.encode(text);
}
