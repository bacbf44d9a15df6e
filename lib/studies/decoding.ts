// How fast a model writes on from prompts, with the drafts of its own heads and without: the ways take turns.
import { performance } from "node:perf_hooks";
import { generateBatch } from "../decode/batch.js";
import { ForetokenError } from "../errors.js";
import type { Dataset } from "../io/dataset.js";
import type { LanguageModel } from "../mtp/model.js";
import { median } from "./statistics.js";

export interface DecodingPlan {
  readonly prompts: number;
  /** Tokens of each. */
  readonly promptLength: number;
  /** Tokens written behind each. */
  readonly newTokens: number;
  readonly rounds: number;
}

/** Greedy decoding of one text after the other, without each text's first token. */
export interface DecodingSpeed {
  /** Tokens that a forward may add; 1: plain decoding. */
  readonly k: number;
  readonly tokensPerForward: number;
  /** Median of the rounds. */
  readonly msPerToken: number;
}

/** Plain decoding and drafts of 2, 4 … n tokens. */
export const draftLengths = (n: number): number[] => [1, 2, 4, 8, 16].filter((k) => k <= n);

/** Pieces of held-out documents, spread over them. */
export function promptsFrom(data: Dataset, { prompts, promptLength }: DecodingPlan): Int32Array[] {
  const documents = [...data.documents()].filter(({ length }) => length >= 4 * promptLength);
  if (documents.length === 0) {
    const wanted = `a document of ${4 * promptLength} tokens for prompts`;
    throw new ForetokenError("BAD_DATA", { op: "study", argument: "data", wanted, got: "none" });
  }
  return Array.from({ length: prompts }, (_, i) => {
    const document = documents[Math.floor((i * documents.length) / prompts)] ?? new Int32Array();
    const start = Math.floor((document.length - promptLength) / 2);
    return Int32Array.from(document.subarray(start, start + promptLength));
  });
}

/** Tokens per forward that drafts of k − 1 tokens give where the text is given: 1 + Σ acceptances of heads 2..k. */
export const expectedTokens = (acceptances: readonly (number | null)[], k: number): number =>
  acceptances.slice(1, k).reduce<number>((sum, acceptance) => sum + (acceptance ?? 0), 1);

interface Written {
  readonly texts: string;
  readonly ms: number;
  readonly tokens: number;
  readonly forwards: number;
}

/** Throws ABORTED. Every way must write the text of plain decoding. */
export async function measureDecoding(
  model: LanguageModel,
  prompts: readonly Int32Array[],
  { newTokens, rounds }: Pick<DecodingPlan, "newTokens" | "rounds">,
  signal?: AbortSignal,
): Promise<DecodingSpeed[]> {
  const ways = draftLengths(model.heads.length);
  const write = async (k: number): Promise<Written> => writeOn(model, prompts, k, newTokens, signal);
  const first: Written[] = [];
  for (const k of ways) first.push(await write(k));
  for (const [i, { texts }] of first.entries()) {
    if (texts !== first[0]?.texts) throw new Error(`drafts of k = ${ways[i]} change the text`);
  }
  const ms = ways.map((): number[] => []);
  for (let round = 0; round < rounds; round++) for (const [i, k] of ways.entries()) ms[i]?.push((await write(k)).ms);
  return ways.map((k, i) => {
    const { tokens, forwards } = first[i] ?? { tokens: NaN, forwards: NaN };
    return { k, tokensPerForward: tokens / forwards, msPerToken: median(ms[i] ?? []) / tokens };
  });
}

async function writeOn(
  model: LanguageModel,
  prompts: readonly Int32Array[],
  k: number,
  maxNewTokens: number,
  signal: AbortSignal | undefined,
): Promise<Written> {
  const texts = prompts.map((): number[] => []);
  let [ms, tokens, forwards, last] = [0, 0, 0, performance.now()];
  const speculate = k === 1 ? "off" : k;
  for await (const piece of generateBatch(model, prompts, { maxNewTokens, speculate, slots: 1, signal })) {
    const now = performance.now();
    const text = texts[piece.request] ?? [];
    if (text.length > 0 && piece.tokens.length > 0) {
      ms += now - last;
      tokens += piece.tokens.length;
      forwards++;
    }
    last = now;
    text.push(...piece.tokens.map(({ token }) => token));
  }
  return { texts: JSON.stringify(texts), ms, tokens, forwards };
}
