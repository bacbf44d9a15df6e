import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { byteTokenizer, tokenizerFromJson } from "../../lib/io/tokenizer.js";

const tokenizer = byteTokenizer();
const text = fc.string({ unit: "binary" });

describe("bytes", () => {
  test("are the tokens, and 0 ends a document", () => {
    expect(tokenizer).toMatchObject({ vocabSize: 256, eosToken: 0 });
    expect(tokenizer.encode("aé漢😀")).toEqual(Int32Array.of(97, 0xc3, 0xa9, 0xe6, 0xbc, 0xa2, 0xf0, 0x9f, 0x98, 0x80));
    expect(tokenizer.encode(new Uint8Array([0, 255]))).toEqual(Int32Array.of(0, 255));
  });

  test("text comes back, a byte order mark and zero bytes included", () => {
    expect(tokenizer.decode(tokenizer.encode("\ufeffa\u0000b"))).toBe("\ufeffa\u0000b");
    fc.assert(fc.property(text, (string) => tokenizer.decode(tokenizer.encode(string)) === string));
  });

  test("any bytes encode to themselves and decode as UTF-8 with replacements", () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        expect([...tokenizer.encode(bytes)]).toEqual([...bytes]);
        const decoded = tokenizer.decode([...bytes]);
        expect(decoded).toBe(Buffer.from(bytes).toString("utf8"));
      }),
    );
  });

  test.each([256, -1, 1.5, NaN])("token %s is refused", (token) => {
    expect(() => tokenizer.decode([65, token])).toThrow(expect.objectContaining({ code: "BAD_DATA", op: "decode" }));
    expect(() => tokenizer.createTextStream().push(token)).toThrow(expect.objectContaining({ code: "BAD_DATA" }));
  });
});

describe("the text stream", () => {
  test("gives a character with its last byte, never before", () => {
    const stream = tokenizer.createTextStream();
    const pieces = [...tokenizer.encode("a漢😀")].map((token) => stream.push(token));
    expect(pieces).toEqual(["a", "", "", "漢", "", "", "", "😀"]);
    expect(stream.flush()).toBe("");
  });

  test("says at the end that a character was cut", () => {
    const stream = tokenizer.createTextStream();
    expect(stream.push(0xe6) + stream.push(0xbc)).toBe("");
    expect(stream.flush()).toBe("\ufffd");
  });

  test("gives in pieces what decode gives at once, for any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const stream = tokenizer.createTextStream();
        const pieces = [...bytes].map((token) => stream.push(token));
        for (const piece of pieces) expect(piece).not.toMatch(/\p{Surrogate}/u);
        expect(pieces.join("") + stream.flush()).toBe(tokenizer.decode(bytes));
      }),
    );
  });
});

describe("tokenizer.json", () => {
  interface Saved {
    model: { type: string; vocab: Record<string, number>; merges: unknown[] };
    added_tokens: { id: number; content: string; special: boolean }[];
    pre_tokenizer: { type: string; add_prefix_space: boolean };
    normalizer: { type: string } | null;
  }
  const saved = () => structuredClone(tokenizer.toJSON()) as Saved;

  test("names bytes as GPT-2 does, byte 0 by the character that it is", () => {
    const { model, added_tokens: added } = saved();
    expect(Object.values(model.vocab).sort((a, b) => a - b)).toEqual(Array.from({ length: 256 }, (_, i) => i));
    // from GPT-2's vocabulary: "Ġ" is a space, "Ċ" a line feed, "ł" is byte 0xA0, "Ń" byte 0xAD, "¡" itself
    expect(model.vocab).toMatchObject({ "\u0000": 0, Ġ: 32, Ċ: 10, ł: 0xa0, Ń: 0xad, "¡": 0xa1, A: 65, ġ: 0x7f });
    expect(model.vocab).not.toHaveProperty("Ā"); // would be U+0100 in a text as much as byte 0
    expect(added).toEqual([expect.objectContaining({ id: 0, content: "\u0000", special: true, normalized: false })]);
  });

  test("comes back as the byte tokenizer, parsed or as text", () => {
    expect(tokenizerFromJson(saved()).encode("é")).toEqual(Int32Array.of(195, 169));
    expect(tokenizerFromJson(JSON.stringify(tokenizer.toJSON())).vocabSize).toBe(256);
  });

  const foreign: [string, (json: Saved) => void, RegExp][] = [
    ["WordPiece", (json) => (json.model.type = "WordPiece"), /got WordPiece with 256 tokens/],
    ["merges", (json) => json.model.merges.push(["a", "b"]), /got BPE with 256 tokens and 1 merges/],
    ["a larger vocabulary", (json) => (json.model.vocab["ab"] = 256), /got BPE with 257 tokens/],
    ["swapped ids", (json) => Object.assign(json.model.vocab, { a: 98, b: 97 }), /"a" is not 97/],
    ["another pre-tokenizer", (json) => (json.pre_tokenizer.type = "Whitespace"), /pre_tokenizer "Whitespace"/],
    ["a space in front", (json) => (json.pre_tokenizer.add_prefix_space = true), /adds a space/],
    ["a normalizer", (json) => (json.normalizer = { type: "NFC" }), /normalizer "NFC"/],
  ];

  test.each(foreign)("with %s is refused by name", (_, change, message) => {
    const json = saved();
    change(json);
    expect(() => tokenizerFromJson(json, "m/tokenizer.json")).toThrow(message);
    expect(() => tokenizerFromJson(json)).toThrow(expect.objectContaining({ code: "BAD_CHECKPOINT" }));
  });

  test.each(["", "{", "null", "[]", '{"model":null}', '{"model":{"type":3}}', '{"model":{"type":"BPE"}}'])(
    "%j is refused",
    (json) => {
      expect(() => tokenizerFromJson(json)).toThrow(expect.objectContaining({ code: "BAD_CHECKPOINT" }));
    },
  );
});
