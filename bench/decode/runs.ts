// One way of writing on from prompts, timed and counted.
import { performance } from "node:perf_hooks";
import { generateTokens } from "../../lib/decode/generate.js";
import type { GenerateOptions } from "../../lib/decode/options.js";
import { DecodeStatistics } from "../../lib/decode/statistics.js";
import type { LanguageModel } from "../../lib/mtp/model.js";
import type { Variant } from "../interleave.js";

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

  /** Writes on from every prompt; resolves to the ms per token after the first of each. A seed repeats its texts. */
  async write(seed = 0): Promise<number> {
    let ms = 0;
    let count = 0;
    const texts: number[][] = [];
    for (const [request, prompt] of this.prompts.entries()) {
      const tokens: number[] = [];
      let logs = 0;
      const onStep: GenerateOptions["onStep"] = (step) => this.statistics.add(step);
      const began = performance.now();
      let first = began;
      const settings = { ...this.options, seed, request, onStep };
      for await (const { token, logProbability } of generateTokens(this.model, prompt, settings)) {
        if (tokens.length === 0) first = performance.now();
        tokens.push(token);
        logs += logProbability;
      }
      ms += performance.now() - first;
      count += tokens.length - 1;
      this.firstTokenMs.push(first - began);
      this.logProbabilities.push(logs / tokens.length);
      texts.push(tokens);
    }
    this.tokens = texts;
    this.keep(seed, texts.map((tokens) => tokens.join(" ")).join("\n"));
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

  private keep(seed: number, text: string): void {
    if (text !== (this.texts.get(seed) ?? text)) throw new Error(`${this.name} is not repeatable`);
    this.texts.set(seed, text);
  }
}

export const readableAcceptances = ({ acceptances }: DecodeStatistics): string =>
  acceptances.map((share) => share.toFixed(2)).join(" ");
