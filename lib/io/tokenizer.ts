// Tokenizers: text to integers and back. The byte tokenizer is saved as a Hugging Face ByteLevel BPE without merges,
// so that other programs read the same ids from tokenizer.json.
import { ForetokenError } from "../errors.js";

export interface Tokenizer {
  readonly vocabSize: number;
  /** The token that ends a document, or null. */
  readonly eosToken: number | null;
  /** Text (as UTF-8) or bytes to tokens. */
  encode(text: string | Uint8Array): Int32Array;
  /** Tokens to text; bytes that are no UTF-8 become U+FFFD. Errors: BAD_DATA for a token outside the vocabulary. */
  decode(tokens: ArrayLike<number>): string;
  /** Decodes token by token, yielding text only at complete characters. */
  createTextStream(): TextStream;
  /** The content of tokenizer.json. */
  toJSON(): unknown;
}

export interface TextStream {
  /** The characters that this token completes; "" while one is incomplete. */
  push(token: number): string;
  /** What is left at the end: "", or U+FFFD for a character that never became complete. */
  flush(): string;
}

const byteCount = 256;
/** Byte 0 under its own name: as an added token it is also what the bytes of a text containing U+0000 become. */
const endToken = "\u0000";

/**
 * Tokens are the bytes of UTF-8; byte 0 ends a document.
 *
 * @example
 * byteTokenizer().encode("é"); // Int32Array [195, 169]
 */
export function byteTokenizer(): Tokenizer {
  return {
    vocabSize: byteCount,
    eosToken: 0,
    encode: (text) => Int32Array.from(typeof text === "string" ? new TextEncoder().encode(text) : text),
    decode(tokens) {
      const bytes = new Uint8Array(tokens.length);
      for (let i = 0; i < bytes.length; i++) bytes[i] = checkedByte(tokens[i]);
      return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    },
    createTextStream: createByteStream,
    toJSON: byteTokenizerJson,
  };
}

/**
 * The tokenizer that a tokenizer.json describes (its text or parsed value). Errors: BAD_CHECKPOINT naming the type
 * of one that is not ours; `path` is for the message.
 */
export function tokenizerFromJson(json: unknown, path = "tokenizer.json"): Tokenizer {
  const found = describe(typeof json === "string" ? parse(json, path) : json);
  if (found === null) return byteTokenizer();
  throw new ForetokenError("BAD_CHECKPOINT", {
    op: "load",
    argument: path,
    wanted: "the byte tokenizer (ByteLevel BPE of 256 bytes without merges)",
    got: found,
    remedy: "Tokenize with its own program and train on tokenDataset.",
  });
}

function createByteStream(): TextStream {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const byte = new Uint8Array(1);
  let complete = true; // no character has begun
  return {
    push(token) {
      const value = checkedByte(token);
      if (complete && value < 0x80) return String.fromCharCode(value); // much quicker than the decoder
      byte[0] = value;
      const text = decoder.decode(byte, { stream: true });
      complete = text !== "" && value < 0x80;
      return text;
    },
    flush: () => decoder.decode(),
  };
}

function checkedByte(token: number | undefined): number {
  if (token !== undefined && Number.isInteger(token) && token >= 0 && token < byteCount) return token;
  throw new ForetokenError("BAD_DATA", {
    op: "decode",
    argument: "token",
    wanted: "a byte, 0 to 255",
    got: `${token}`,
  });
}

/**
 * GPT-2's visible character for each byte: printable Latin-1 stands for itself, the others follow from U+0100 on.
 * (https://github.com/openai/gpt-2, encoder.py, bytes_to_unicode)
 */
function byteCharacters(): string[] {
  const isVisible = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
  let next = 0x100;
  return Array.from({ length: byteCount }, (_, byte) => String.fromCodePoint(isVisible(byte) ? byte : next++));
}

function vocabulary(): Record<string, number> {
  const names = byteCharacters();
  names[0] = endToken;
  return Object.fromEntries(names.map((name, byte) => [name, byte]));
}

function byteTokenizerJson(): unknown {
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [
      { id: 0, content: endToken, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true },
    ],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: vocabulary(),
      merges: [],
    },
  };
}

function parse(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ForetokenError("BAD_CHECKPOINT", {
      op: "load",
      argument: path,
      wanted: "JSON",
      got: String(cause),
      cause,
    });
  }
}

/** null for our own tokenizer, else what was found instead. */
function describe(json: unknown): string | null {
  const model = field(json, "model");
  const type = field(model, "type");
  if (typeof type !== "string") return "no model type";
  const vocab = field(model, "vocab");
  const merges = field(model, "merges");
  const size = typeof vocab === "object" && vocab !== null ? Object.keys(vocab).length : 0;
  const mergeCount = Array.isArray(merges) ? merges.length : 0;
  if (type !== "BPE" || size !== byteCount || mergeCount > 0) {
    return `${type} with ${size} tokens and ${mergeCount} merges`;
  }
  const changed = Object.entries(vocabulary()).find(([name, id]) => field(vocab, name) !== id);
  if (changed !== undefined) return `BPE of 256 tokens of which ${JSON.stringify(changed[0])} is not ${changed[1]}`;
  const preTokenizer = field(json, "pre_tokenizer");
  if (field(preTokenizer, "type") !== "ByteLevel") return `BPE with pre_tokenizer ${show(field(preTokenizer, "type"))}`;
  if (field(preTokenizer, "add_prefix_space") !== false) return "ByteLevel BPE that adds a space in front";
  const normalizer = field(json, "normalizer") ?? null;
  return normalizer === null ? null : `BPE with normalizer ${show(field(normalizer, "type"))}`;
}

function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

function show(value: unknown): string {
  return JSON.stringify(value) ?? "none";
}
