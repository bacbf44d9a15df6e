import { symlinkSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chooseGroups } from "../../lib/io/split.js";
import { textDataset, type TextDataset } from "../../lib/io/text-dataset.js";
import { groupsOf } from "../../lib/io/text-files.js";
import { byteTokenizer, type Tokenizer } from "../../lib/io/tokenizer.js";
import { folderOf, linesOf } from "../helpers/io-files.js";

const tokenizer = byteTokenizer();
const load = (paths: string | string[], options = {}) => textDataset(paths, tokenizer, options);
const namesOf = (data: TextDataset) => data.files.map((file) => file.name);

/** The whole stream as text, read back through evaluation batches. */
function textOf(data: TextDataset): string {
  const rows = [...data.evalBatches({ batchSize: 1, contextLength: 64, lookahead: 1 })];
  const tokens = rows.flatMap((batch) => [...batch.targets.subarray(0, 64)].filter((token) => token >= 0));
  return tokenizer.decode(tokens);
}

describe("files", () => {
  const folder = folderOf({
    "b.txt": "bee",
    "a/z.ts": "zed",
    "a/Ä.ts": "umlaut",
    "a/B.ts": "upper",
    "a/[x].ts": "brackets",
    "a/deep/er/c.js": "deeper",
    "a/empty.ts": "",
    "a/image.png": new Uint8Array([137, 80, 0, 1]),
    ".hidden/h.ts": "hidden",
  });

  test("of a folder: all but hidden, empty and binary ones, by code units, each ended by byte 0", () => {
    const data = load(folder);
    expect(namesOf(data)).toEqual(["a/B.ts", "a/[x].ts", "a/deep/er/c.js", "a/z.ts", "a/Ä.ts", "b.txt"]);
    expect(textOf(data)).toBe("upper\0brackets\0deeper\0zed\0umlaut\0bee\0");
    expect(data).toMatchObject({ binaries: 1, twins: [], vocabSize: 256, documentCount: 6 });
    expect(data.tokenCount).toBe(5 + 8 + 6 + 3 + 6 + 3 + 6);
  });

  test("of globs, names with brackets, and lists with exceptions; a file found twice is there once", () => {
    expect(namesOf(load(join(folder, "a/**/*.{ts,js}")))).toEqual(["B.ts", "[x].ts", "deep/er/c.js", "z.ts", "Ä.ts"]);
    expect(namesOf(load(join(folder, "a/[x].ts")))).toEqual(["[x].ts"]);
    expect(namesOf(load([join(folder, "a"), join(folder, "a/z.ts"), `!${folder}/a/deep/**`]))).toEqual([
      "B.ts",
      "[x].ts",
      "z.ts",
      "Ä.ts",
    ]);
    expect(namesOf(load(join(folder, ".hidden/h.ts")))).toEqual(["h.ts"]);
    expect(namesOf(load(`${folder}/a/deep/`))).toEqual(["c.js"]);
  });

  test("links are followed, in circles too, and a file is read once", () => {
    const linked = folderOf({ "real/a.ts": "one", "real/b.ts": "two" });
    const elsewhere = folderOf({ "c.ts": "three" });
    symlinkSync(join(linked, "real"), join(linked, "again"));
    symlinkSync(linked, join(linked, "real/up"));
    symlinkSync(join(elsewhere, "c.ts"), join(linked, "c.ts"));
    symlinkSync(join(linked, "absent"), join(linked, "dangling"));
    expect(textOf(load(linked, { twins: "keep" }))).toBe("one\0two\0three\0");
    expect(namesOf(load([join(elsewhere, "c.ts"), join(linked, "c.ts")]))).toHaveLength(1);
  });

  test("other tokenizers: their eos, or none", () => {
    const pairs: Tokenizer = {
      ...tokenizer,
      vocabSize: 70_000,
      eosToken: 69_999,
      encode: (text) => Int32Array.from(text as Uint8Array, (byte) => byte * 256),
    };
    const data = textDataset(join(folder, "b.txt"), pairs);
    const [batch] = data.evalBatches({ batchSize: 1, contextLength: 4, lookahead: 1 });
    expect(batch?.targets).toEqual(Int32Array.of(98 * 256, 101 * 256, 101 * 256, 69_999, -100));
    expect(textDataset(join(folder, "b.txt"), { ...pairs, eosToken: null }).tokenCount).toBe(3);
    expect(() => textDataset(join(folder, "b.txt"), { ...pairs, vocabSize: 101 * 256 })).toThrow(/got 25856 at 1/);
  });

  test("fingerprints follow content, names and bounds, not the place on the disk", () => {
    const files = { "x/a.ts": "one", "y/b.ts": "two" };
    const fingerprint = (changed: object, options = {}) =>
      load(folderOf({ ...files, ...changed }), options).fingerprint;
    const first = fingerprint({});
    expect(fingerprint({})).toBe(first);
    const others = [
      fingerprint({ "x/a.ts": "One" }),
      fingerprint({ "z/c.ts": "three" }),
      fingerprint({}, { crossDocuments: true }),
      load(folderOf({ "x/a.ts": "one", "y/c.ts": "two" })).fingerprint,
    ];
    expect(new Set([first, ...others]).size).toBe(5);
  });
});

describe("bad data is BAD_DATA with the path and the reason", () => {
  const folder = folderOf({
    "binaries/a.bin": new Uint8Array([1, 0]),
    "binaries/b.bin": new Uint8Array([0]),
    "empties/a.txt": "",
    "good/a.txt": "text",
  });
  const cases: [string, string | string[], RegExp][] = [
    ["a missing file", join(folder, "absent.txt"), /absent\.txt: expected files, got no match/],
    ["a glob without match", join(folder, "*.rs"), /\*\.rs: expected files, got no match/],
    ["one of several without match", [join(folder, "empties"), join(folder, "none")], /none: expected files/],
    ["no paths", [], /at least one file/],
    ["only an exception", ["!x"], /at least one file/],
    ["a binary by name", join(folder, "binaries/a.bin"), /a\.bin: expected text, got a file with a zero byte/],
    ["a folder of binaries", join(folder, "binaries"), /got 2 binary files/],
    ["an empty file by name", join(folder, "empties/a.txt"), /a\.txt: expected text, got an empty file/],
    ["a folder of empty files", join(folder, "empties"), /got 1 empty files/],
    ["an unreadable file", "/proc/self/mem", /\/proc\/self\/mem: expected a readable file, got EIO/],
    [
      "an unreadable file of a glob",
      "/proc/self/{mem,version}",
      /\/proc\/self\/mem: expected a readable file, got EIO/,
    ],
  ];
  test.each(cases)("%s", (_, paths, message) => {
    expect(() => load(paths)).toThrow(message);
    expect(() => load(paths)).toThrow(expect.objectContaining({ code: "BAD_DATA", op: "textDataset" }));
  });

  test("less than one context says how much there is", () => {
    const data = load(join(folder, "good/a.txt"));
    const batches = data.batches({ batchSize: 1, contextLength: 8, lookahead: 1 });
    expect(() => batches.next()).toThrow(/at least 9 tokens .* got 5/);
  });

  test("an unknown option", () => {
    expect(() => load(folder, { twin: "keep" })).toThrow(expect.objectContaining({ code: "BAD_OPTION" }));
  });
});

describe("groups", () => {
  test("packages by their last node_modules, other files by top folder, top files alone", () => {
    const names = [
      "node_modules/a/x.js",
      "node_modules/@s/b/y.js",
      "node_modules/a/node_modules/c/z.js",
      "lib/q.ts",
      "r.ts",
    ];
    expect(groupsOf(names, "/p")).toEqual(["a", "@s/b", "c", "lib", "r.ts"]);
  });

  test("a project that itself lies in one package is grouped by its folders", () => {
    expect(groupsOf(["src/a.ts", "src/b.ts", "docs/c.md"], "/usr/node_modules/p")).toEqual(["src", "src", "docs"]);
  });
});

describe("a split", () => {
  const folder = folderOf({
    "node_modules/alpha/a.js": linesOf("a", 30),
    "node_modules/alpha/lib/b.js": linesOf("b", 30),
    "node_modules/beta/a.js": linesOf("c", 30),
    "node_modules/beta/copy-of-alpha.js": linesOf("a", 29),
    "node_modules/@s/gamma/a.js": linesOf("d", 60),
    "node_modules/@s/delta/a.js": linesOf("e", 20),
    "node_modules/beta/node_modules/alpha/c.js": linesOf("f", 10),
  });

  test("holds out whole packages, nested copies with them, and no twin is on the other side", () => {
    const data = load(folder);
    expect(data.twins).toEqual(["beta/copy-of-alpha.js"]);
    for (let seed = 0; seed < 20; seed++) {
      const { train, eval: heldOut } = data.split({ fraction: 0.3, seed });
      const groups = new Set(heldOut.files.map((file) => file.group));
      expect(groups.size).toBeGreaterThan(0);
      for (const file of train.files) expect(groups).not.toContain(file.group);
      expect([...namesOf(train), ...namesOf(heldOut)].sort()).toEqual(namesOf(data).sort());
      expect(train.tokenCount + heldOut.tokenCount).toBe(data.tokenCount);
      const lines = new Set(textOf(train).split("\n"));
      for (const line of textOf(heldOut).split("\n")) if (line.length > 1) expect(lines).not.toContain(line);
    }
  });

  test("is the same for the same seed, and seeds differ", () => {
    const files = Object.fromEntries(["a", "b", "c", "d", "e"].map((name) => [`${name}/x.ts`, linesOf(name, 20)]));
    const equal = folderOf(files);
    const heldOut = (seed: number) => load(equal).split({ fraction: 0.2, seed }).eval.fingerprint;
    expect(heldOut(1)).toBe(heldOut(1));
    expect(new Set(Array.from({ length: 20 }, (_, seed) => heldOut(seed))).size).toBe(5);
  });

  test("by name", () => {
    const data = load(folder);
    expect(data.groups.map((group) => [group.name, group.files])).toEqual([
      ["@s/delta", 1],
      ["@s/gamma", 1],
      ["alpha", 3],
      ["beta", 1],
    ]);
    const { train, eval: heldOut } = data.split({ groups: ["@s/gamma", "beta"] });
    expect(namesOf(heldOut)).toEqual(["@s/gamma/a.js", "beta/a.js"]);
    expect(train.documentCount).toBe(4);
    expect(() => data.split({ groups: ["@s/gama"] })).toThrow(/Did you mean "@s\/gamma"/);
    expect(() => data.split({ groups: ["alpha", "beta", "@s/gamma", "@s/delta"] })).toThrow(/all are held out/);
    expect(() => data.split({ groups: [] })).toThrow(expect.objectContaining({ code: "BAD_DATA" }));
  });

  test.each([0, 1, -0.1, NaN])("fraction %s is BAD_DATA", (fraction) => {
    expect(() => load(folder).split({ fraction })).toThrow(expect.objectContaining({ code: "BAD_DATA" }));
  });

  test("of files in one group is by file", () => {
    const files = Object.fromEntries(
      ["a", "b", "c", "d"].map((name) => [`node_modules/p/src/${name}.ts`, linesOf(name, 20)]),
    );
    const data = load(folderOf(files));
    const { train, eval: heldOut } = data.split({ fraction: 0.25 });
    expect([train.documentCount, heldOut.documentCount]).toEqual([3, 1]);
  });

  test("of one file holds out its end", () => {
    const data = load(folderOf({ "all.txt": linesOf("a", 100) }));
    const { train, eval: heldOut } = data.split({ fraction: 0.2 });
    expect(heldOut.tokenCount).toBe(Math.round(data.tokenCount * 0.2));
    expect(textOf(train) + textOf(heldOut)).toBe(`${linesOf("a", 100)}\0`);
    expect(train.fingerprint).not.toBe(heldOut.fingerprint);
    expect(() => load(folderOf({ x: "a" })).split({ fraction: 0.01 })).toThrow(/text for both sides/);
  });

  test("takes some group, never all, and comes as near to the share as one group's size", () => {
    const groups = fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 2, maxLength: 20 });
    fc.assert(
      fc.property(groups, fc.double({ min: 0.01, max: 0.99, noNaN: true }), fc.nat(), (sizes, fraction, seed) => {
        const all = sizes.map((bytes, i) => ({ name: `g${i}`, files: 1, bytes }));
        const chosen = chooseGroups(all, { fraction, seed });
        expect(chosen.size).toBeGreaterThan(0);
        expect(chosen.size).toBeLessThan(all.length);
        const total = sizes.reduce((sum, size) => sum + size, 0);
        const bytes = all.reduce((sum, group) => sum + (chosen.has(group.name) ? group.bytes : 0), 0);
        expect(Math.abs(bytes - fraction * total)).toBeLessThanOrEqual(Math.max(...sizes));
      }),
    );
  });
});
