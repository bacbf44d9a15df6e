import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { keepWithoutTwins } from "../../lib/io/twins.js";
import { linesOf } from "../helpers/io-files.js";

function keep(contents: readonly string[]): boolean[] {
  return keepWithoutTwins(
    contents.map((content) => ({
      content: Buffer.from(content),
      sha256: createHash("sha256").update(content).digest("hex"),
    })),
  );
}

/** The definition, word for word, over sets of strings. */
function bruteForce(contents: readonly string[]): boolean[] {
  const sets = contents.map(
    (content) =>
      new Set(
        content
          .split("\n")
          .map((line) => line.replace(/^[ \t\r]+|[ \t\r]+$/g, ""))
          .filter((line) => line.length >= 12),
      ),
  );
  const order = contents.map((_, i) => i).sort((a, b) => (sets[b]?.size ?? 0) - (sets[a]?.size ?? 0) || a - b);
  const kept: number[] = [];
  for (const index of order) {
    const own = sets[index] ?? new Set<string>();
    const isTwin = kept.some(
      (other) =>
        contents[other] === contents[index] || [...own].filter((line) => sets[other]?.has(line)).length * 2 > own.size,
    );
    if (!isTwin) kept.push(index);
  }
  return contents.map((_, index) => kept.includes(index));
}

describe("twins", () => {
  test("a copy is dropped, whatever its indentation and line ends", () => {
    const source = linesOf("a", 20);
    expect(
      keep([source, source.replaceAll("  const", "\t\tconst").replaceAll("\n", "\r\n"), linesOf("b", 20)]),
    ).toEqual([true, false, true]);
  });

  test("over half of the lines is a twin, half is none", () => {
    const ten = linesOf("a", 10);
    expect(keep([ten + linesOf("x", 10), ten + linesOf("b", 10)])).toEqual([true, true]);
    expect(keep([ten + linesOf("x", 10), ten + linesOf("b", 9)])).toEqual([true, false]);
  });

  test("a part falls to its whole, even when it comes first", () => {
    expect(keep([linesOf("a", 10), linesOf("b", 50) + linesOf("a", 10)])).toEqual([false, true]);
  });

  test("halves from two different files make no twin", () => {
    const mixture = linesOf("a", 10) + linesOf("b", 10);
    expect(keep([linesOf("a", 40), linesOf("b", 40), mixture])).toEqual([true, true, true]);
  });

  test("trivial lines do not count; files of nothing else are twins only when equal", () => {
    const braces = "{\n}\n};\n  }\n";
    expect(keep([`${braces}if (x) {\n`, `${braces}else {\n`, `${braces}if (x) {\n`])).toEqual([true, true, false]);
  });

  test("a line said a hundred times is one line", () => {
    const refrain = "console.log(refrain);\n".repeat(100);
    expect(keep([refrain + linesOf("a", 3), refrain + linesOf("b", 3)])).toEqual([true, true]);
  });

  test("equals the brute force on random files", () => {
    const line = fc.nat(30).map((i) => `${" ".repeat(i % 3)}line number ${i}`);
    const content = fc.array(fc.oneof(line, fc.constant("}")), { maxLength: 12 }).map((lines) => lines.join("\n"));
    fc.assert(
      fc.property(fc.array(content, { maxLength: 12 }), (contents) => {
        expect(keep(contents)).toEqual(bruteForce(contents));
      }),
      { numRuns: 500 },
    );
  });
});
