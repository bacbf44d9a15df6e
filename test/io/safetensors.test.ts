import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  openSafetensors,
  type SafetensorsDType,
  safetensorsChunks,
  type SavedTensor,
} from "../../lib/io/safetensors.js";
import { CrashFileSystem } from "../helpers/io-crash.js";

/** Written by safetensors 0.8.0 in Python: the tensors of `mixed`, metadata {format: "pt"}. */
const reference =
  "a8010000000000007b225f5f6d657461646174615f5f223a7b22666f726d6174223a227074227d2c22c3a9223a7b226474797065223a22493634222c227368617065223a5b315d2c22646174615f6f666673657473223a5b302c385d7d2c2264223a7b226474797065223a22463634222c227368617065223a5b5d2c22646174615f6f666673657473223a5b382c31365d7d2c2262223a7b226474797065223a22463332222c227368617065223a5b325d2c22646174615f6f666673657473223a5b31362c32345d7d2c22656d707479223a7b226474797065223a22463332222c227368617065223a5b302c335d2c22646174615f6f666673657473223a5b32342c32345d7d2c2268223a7b226474797065223a22463136222c227368617065223a5b315d2c22646174615f6f666673657473223a5b32342c32365d7d2c2261223a7b226474797065223a225538222c227368617065223a5b312c335d2c22646174615f6f666673657473223a5b32362c32395d7d2c2263223a7b226474797065223a22424f4f4c222c227368617065223a5b325d2c22646174615f6f666673657473223a5b32392c33315d7d7d202007000000000000009a9999999999b93f0000c03f000000c0003c0102030100";

const mixed: SavedTensor[] = [
  { name: "b", dtype: "F32", shape: [2], data: () => bytesOf(new Float32Array([1.5, -2])) },
  { name: "a", dtype: "U8", shape: [1, 3], data: () => new Uint8Array([1, 2, 3]) },
  { name: "é", dtype: "I64", shape: [1], data: () => bytesOf(new BigInt64Array([7n])) },
  { name: "c", dtype: "BOOL", shape: [2], data: () => new Uint8Array([1, 0]) },
  { name: "h", dtype: "F16", shape: [1], data: () => new Uint8Array([0x00, 0x3c]) },
  { name: "empty", dtype: "F32", shape: [0, 3], data: () => new Uint8Array(0) },
  { name: "d", dtype: "F64", shape: [], data: () => Promise.resolve(bytesOf(new Float64Array([0.1]))) },
];

function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

async function encode(tensors: readonly SavedTensor[], metadata: Record<string, string> = {}): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of safetensorsChunks(tensors, metadata)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** A file from the text of its header and its number of data bytes. */
function withHeader(json: string, dataBytes = 0, length?: bigint): Uint8Array {
  const header = Buffer.from(json);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(header.length));
  return Buffer.concat([prefix, header, Buffer.alloc(dataBytes)]);
}

async function open(bytes: Uint8Array) {
  const fs = new CrashFileSystem();
  await fs.write("/x", [bytes]);
  return await openSafetensors("/x", fs);
}

describe("writing", () => {
  test("byte for byte what the reference implementation writes, whatever the order given", async () => {
    expect((await encode(mixed, { format: "pt" })).toString("hex")).toBe(reference);
    expect((await encode([...mixed].reverse(), { format: "pt" })).toString("hex")).toBe(reference);
  });

  test("asks for one tensor's bytes at a time", async () => {
    let alive = 0;
    const data = () => {
      expect(++alive).toBe(1);
      return new Uint8Array(4);
    };
    const tensors = ["a", "b", "c"].map((name) => ({ name, dtype: "F32" as const, shape: [1], data }));
    let total = 0;
    for await (const chunk of safetensorsChunks(tensors)) {
      alive = 0;
      total += chunk.length;
    }
    expect(total % 8).toBe(12 % 8);
  });

  test("bytes that do not fit the shape, and two tensors of one name, are refused", async () => {
    const tensor: SavedTensor = { name: "w", dtype: "BF16", shape: [2, 2], data: () => new Uint8Array(7) };
    await expect(encode([tensor])).rejects.toMatchObject({ code: "SHAPE_MISMATCH", argument: "w", got: "7" });
    await expect(encode([tensor, tensor])).rejects.toMatchObject({ code: "BAD_ARGUMENT", argument: "w" });
    await expect(encode([{ ...tensor, name: "__metadata__" }])).rejects.toMatchObject({ code: "BAD_ARGUMENT" });
  });
});

describe("reading", () => {
  test("the reference's file", async () => {
    const file = await open(Buffer.from(reference, "hex"));
    expect([...file.metadata]).toEqual([["format", "pt"]]);
    expect(file.tensors.size).toBe(mixed.length);
    for (const { name, dtype, shape, data } of mixed) {
      expect(file.tensors.get(name)).toMatchObject({ dtype, shape });
      expect(await file.read(name)).toEqual(new Uint8Array(await data()));
    }
    expect(new Float64Array((await file.read("d")).buffer)[0]).toBe(0.1);
    await expect(file.read("z")).rejects.toMatchObject({ code: "BAD_CHECKPOINT", argument: '/x, tensor "z"' });
  });

  test("golden gradients from the disk have the norm that PyTorch reported", async () => {
    const golden = fileURLToPath(new URL("../golden/rnn", import.meta.url));
    await using file = await openSafetensors(`${golden}.safetensors`);
    const { gradient_norm: norm } = JSON.parse(readFileSync(`${golden}.json`, "utf8")) as { gradient_norm: number };
    let squares = 0;
    for (const name of file.tensors.keys()) {
      if (!name.startsWith("gradients.")) continue;
      for (const value of new Float32Array((await file.read(name)).buffer)) squares += value * value;
    }
    expect(Math.sqrt(squares)).toBeCloseTo(norm, 6);
  });

  test("random tensors of every dtype come back", async () => {
    const sizes = {
      BOOL: 1,
      U8: 1,
      I8: 1,
      I16: 2,
      U16: 2,
      F16: 2,
      BF16: 2,
      I32: 4,
      U32: 4,
      F32: 4,
      F64: 8,
      I64: 8,
      U64: 8,
    };
    const tensor = fc
      .record({
        name: fc.string({ minLength: 1, unit: "binary" }),
        dtype: fc.constantFrom(...(Object.keys(sizes) as (keyof typeof sizes)[])),
        shape: fc.array(fc.nat(4), { maxLength: 3 }),
      })
      .chain(({ name, dtype, shape }) => {
        const length = shape.reduce((product, size) => product * size, sizes[dtype]);
        return fc
          .uint8Array({ minLength: length, maxLength: length })
          .map((bytes) => ({ name, dtype, shape, data: () => bytes }));
      });
    const tensors = fc.uniqueArray(tensor, { selector: (t) => t.name, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(tensors, fc.dictionary(fc.string(), fc.string()), async (given, metadata) => {
        const file = await open(await encode(given, metadata));
        expect(Object.fromEntries(file.metadata)).toEqual({ ...metadata });
        expect([...file.tensors.keys()].sort()).toEqual(given.map((t) => t.name).sort());
        for (const { name, data } of given) expect(Buffer.compare(await file.read(name), data())).toBe(0);
      }),
    );
  });
});

describe("hostile files are BAD_CHECKPOINT and name the rule and the tensor", () => {
  const entry = (dtype: string, shape: string, offsets: string) =>
    `{"dtype":${dtype},"shape":${shape},"data_offsets":${offsets}}`;
  const one = (dtype: string, shape: string, offsets: string, bytes = 8) =>
    withHeader(`{"w":${entry(dtype, shape, offsets)}}`, bytes);
  const f32 = entry('"F32"', "[2]", "[0,8]");
  const deep = "[".repeat(100_000) + "]".repeat(100_000);
  const cases: [string, Uint8Array, RegExp][] = [
    ["empty file", new Uint8Array(0), /8 bytes of header length.*0 bytes/],
    ["seven bytes", new Uint8Array(7), /8 bytes of header length/],
    ["header length beyond the file", withHeader("{}", 0, 3n), /within the file \(2 bytes left\).*3/],
    ["header length of 2^64 − 1", withHeader("{}", 0, 2n ** 64n - 1n), /at most 100000000.*18446744073709551615/],
    ["header of 0 bytes", withHeader(""), /starts with \{/],
    ["header in front of the brace", withHeader(' {"a":1}'), /starts with \{, got byte 32/],
    ["byte order mark", withHeader("\ufeff{}"), /starts with \{/],
    ["an array", withHeader("[]"), /starts with \{/],
    ["no JSON", withHeader('{"w":'), /UTF-8 JSON/],
    ["bytes behind the JSON", withHeader("{}x"), /UTF-8 JSON/],
    ["not UTF-8", Buffer.concat([withHeader('{"', 0, 6n), Buffer.from([0xff, 0x22, 0x3a, 0x31])]), /UTF-8 JSON/],
    ["deep nesting", withHeader(`{"w":${deep}}`), /tensor "w": expected an object/],
    ["a tensor twice", withHeader(`{"w":${f32},"w":${f32}}`, 8), /tensor "w": expected each key once/],
    ["a tensor twice, escaped", withHeader(`{"w":${f32},"\\u0077":${f32}}`, 8), /tensor "w": expected each key once/],
    [
      "a field twice",
      withHeader('{"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8),
      /each key once/,
    ],
    ["metadata twice", withHeader('{"__metadata__":{},"__metadata__":{}}'), /each key once/],
    ["metadata of numbers", withHeader('{"__metadata__":{"a":1}}'), /a string for "a", got number/],
    ["metadata as list", withHeader('{"__metadata__":[]}'), /__metadata__".*object of strings/],
    ["metadata null", withHeader('{"__metadata__":null}'), /object of strings, got null/],
    ["entry null", withHeader('{"w":null}'), /tensor "w": expected an object/],
    ["no dtype", withHeader('{"w":{"shape":[2],"data_offsets":[0,8]}}', 8), /a dtype of .*got nothing/],
    ["unknown dtype", one('"F33"', "[2]", "[0,8]"), /tensor "w": expected a dtype of .*got "F33"/],
    ["dtype from the prototype", one('"constructor"', "[2]", "[0,8]"), /a dtype of/],
    ["dtype in lower case", one('"f32"', "[2]", "[0,8]"), /a dtype of/],
    ["no shape", withHeader('{"w":{"dtype":"F32","data_offsets":[0,8]}}', 8), /a shape of non-negative integers/],
    ["negative shape", one('"F32"', "[-2]", "[0,8]"), /a shape of non-negative integers, got \[-2\]/],
    ["fractional shape", one('"F32"', "[0.5]", "[0,8]"), /a shape of non-negative integers/],
    ["shape of text", one('"F32"', '["2"]', "[0,8]"), /a shape of non-negative integers/],
    ["shape beyond 2^53", one('"F32"', "[9007199254740993]", "[0,8]"), /a shape of non-negative integers/],
    ["product overflow", one('"F32"', "[4294967296,4294967296]", "[0,8]"), /bytes can be counted/],
    ["overflow hidden by a zero", one('"F32"', "[4294967296,4294967296,0]", "[0,0]", 0), /bytes can be counted/],
    ["overflow by the dtype", one('"F64"', "[4503599627370496]", "[0,8]"), /bytes can be counted/],
    ["one offset", one('"F32"', "[2]", "[0]"), /data_offsets of two/],
    ["three offsets", one('"F32"', "[2]", "[0,8,8]"), /data_offsets of two/],
    ["negative offset", one('"F32"', "[2]", "[-8,0]"), /data_offsets of two non-negative/],
    ["falling offsets", one('"F32"', "[2]", "[8,0]"), /do not fall/],
    ["size of another shape", one('"F32"', "[3]", "[0,8]"), /12 bytes apart for F32 \(3\), got \[0,8\]/],
    ["data cut off", one('"F32"', "[2]", "[0,8]", 7), /tensor "w": expected data within the file \(7 bytes/],
    ["trailing bytes", one('"F32"', "[2]", "[0,8]", 9), /8 bytes of data as the header says, got 9/],
    ["trailing bytes without tensors", withHeader("{}", 1), /0 bytes of data.*trailing/],
    [
      "hole in front",
      one('"F32"', "[2]", "[4,12]", 12),
      /tensor "w": expected data_offsets that start at 0, got 4: a hole/,
    ],
    [
      "hole between",
      withHeader(`{"a":${f32},"b":${entry('"U8"', "[1]", "[9,10]")}}`, 10),
      /tensor "b": expected data_offsets that start at 8, got 9: a hole/,
    ],
    [
      "overlap",
      withHeader(`{"a":${f32},"b":${entry('"U8"', "[8]", "[4,12]")}}`, 12),
      /tensor "b": expected data_offsets that start at 8, got 4: an overlap/,
    ],
    ["the same bytes twice", withHeader(`{"a":${f32},"b":${f32}}`, 8), /tensor "b".*overlap/],
  ];

  test.each(cases)("%s", async (_, bytes, message) => {
    await expect(open(bytes)).rejects.toThrow(message);
    await expect(open(bytes)).rejects.toMatchObject({ code: "BAD_CHECKPOINT" });
  });

  test("a missing file, and a folder", async () => {
    await expect(openSafetensors(import.meta.dirname)).rejects.toMatchObject({ code: "BAD_CHECKPOINT" });
    await expect(openSafetensors("/nowhere/x.safetensors")).rejects.toMatchObject({ code: "BAD_CHECKPOINT" });
  });

  test("an unknown field and spaces behind the header are no offence, as in the reference", async () => {
    const header = '{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"note":"x\\"{"}}   ';
    expect((await open(withHeader(header, 1))).tensors.size).toBe(1);
  });

  /** Whatever a damaged file still says must hold together; most damage is refused with the one error. */
  async function opensSoundlyOrIsRefused(bytes: Uint8Array): Promise<void> {
    try {
      const file = await open(bytes);
      let total = 0;
      for (const name of file.tensors.keys()) total += (await file.read(name)).length;
      expect(total).toBeLessThan(bytes.length);
    } catch (error) {
      expect(error).toMatchObject({ name: "ForetokenError", code: "BAD_CHECKPOINT" });
    }
  }

  test("any flipped bit", async () => {
    const bytes = Buffer.from(reference, "hex");
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const damaged = Buffer.from(bytes);
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      await opensSoundlyOrIsRefused(damaged);
    }
  });

  test("any cut or added tail is refused", async () => {
    const bytes = Buffer.from(reference, "hex");
    for (let length = 0; length < bytes.length; length++) {
      await expect(open(bytes.subarray(0, length))).rejects.toMatchObject({ code: "BAD_CHECKPOINT" });
    }
    await expect(open(Buffer.concat([bytes, Buffer.alloc(1)]))).rejects.toMatchObject({ code: "BAD_CHECKPOINT" });
  });

  test("any JSON as header", async () => {
    const dtypes: SafetensorsDType[] = ["U8", "F32", "I64"];
    const tensorLike = fc.record(
      {
        dtype: fc.oneof(fc.constantFrom(...dtypes), fc.jsonValue()),
        shape: fc.oneof(fc.array(fc.nat(3)), fc.jsonValue()),
        data_offsets: fc.oneof(fc.tuple(fc.nat(16), fc.nat(16)), fc.jsonValue()),
      },
      { requiredKeys: [] },
    );
    const header = fc.dictionary(fc.string(), fc.oneof(tensorLike, fc.jsonValue()));
    await fc.assert(
      fc.asyncProperty(header, fc.nat(16), (value, dataBytes) =>
        opensSoundlyOrIsRefused(withHeader(JSON.stringify(value), dataBytes)),
      ),
      { numRuns: 500 },
    );
  });
});
