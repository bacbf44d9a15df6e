// One way of writing on from prompts, timed and counted.
import { performance } from "node:perf_hooks";
import { generateBatch } from "../../lib/decode/batch.js";
import { generateTokens } from "../../lib/decode/generate.js";
import type { GenerateOptions } from "../../lib/decode/options.js";
import { DecodeStatistics } from "../../lib/decode/statistics.js";
import type { LanguageModel } from "../../lib/mtp/model.js";
import type { Variant } from "../interleave.js";

/** 128 MB: what the caches hold once it has been written. */
const otherThings = new Float64Array(2 ** 24);

export class Run {
  readonly statistics = new DecodeStatistics();
  /** Of each text, from its start to its first token. */
  readonly firstTokenMs: number[] = [];
  /** Of each text, the mean log-probability of its tokens under head 1, in nats. */
  readonly logProbabilities: number[] = [];
  /** Tokens of the last texts, by prompt. */
  tokens: readonly (readonly number[])[] = [];
  private readonly texts = new Map<number, string>();

  constructor(
    readonly name: string,
    private readonly model: LanguageModel,
    private readonly prompts: readonly Int32Array[],
    readonly options: GenerateOptions,
  ) {}

  /**
   * Writes on from every prompt, one text after the other in one call; resolves to the ms per token after the first of each.
   * A seed repeats its texts.
   */
  async write(seed = 0): Promise<number> {
    const texts: number[][] = this.prompts.map(() => []);
    const logs = this.prompts.map(() => 0);
    const onStep: GenerateOptions["onStep"] = (step) => this.statistics.add(step);
    let ms = 0;
    let last = performance.now();
    for await (const { request, tokens } of generateBatch(this.model, this.prompts, {
      ...{ ...this.options, seed, onStep, slots: 1 },
    })) {
      const text = texts[request] ?? [];
      const now = performance.now();
      if (text.length > 0) ms += now - last;
      last = now;
      text.push(...tokens.map(({ token }) => token));
      for (const { logProbability } of tokens) logs[request] = (logs[request] ?? 0) + logProbability;
    }
    const count = texts.reduce((sum, { length }) => sum + length - 1, 0);
    this.logProbabilities.push(...texts.map(({ length }, i) => (logs[i] ?? 0) / length));
    this.tokens = texts;
    this.keep(seed, texts.map((tokens) => tokens.join(" ")).join("\n"));
    return ms / count;
  }

  /**
   * As `write` with a call for each text, which gets the model's weights ready for itself and finds other things in the
   * caches: ms per token, the first included.
   */
  async writeAlone(): Promise<number> {
    let ms = 0;
    let count = 0;
    for (const [request, prompt] of this.prompts.entries()) {
      otherThings.fill(request);
      const began = performance.now();
      let first: number | undefined;
      for await (const _ of generateTokens(this.model, prompt, { ...this.options, seed: 0, request })) {
        first ??= performance.now() - began;
        count++;
      }
      ms += performance.now() - began;
      if (first !== undefined) this.firstTokenMs.push(first);
    }
    return ms / count;
  }

  /** Throws unless both have written the same from that seed. */
  mustEqual(other: Run, seed = 0): void {
    if (this.texts.get(seed) !== other.texts.get(seed))
      throw new Error(`${this.name} writes another text than ${other.name}`);
  }

  /** The same texts in every round, or others. */
  variant(seeds: "same" | "rising" = "same"): Variant {
    let seed = 0;
    return { name: this.name, run: () => this.write(seeds === "same" ? 0 : ++seed) };
  }

  get aloneVariant(): Variant {
    return { name: `${this.name}, a call for each text`, run: () => this.writeAlone() };
  }

  private keep(seed: number, text: string): void {
    if (text !== (this.texts.get(seed) ?? text)) throw new Error(`${this.name} is not repeatable`);
    this.texts.set(seed, text);
  }
}

export const readableAcceptances = ({ acceptances }: DecodeStatistics): string =>
  acceptances.map((share) => share.toFixed(2)).join(" ");
