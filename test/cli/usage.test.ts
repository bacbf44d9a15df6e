// What is typed wrongly: exit code 2, one clear line, the nearest name.
import { describe, expect, test } from "vitest";
import { foretoken, succeeds } from "./command.js";

const commands = ["train", "eval", "generate", "study", "doctor"];

test.each(commands)("%s --help tells its options, the common ones too, and gives examples", async (command) => {
  const { stdout } = await succeeds([command, "--help"]);
  for (const word of ["--device", "--quiet", "--json", "Examples:", `foretoken ${command}`])
    expect(stdout).toContain(word);
});

test("--version is the package's", async () => {
  expect((await succeeds(["--version"])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
});

describe.each<[string, string[], RegExp]>([
  ["no command", [], /Usage: foretoken/],
  ["an unknown command", ["trian"], /^foretoken: unknown command 'trian'\n\(Did you mean train\?\)\n$/],
  [
    "an unknown option",
    ["train", "--future-token", "4"],
    /^foretoken train: unknown option '--future-token'\n\(Did you mean --future-tokens\?\)\n$/,
  ],
  [
    "a missing option",
    ["train"],
    /^foretoken train: \[train\] --out: expected a folder for the run, got none\. For example --out runs\/first\.\n$/,
  ],
  ["a missing argument", ["eval"], /^foretoken eval: missing required argument 'dir'\n$/],
  [
    "a number that is none",
    ["train", "--out", "x", "--steps", "1.5"],
    /--steps <count>' argument '1\.5' is invalid\. Expected a whole number ≥ 1/,
  ],
  [
    "a size that is none",
    ["train", "--out", "x", "--memory-budget", "2XB"],
    /--memory-budget <size>' argument '2XB' is invalid\. Expected bytes, as 2GB/,
  ],
  [
    "a name that is none",
    ["train", "--out", "x", "--schedule", "cosin"],
    /--schedule <shape>' argument 'cosin' is invalid\. Allowed choices are cosine, linear, constant/,
  ],
  ["a device that is none", ["doctor", "--device", "tpu"], /Allowed choices are auto, cpu, cuda/],
  [
    "no prompt",
    ["generate", "x"],
    /^foretoken generate: \[generate\] --prompt: expected --prompt or --prompt-file, got neither\n$/,
  ],
  ["two prompts", ["generate", "x", "--prompt", "a", "--prompt-file", "b"], /got both/],
  [
    "speculation of a kind unknown",
    ["generate", "x", "--prompt", "a", "--speculate", "fast"],
    /--speculate.*Expected off, auto, or a whole number above 0/,
  ],
  ["no speculation at all", ["generate", "x", "--prompt", "a", "--speculate", "0"], /a whole number above 0/],
  ["an end unknown", ["generate", "x", "--prompt", "a", "--context", "roll"], /Allowed choices are stop, slide/],
])("%s", (_, args, message) => {
  test("is wrong use", async () => {
    const { code, stderr, stdout } = await foretoken(args);
    expect(stderr).toMatch(message);
    expect(stdout).toBe("");
    expect(code).toBe(2);
  });
});

test("a GPU is refused clearly, and --json says it for programs", async () => {
  const { code, stderr, stdout } = await foretoken(["doctor", "--device", "cuda", "--json"]);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^foretoken doctor: \[openDevice\] .*(no CUDA backend|driver|GPU)/);
  expect(JSON.parse(stdout)).toMatchObject({ event: "error", code: "NO_DEVICE" });
});

test("an unknown SIMD level is refused with those there are", async () => {
  const { code, stderr } = await foretoken(["doctor", "--simd", "sse9"]);
  expect(code).toBe(1);
  expect(stderr).toMatch(/simd: .*expected one of generic.*, got sse9/);
});

test("a stack is shown only with FORETOKEN_DEBUG=1", async () => {
  const args = ["eval", "/no/such/folder"];
  expect((await foretoken(args)).stderr.trimEnd().split("\n")).toHaveLength(1);
  expect((await foretoken(args, { env: { FORETOKEN_DEBUG: "1" } })).stderr).toMatch(/\n {4}at /);
});
