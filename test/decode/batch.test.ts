import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, it } from "vitest";
import { generateBatch, type BatchOptions, type BatchPiece, type BatchRequest } from "../../lib/decode/batch.js";
import { generate, generateTokens } from "../../lib/decode/generate.js";
import { byteTokenizer } from "../../lib/io/tokenizer.js";
import { LanguageModel } from "../../lib/mtp/model.js";

const model = LanguageModel.create(
  {
    ...{ vocabSize: 256, hiddenSize: 32, trunkLayers: 1, numAttentionHeads: 4, maxPositions: 80, futureTokens: 3 },
    initializerRange: 0.4,
  },
  { dtype: "f32", seed: 9, tokenizer: byteTokenizer() },
);
afterAll(() => model.dispose());

async function collect(
  requests: Iterable<BatchRequest> | AsyncIterable<BatchRequest>,
  options: BatchOptions,
): Promise<{ texts: string[]; endings: unknown[]; pieces: BatchPiece[] }> {
  const [texts, endings, pieces]: [string[], unknown[], BatchPiece[]] = [[], [], []];
  for await (const piece of generateBatch(model, requests, options)) {
    pieces.push(piece);
    texts[piece.request] = (texts[piece.request] ?? "") + piece.text;
    if (piece.finished) endings[piece.request] = piece.finished;
  }
  return { texts, endings, pieces };
}

async function alone(prompt: string, options: BatchOptions): Promise<string> {
  let text = "";
  for await (const piece of generate(model, prompt, options)) text += piece;
  return text;
}

const prompts = ["a", "the prompt of the second", "x = ", "function f() {", "zz", "import "];

describe("generateBatch", () => {
  it.each([1, 2, 4, 9])("gives each request the text it has alone, %d at a time", async (slots) => {
    const options = { maxNewTokens: 30, temperature: 1, seed: 5 };
    const expected = await Promise.all(prompts.map((prompt, request) => alone(prompt, { ...options, request })));
    expect(new Set(expected).size).toBe(prompts.length);
    const { texts } = await collect(prompts, { ...options, slots });
    expect(texts).toEqual(expected);
  });

  it("lets each request have settings of its own", async () => {
    const tokens = [5, 6, 7];
    const requests = [
      { prompt: "one", maxNewTokens: 3 },
      { prompt: "two", temperature: 1, seed: 3, request: 0 },
      tokens,
      { prompt: tokens, stop: [] },
    ];
    const { texts, endings, pieces } = await collect(requests, { maxNewTokens: 12 });
    expect(pieces.filter(({ request }) => request === 0).flatMap((piece) => piece.tokens)).toHaveLength(3);
    expect(texts[1]).toBe(await alone("two", { maxNewTokens: 12, temperature: 1, seed: 3 }));
    expect(texts[2]).toBe(texts[3]);
    expect(endings).toEqual(["length", "length", "length", "length"]);
  });

  it("takes in what arrives while others are in the making, and waits when there are none", async () => {
    const taken: number[] = [];
    async function* arriving(): AsyncGenerator<BatchRequest> {
      for (const [i, prompt] of prompts.entries()) {
        if (i === 3) await sleep(30); // the ones before are done by then
        taken.push(i);
        yield { prompt, maxNewTokens: 3 + 4 * i };
      }
    }
    const { texts, pieces } = await collect(arriving(), { slots: 3 });
    expect(taken).toEqual([0, 1, 2, 3, 4, 5]);
    for (const [i, prompt] of prompts.entries())
      expect(texts[i]).toBe(await alone(prompt, { maxNewTokens: 3 + 4 * i }));
    const places = pieces.map(({ request }) => request);
    expect(places.indexOf(1)).toBeLessThan(places.lastIndexOf(0)); // side by side
  });

  it("reads a long prompt beside others without holding them up", async () => {
    const long = "long ".repeat(12);
    const { pieces } = await collect(["short", long], { maxNewTokens: 12, promptChunk: 4, speculate: "off" });
    const places = pieces.map(({ request }) => request);
    expect(places.slice(0, 5)).toEqual([0, 0, 0, 0, 0]); // 60 tokens of prompt take 15 steps
    expect(places.filter((place) => place === 1)).toHaveLength(12);
  });

  it("ends a text at a stop string, at the context's end, at eos", async () => {
    const whole = await alone("abc", { maxNewTokens: 40 });
    const stop = whole.slice(4, 6);
    const { texts, endings } = await collect(
      [{ prompt: "abc", stop }, { prompt: "y".repeat(79) }, { prompt: "abc", maxNewTokens: 0 }],
      { maxNewTokens: 40 },
    );
    expect(endings).toEqual(["stop", "context", "length"]);
    expect(texts[0]).toBe(whole.slice(0, whole.indexOf(stop)));
    expect(texts[2]).toBe("");
  });

  it("a request that is cancelled ends alone; cancelling the batch ends it", async () => {
    const own = new AbortController();
    const options = { maxNewTokens: 20, speculate: "off" } as const;
    const endings: unknown[] = [];
    for await (const piece of generateBatch(model, [{ prompt: "a", signal: own.signal }, "b"], options)) {
      if (piece.request === 0 && !own.signal.aborted) own.abort();
      if (piece.finished) endings[piece.request] = piece.finished;
    }
    expect(endings).toEqual(["aborted", "length"]);
    const controller = new AbortController();
    const cancelled = (async () => {
      for await (const _ of generateBatch(model, prompts, { ...options, signal: controller.signal }))
        controller.abort();
    })();
    await expect(cancelled).rejects.toMatchObject({ code: "ABORTED" });
  });

  it("tells the source when no more is wanted, and gives back its memory", async () => {
    const before = model.device.memory().live;
    let closed = false;
    async function* endless(): AsyncGenerator<string> {
      try {
        for (;;) {
          yield "again";
          await sleep(1);
        }
      } finally {
        closed = true;
      }
    }
    for await (const { request } of generateBatch(model, endless(), { maxNewTokens: 2 })) if (request === 3) break;
    await expect.poll(() => closed).toBe(true);
    expect(model.device.memory().live).toBe(before);
  });

  it("passes on what the source throws", async () => {
    const { live } = model.device.memory();
    async function* failing(): AsyncGenerator<string> {
      yield "first";
      await sleep(1);
      throw new RangeError("the source's own");
    }
    await expect(collect(failing(), { maxNewTokens: 200 })).rejects.toThrow("the source's own");
    expect(model.device.memory().live).toBe(live);
  });

  it.each([
    [{ slots: 0 }, "BAD_OPTION", /slots: expected a whole number above 0, got 0/],
    [
      { speculate: 4 },
      "BAD_OPTION",
      /speculate: expected "off", "auto" or 1 to 3 \(the model's prediction heads\), got 4/,
    ],
    [{ speculate: 0 }, "BAD_OPTION", /speculate/],
    [{ speculate: "always" }, "BAD_OPTION", /speculate/],
    [{ draft: 3 }, "BAD_OPTION", /draft/],
    [{ request: -1 }, "BAD_OPTION", /request/],
  ] as const)("refuses %o", async (options, code, message) => {
    await expect(collect(["a"], options as unknown as BatchOptions)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    });
  });

  it("refuses a bad prompt where it stands among others", async () => {
    await expect(collect(["a", ""], { maxNewTokens: 2 })).rejects.toMatchObject({ code: "BAD_ARGUMENT" });
    await expect(collect([[300]], {})).rejects.toMatchObject({ code: "BAD_DATA" });
  });
});

describe("context: slide", () => {
  it("goes on past the context, the same with and without drafts", async () => {
    const options = { maxNewTokens: 150, temperature: 1, context: "slide" } as const;
    const plain = await alone("start", { ...options, speculate: "off" });
    expect(Buffer.byteLength(plain)).toBeGreaterThan(80);
    expect(await alone("start", { ...options, speculate: 3 })).toBe(plain);
    const { texts } = await collect(["start", "other"], { ...options, speculate: 3 });
    expect(texts[0]).toBe(plain);
  });

  it("starts from the end of a longer prompt", async () => {
    const tokens: number[] = [];
    const prompt = Array.from({ length: 200 }, (_, i) => i % 50);
    for await (const { token } of generateTokens(model, prompt, { context: "slide", maxNewTokens: 4 }))
      tokens.push(token);
    const same: number[] = [];
    for await (const { token } of generateTokens(model, prompt.slice(-40), { maxNewTokens: 4 })) same.push(token);
    expect(tokens).toEqual(same);
  });
});
