// Input that cannot be used: one line that says what, and nothing left behind.
import { existsSync, mkdirSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { events, foretoken, sampleText, succeeds, tinyModel, workFolder } from "./command.js";

const work = workFolder();
afterAll(work.remove);
const text = work.write("text.ts", sampleText(60));
mkdirSync(work.path("binaries"));
work.write("binaries/a.bin", Uint8Array.of(1, 0, 2));
mkdirSync(work.path("nothing"));

const config = (content: string): string[] => [
  "--data",
  text,
  "--config",
  work.write(`${content.length}.json`, content),
];

describe.each<[string, string[], number, RegExp]>([
  ["missing data", ["--data", "no/such/file"], 1, /no\/such\/file: expected files, got no match/],
  ["no data", [], 2, /--data: expected files, folders or globs to learn from, got none/],
  ["an empty file", ["--data", work.write("empty", "")], 1, /empty: expected text, got an empty file/],
  ["an empty folder", ["--data", work.path("nothing")], 1, /nothing: expected files, got no match/],
  ["a folder of binaries", ["--data", work.path("binaries")], 1, /expected text, got 1 binary file/],
  ["a binary by name", ["--data", work.path("binaries/a.bin")], 1, /expected text, got a file with a zero byte/],
  [
    "less text than one row",
    ["--data", work.write("short", "short"), "--eval-fraction", "0"],
    1,
    /expected at least 26 tokens.*got 6/,
  ],
  [
    "out below a file",
    ["--data", text, "--out", join(text, "run")],
    1,
    /--out: expected a folder that can be written to.*is not a folder/,
  ],
  [
    "a width that heads do not divide",
    ["--data", text, "--attention-heads", "3"],
    2,
    /numAttentionHeads: expected a divisor of hiddenSize 32, got 3 \(--attention-heads\)/,
  ],
  [
    "a memory budget too small",
    ["--data", text, "--memory-budget", "100kB"],
    1,
    /memoryBudget: expected at most 100000 bytes, got \d+ bytes predicted\. Try/,
  ],
  ["--resume without a run", ["--resume"], 1, /expected a checkpoint/],
  ["a config file that is missing", ["--data", text, "--config", "no.json"], 2, /no\.json: expected a JSON file/],
  ["a config file that is no JSON", config("{"), 2, /expected a JSON file/],
  ["a config file with an unknown part", config('{"modle": {}}'), 2, /unknown option "modle".*Did you mean "model"\?/],
  [
    "a config file with an unknown model setting",
    config('{"model": {"hiddenSise": 64}}'),
    2,
    /hiddenSise: .*Did you mean "hiddenSize"\?/,
  ],
  [
    "a config file with an unknown trainer setting",
    config('{"trainer": {"learningrate": 1}}'),
    2,
    /learningrate: .*Did you mean "learningRate"\?/,
  ],
  [
    "a config file that sets what only the command line can",
    config('{"trainer": {"out": "x"}}'),
    2,
    /trainer\.out: .*Give it on the command line/,
  ],
])("train with %s", (name, args, wanted, message) => {
  test("is refused in one line, before anything is written", async () => {
    const out = work.path(name.replaceAll(" ", "-"));
    const { code, stderr, stdout } = await foretoken(["train", "--out", out, ...tinyModel, "--steps", "2", ...args]);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^foretoken train: [^\n]+\n$/);
    expect(stdout).toBe("");
    expect(code).toBe(wanted);
    expect(existsSync(join(out, "latest"))).toBe(false);
  });
});

describe("a checkpoint that is not what it should be", () => {
  test("missing or truncated, it is refused by eval and generate alike", async () => {
    const run = work.path("run");
    const { stdout } = await succeeds(["train", "--data", text, "--out", run, ...tinyModel, "--steps", "1", "--json"]);
    const { checkpoint } = events(stdout).at(-1) as unknown as { checkpoint: string };
    truncateSync(join(checkpoint, "model.safetensors"), 1000);
    for (const folder of [run, work.path("nothing")]) {
      for (const args of [
        ["eval", folder, "--data", text],
        ["generate", folder, "--prompt", "a"],
      ]) {
        const { code, stderr } = await foretoken(args);
        expect(stderr).toMatch(/^foretoken (eval|generate): \[load\] [^\n]+\n$/);
        expect(code).toBe(1);
      }
    }
  });
});
