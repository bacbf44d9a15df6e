import { describe, expect, it } from "vitest";
import { ForetokenError } from "../../lib/errors.js";
import { generate, generateTokens } from "../../lib/decode/generate.js";
import type { GenerateOptions } from "../../lib/decode/options.js";
import { DecodeSession, type Row } from "../../lib/decode/session.js";
import { StopFilter } from "../../lib/decode/stop.js";
import { byteTokenizer } from "../../lib/io/tokenizer.js";
import type { ModelOptions } from "../../lib/mtp/config.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { levels, openLevel, quickDtypes } from "../helpers/levels.js";
import { normals } from "../helpers/gradcheck.js";

const size = {
  vocabSize: 256,
  hiddenSize: 64,
  trunkLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  maxPositions: 96,
  futureTokens: 3,
  initializerRange: 0.2,
} as const;

const models: Record<string, ModelOptions> = {
  parallel: { ...size, headFamily: "parallel" },
  causal: { ...size, headFamily: "causal" },
  anticausal: { ...size, headFamily: "anticausal" },
  linear: { ...size, headFamily: "linear" },
  none: { ...size, headFamily: "none" },
  rnn: {
    vocabSize: 256,
    hiddenSize: 64,
    embeddingSize: 32,
    trunk: "rnn",
    maxPositions: 96,
    futureTokens: 2,
    unembeddingBias: true,
  },
};

const someTokens = (count: number, seed: number): number[] => {
  const next = normals(seed);
  return Array.from({ length: count }, () => Math.abs(Math.floor(next() * 60)) % 256);
};

/** Logits of every position, reading `widths` rows at a time. */
async function logitsBy(
  model: LanguageModel,
  tokens: readonly number[],
  widths: readonly number[],
  others: readonly (readonly number[])[] = [],
): Promise<Float32Array[]> {
  const session = new DecodeSession(model, 1 + others.length, tokens.length);
  const result: Float32Array[] = [];
  let start = 0;
  for (const width of widths) {
    const end = Math.min(start + width, tokens.length);
    const own: Row[] = tokens
      .slice(start, end)
      .map((token, i) => ({ token, sequence: others.length, position: start + i }));
    const beside: Row[] = others.flatMap((other, sequence) =>
      other.slice(start, end).map((token, i) => ({ token, sequence, position: start + i })),
    );
    const logits = session.read(
      [...beside, ...own],
      own.map((_, i) => beside.length + i),
    );
    const values = (await logits.toFloats()) as Float32Array;
    logits.dispose();
    for (let i = 0; i < own.length; i++) result.push(values.slice(i * 256, (i + 1) * 256));
    start = end;
  }
  session.dispose();
  return result;
}

describe.each(Object.entries(models))("%s: a position's logits are the same bits", (_name, config) => {
  const runs = levels().flatMap((simd) => quickDtypes.map((dtype) => [simd, dtype] as const));
  it.each(runs)("at every width and in every batch, %s %s", async (simd, dtype) => {
    const device = openLevel(simd);
    const before = device.memory().live;
    const model = LanguageModel.create(config, { device, dtype, seed: 5 });
    const tokens = someTokens(70, 1);
    const oneByOne = await logitsBy(
      model,
      tokens,
      tokens.map(() => 1),
    );
    for (const widths of [
      [64, 6],
      [1, 2, 3, 4, 5, 6, 7, 8, 9, 25],
      [17, 17, 17, 19],
      [33, 37],
    ]) {
      expect(await logitsBy(model, tokens, widths), `widths ${widths.join()}`).toEqual(oneByOne);
    }
    const others = [someTokens(70, 2), someTokens(30, 3), someTokens(5, 4)];
    expect(await logitsBy(model, tokens, [1, 1, 30, 38], others), "beside others").toEqual(oneByOne);
    model.dispose();
    expect(device.memory().live).toBe(before);
  });

  it("and agree with the forward over the whole sequence", async () => {
    const model = LanguageModel.create(config, { dtype: "f32", seed: 5 });
    const tokens = someTokens(40, 1);
    const cached = await logitsBy(model, tokens, [40]);
    const [head1, ...rest] = model.forward([tokens]);
    const whole = (await head1?.toFloats()) as Float32Array;
    for (const [t, row] of cached.entries()) {
      for (let v = 0; v < 256; v++) expect(Math.abs((row[v] ?? NaN) - (whole[t * 256 + v] ?? NaN))).toBeLessThan(2e-4);
    }
    for (const each of [head1, ...rest]) each?.dispose();
    model.dispose();
  });
});

describe("every width from 1 to 64", () => {
  const runs = levels().flatMap((simd) => quickDtypes.map((dtype) => [simd, dtype] as const));
  it.each(runs)("gives every position the bits that reading one by one gives, %s %s", async (simd, dtype) => {
    const device = openLevel(simd);
    const config: ModelOptions = { ...size, trunkLayers: 1, futureTokens: 1 };
    const small = LanguageModel.create(config, { device, dtype, seed: 6 });
    const tokens = someTokens(66, 11);
    const bitsBy = async (width: number): Promise<Buffer> => {
      const widths = Array.from({ length: Math.ceil(tokens.length / width) }, () => width);
      return Buffer.concat((await logitsBy(small, tokens, widths)).map(({ buffer }) => Buffer.from(buffer)));
    };
    const oneByOne = await bitsBy(1);
    expect(oneByOne).toHaveLength(66 * 256 * 4);
    for (let width = 2; width <= 64; width++)
      expect((await bitsBy(width)).equals(oneByOne), `width ${width}`).toBe(true);
    small.dispose();
  });
});

const model = LanguageModel.create(models["parallel"] ?? size, { dtype: "f32", seed: 9, tokenizer: byteTokenizer() });

async function tokensOf(options: GenerateOptions, prompt: readonly number[] = [10, 20, 30]): Promise<number[]> {
  const tokens: number[] = [];
  for await (const { token } of generateTokens(model, prompt, options)) tokens.push(token);
  return tokens;
}

describe("generateTokens", () => {
  it("is greedy by default: each token is the likeliest after its prefix", async () => {
    const prompt = [10, 20, 30];
    const drawn = await tokensOf({ maxNewTokens: 12 });
    const all = [...prompt, ...drawn];
    const [head1, ...rest] = model.forward([all]);
    const logits = (await head1?.toFloats()) ?? [];
    for (const [i, token] of drawn.entries()) {
      const row = Array.from(logits.slice((prompt.length - 1 + i) * 256, (prompt.length + i) * 256));
      expect(token).toBe(row.indexOf(Math.max(...row)));
    }
    for (const each of [head1, ...rest]) each?.dispose();
  });

  it.each([
    [2, 12],
    [9, 50],
    [40, 3],
  ])("is what plain decoding writes where steps are measured: %d tokens, then %d", async (length, maxNewTokens) => {
    // A model of its own: what steps of another cost is not known yet.
    using fresh = LanguageModel.create(models["parallel"] ?? size, { dtype: "f32", seed: 10 });
    const prompt = someTokens(length, 3);
    const write = async (speculate: "auto" | "off"): Promise<number[]> => {
      const tokens: number[] = [];
      for await (const { token } of generateTokens(fresh, prompt, { speculate, maxNewTokens })) tokens.push(token);
      return tokens;
    };
    expect(await write("auto")).toEqual(await write("off"));
  });

  it("does not depend on how the prompt is read", async () => {
    const prompt = someTokens(60, 8);
    const options = { maxNewTokens: 20, temperature: 1, seed: 4 };
    const whole = await tokensOf({ ...options, promptChunk: 64 }, prompt);
    expect(whole).toHaveLength(20);
    for (const promptChunk of [1, 7, 59]) expect(await tokensOf({ ...options, promptChunk }, prompt)).toEqual(whole);
  });

  it("draws the same text for a seed and another for another", async () => {
    const options = { maxNewTokens: 30, temperature: 1, topK: 100, topP: 0.95 };
    const first = await tokensOf({ ...options, seed: 1 });
    expect(await tokensOf({ ...options, seed: 1 })).toEqual(first);
    expect(await tokensOf({ ...options, seed: 2 })).not.toEqual(first);
  });

  it("ends at the context's end and at maxNewTokens", async () => {
    expect(await tokensOf({ maxNewTokens: 500 }, someTokens(90, 3))).toHaveLength(7); // 96 positions: 6 are read again, the last is only drawn
    expect(await tokensOf({ maxNewTokens: 5 })).toHaveLength(5);
    expect(await tokensOf({ maxNewTokens: 0 })).toEqual([]);
  });

  it("gives back its memory when it ends, is left early, or is cancelled", async () => {
    const before = model.device.memory().live;
    await tokensOf({ maxNewTokens: 3 });
    for await (const _ of generateTokens(model, [1, 2], { maxNewTokens: 50 })) break;
    const controller = new AbortController();
    const cancelled = (async () => {
      for await (const _ of generateTokens(model, [1, 2], { maxNewTokens: 50, signal: controller.signal }))
        controller.abort();
    })();
    await expect(cancelled).rejects.toMatchObject({ code: "ABORTED" });
    expect(model.device.memory().live).toBe(before);
  });

  it.each([
    ["an empty prompt", [], {}, "BAD_ARGUMENT", /prompt: expected 1 to 96 tokens/],
    ["a prompt beyond the context", someTokens(97, 1), {}, "BAD_ARGUMENT", /got 97/],
    ["a token outside the vocabulary", [256], {}, "BAD_DATA", /tokens\[0\]: expected a token in 0 to 255, got 256/],
    ["a negative temperature", [1], { temperature: -1 }, "BAD_OPTION", /temperature/],
    ["an unknown option", [1], { temprature: 1 }, "BAD_OPTION", /Did you mean "temperature"/],
  ] as const)("refuses %s", async (_name, prompt, options, code, message) => {
    await expect(tokensOf(options as GenerateOptions, prompt)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    });
  });
});

describe("generate", () => {
  it("yields the tokens' text, whole characters only", async () => {
    const options = { maxNewTokens: 40, temperature: 1, seed: 3 };
    let text = "";
    for await (const piece of generate(model, "héllo", options)) {
      expect(piece).not.toBe("");
      text += piece;
    }
    const prompt = byteTokenizer().encode("héllo");
    expect(text).toBe(byteTokenizer().decode(await tokensOf(options, [...prompt])));
  });

  it("needs a tokenizer", async () => {
    using bare = LanguageModel.create(size, { dtype: "f32" });
    const read = async (): Promise<void> => {
      for await (const _ of generate(bare, "a")) return;
    };
    await expect(read()).rejects.toMatchObject({ code: "NO_TOKENIZER" });
  });
});

describe("StopFilter", () => {
  const read = (stops: string[], pieces: string[]): string => {
    const filter = new StopFilter(stops);
    return pieces.map((piece) => filter.push(piece)).join("|") + "|" + filter.flush();
  };
  it.each([
    [["END"], ["ab", "cE", "N", "D", "ef"], "ab|c||||"],
    [["END"], ["E", "N", "x"], "||ENx|"],
    [["END"], ["aEN"], "a|EN"],
    [["bb", "ab"], ["a", "bb"], "||"],
    [[], ["a", "b"], "a|b|"],
  ])("%o in %o", (stops, pieces, expected) => {
    expect(read(stops, pieces)).toBe(expected);
  });
});

it("errors are ForetokenErrors", async () => {
  await expect(tokensOf({ topP: 0 })).rejects.toBeInstanceOf(ForetokenError);
});
