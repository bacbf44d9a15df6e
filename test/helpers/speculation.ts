// The property that speculation rests on: whatever is proposed, the text is that of plain decoding.
import { expect } from "vitest";
import { generateBatch, type BatchOptions, type BatchRequest } from "../../lib/decode/batch.js";
import type { DraftPredictor, DraftRequest } from "../../lib/decode/drafts.js";
import { generateTokens } from "../../lib/decode/generate.js";
import type { GenerateOptions } from "../../lib/decode/options.js";
import type { DecodeStep } from "../../lib/decode/sequence.js";
import type { ModelOptions } from "../../lib/mtp/config.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { families, randomTokens, uniform } from "./decoding.js";
import { openLevel } from "./levels.js";

const heads = 4;
const vocabSize = 61;
const prompts = [7, 1, 19].map((length) => randomTokens(length, vocabSize, length));

export async function textOf(
  model: LanguageModel,
  prompt: readonly number[],
  options: GenerateOptions,
): Promise<number[]> {
  const tokens: number[] = [];
  for await (const { token } of generateTokens(model, prompt, options)) tokens.push(token);
  return tokens;
}

export async function textsOf(
  model: LanguageModel,
  requests: readonly BatchRequest[],
  options: BatchOptions,
): Promise<number[][]> {
  const texts: number[][] = requests.map(() => []);
  for await (const { request, tokens } of generateBatch(model, requests, options))
    texts[request]?.push(...tokens.map(({ token }) => token));
  return texts;
}

/** Proposes what comes in the texts, each a prompt and what plain decoding wrote, spoilt by `spoil`. */
export function oracle(
  texts: readonly (readonly number[])[],
  spoil: (next: readonly number[], request: DraftRequest) => number[],
): DraftPredictor {
  const propose = (request: DraftRequest): number[] => {
    const { tokens, count } = request;
    const text = texts.find((each) => tokens.every((token, i) => each[i] === token)) ?? [];
    return spoil(text.slice(tokens.length, tokens.length + count), request);
  };
  return {
    longest: heads - 1,
    open: () => ({
      propose: (requests) => Promise.resolve(requests.map(propose)),
      release: () => undefined,
      dispose: () => undefined,
    }),
  };
}

const another = (token: number): number => (token + 1) % vocabSize;

/** Every head family and trunk. */
export const kinds = Object.entries(families({ vocabSize, heads, maxPositions: 64 }));

/** How often so many tokens of a draft were accepted at each place of the cache. */
class AcceptanceCounts {
  /** By position, then by tokens accepted. */
  private readonly counts = new Map<number, number[]>();

  add(position: number, accepted: number, times = 1): void {
    const ofPosition = this.counts.get(position) ?? Array<number>(heads).fill(0);
    ofPosition[accepted] = (ofPosition[accepted] ?? 0) + times;
    this.counts.set(position, ofPosition);
  }

  at(position: number, accepted: number): number {
    return this.counts.get(position)?.[accepted] ?? 0;
  }

  addAll(others: AcceptanceCounts): void {
    for (const [position, counts] of others.counts)
      counts.forEach((times, accepted) => this.add(position, accepted, times));
  }

  /** One line: of all places from which a whole draft can start, the rarest and the most frequent. */
  toString(): string {
    const shares = Array.from({ length: heads }, (_, accepted) => {
      const times = wholeDraftPositions.map((position) => this.at(position, accepted));
      const total = times.reduce((sum, each) => sum + each, 0);
      return `${accepted} accepted ${total} times (${Math.min(...times)} to ${Math.max(...times)} per offset)`;
    });
    return `cache offsets ${wholeDraftPositions[0]} to ${wholeDraftPositions.at(-1)}: ${shares.join(", ")}`;
  }
}

/** Of all steered drafts that this file checked. */
export const acceptanceCounts = new AcceptanceCounts();

const spoiltLength = 40;
/** After the first prompt: the heads say nothing of a text's first token, and a whole draft has to fit. */
const wholeDraftPositions = Array.from({ length: spoiltLength - heads }, (_, i) => 7 + 1 + i);

/** Drafts that are wrong anywhere, in ragged batches. */
export async function checkSpoiltDrafts(
  config: ModelOptions,
  simd: string,
  dtype: "f32" | "bf16",
  temperature: number,
): Promise<void> {
  using model = LanguageModel.create(config, { device: openLevel(simd), dtype, seed: 3 });
  const plain = { maxNewTokens: spoiltLength, temperature, speculate: "off", request: 0 } as const;
  const written = await Promise.all(prompts.map((prompt) => textOf(model, prompt, plain)));
  const texts = prompts.map((prompt, i) => [...prompt, ...(written[i] ?? [])]);
  for (const text of written) expect(text).toHaveLength(spoiltLength);

  // Tokens wrong with a probability that each slot has for itself.
  const random = uniform(1);
  const shares = [0, 0.3, 0.7, 1];
  const requests = shares.flatMap(() => prompts.map((prompt) => ({ prompt, request: 0 })));
  const spoilt = oracle(texts, (next, { slot }) =>
    next.map((token) => (random() < (shares[slot % 4] ?? 0) ? another(token) : token)),
  );
  for (const speculate of [2, 3, 4]) {
    const options = { ...plain, speculate, draft: spoilt, slots: 4 };
    expect(await textsOf(model, requests, options), `k = ${speculate}`).toEqual(shares.flatMap(() => written));
  }

  // Every number of accepted tokens at every place of the cache from which a whole draft can start.
  const seen = new AcceptanceCounts();
  const steered = oracle(texts, (next, { tokens }) => {
    const counts = [0, 1, 2, 3].filter((count) => seen.at(tokens.length, count) === 0);
    const right = counts[Math.floor(random() * counts.length)] ?? Math.floor(random() * heads);
    return next.map((token, i) => (i === right ? another(token) : token));
  });
  const onStep = ({ position, accepted }: DecodeStep): void => seen.add(position, accepted);
  const many = Array.from({ length: 30 }, () => ({ prompt: prompts[0] ?? [], request: 0 }));
  const options = { ...plain, speculate: heads, draft: steered, slots: 3, onStep };
  expect(await textsOf(model, many, options)).toEqual(many.map(() => written[0]));
  for (const position of wholeDraftPositions)
    for (let accepted = 0; accepted < heads; accepted++)
      expect(seen.at(position, accepted), `${accepted} accepted at ${position}`).toBeGreaterThan(0);
  acceptanceCounts.addAll(seen);
}

/** What the model's own heads propose, for every k, alone and in ragged batches. */
export async function checkOwnHeads(config: ModelOptions, simd: string, dtype: "f32" | "bf16"): Promise<void> {
  using model = LanguageModel.create(config, { device: openLevel(simd), dtype, seed: 3 });
  for (const temperature of [0, 1]) {
    const options = { maxNewTokens: 100, temperature, request: 0 };
    const plain = await Promise.all(prompts.map((prompt) => textOf(model, prompt, { ...options, speculate: "off" })));
    expect(plain.map((text) => text.length)).toEqual([58, 64, 46]); // to the context's end
    for (const speculate of [1, 2, 3, 4, "auto"] as const) {
      const requests = [...prompts, ...prompts].map((prompt) => ({ prompt, request: 0 }));
      const batch = await textsOf(model, requests, { ...options, speculate, slots: 4 });
      expect(batch, `k = ${speculate}`).toEqual([...plain, ...plain]);
    }
    expect(await textOf(model, prompts[0] ?? [], { ...options, speculate: 3 })).toEqual(plain[0]);
  }
}
