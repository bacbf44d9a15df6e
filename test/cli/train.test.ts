// train → eval → generate → resume, from a person's files to text, and what stops a run on the way.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Event, events, foretoken, sampleText, succeeds, tinyModel, workFolder } from "./command.js";

const work = workFolder();
afterAll(work.remove);
const text = work.write("text.ts", sampleText(200));
const train = (out: string, ...more: string[]): string[] => [
  "train",
  "--data",
  text,
  "--out",
  work.path(out),
  ...tinyModel,
  ...more,
];
const weights = (run: string): Buffer => {
  const folder = join(work.path(run), "checkpoints", readFileSync(join(work.path(run), "latest"), "utf8").trim());
  return readFileSync(join(folder, "model.safetensors"));
};

describe("a run from first to last", () => {
  let lines = "";
  beforeAll(async () => {
    lines = (await succeeds(train("run", "--steps", "12"))).stdout;
  });

  test("says what it will do before the first step", () => {
    const [before = ""] = lines.split(/^step 1\/12/m);
    for (const word of ["SIMD level", "parameters in", "1 file", "held out", "12 steps of 48 tokens"])
      expect(before).toContain(word);
    expect(before).toMatch(/memory {3}[\d.]+ MB predicted/);
  });

  test("shows each head's figures, memory as predicted and what to type next at the end", () => {
    const [, after = ""] = lines.split("On held-out text");
    expect(after).toMatch(
      /head +loss +bits\/byte +accuracy +conditional +acceptance\n +1 .*\n +2 .*\nexpected tokens per forward: [12]\.\d\d \(of 2\)/,
    );
    expect(after).toMatch(/at the most, as predicted to the byte/);
    expect(after).toMatch(/npx foretoken generate \S+run/);
  });

  test("eval shows the same figures for the text that the run held out", async () => {
    const { stdout } = await succeeds(["eval", work.path("run"), "--quiet"]);
    expect(lines).toContain(stdout.trimEnd());
  });

  test("eval takes another text, and gives every digit with --json", async () => {
    const other = work.write("other.ts", sampleText(20));
    const { stdout } = await succeeds(["eval", work.path("run"), "--data", other, "--json"]);
    const [result] = events(stdout);
    expect(result).toMatchObject({ event: "eval", tokens: sampleText(20).length, documents: 1 });
    const { losses, bitsPerByte } = result as unknown as { losses: number[]; bitsPerByte: number[] };
    expect(losses).toHaveLength(2);
    expect(bitsPerByte[0]).toBeCloseTo((losses[0] ?? 0) / Math.LN2, 12);
  });

  test("eval --split of the same data is what training held out", async () => {
    const { stdout } = await succeeds(["eval", work.path("run"), "--data", text, "--split", "--quiet"]);
    expect(lines).toContain(stdout.trimEnd());
  });

  test("generate writes the same text each time, only that, on stdout", async () => {
    const args = ["generate", work.path("run"), "--prompt", "export ", "--max-new-tokens", "12"];
    const first = await succeeds([...args, "--stats"]);
    expect(Buffer.byteLength(first.stdout)).toBe(12);
    expect(first.stderr).toMatch(/^12 tokens; the first after [\d.]+ ms, \d+ tokens\/s after it/);
    expect((await succeeds(args)).stdout).toBe(first.stdout);
    const pieces = events((await succeeds([...args, "--json"])).stdout);
    expect(
      pieces
        .filter(({ event }) => event === "text")
        .map((piece) => piece["text"])
        .join(""),
    ).toBe(first.stdout);
    expect(pieces.at(-1)).toMatchObject({ event: "done", promptTokens: 7, tokens: 12 });
  });

  test("generate draws by seed, and ends before a stop text", async () => {
    const args = ["generate", work.path("run"), "--prompt", "export ", "--max-new-tokens", "16", "--temperature", "2"];
    const [one, again, two] = [
      await succeeds([...args, "--seed", "1"]),
      await succeeds([...args, "--seed", "1"]),
      await succeeds([...args, "--seed", "2"]),
    ];
    expect(again.stdout).toBe(one.stdout);
    expect(two.stdout).not.toBe(one.stdout);
    const stop = [...one.stdout][2] ?? "";
    const stopped = await succeeds([...args, "--seed", "1", "--stop", stop.replace("\\", "\\\\").replace("\n", "\\n")]);
    expect(stopped.stdout).toBe(one.stdout.slice(0, one.stdout.indexOf(stop)));
  });

  test("eval --fit-tree finds a tree and keeps it, generate --tree drafts with it and writes the same text", async () => {
    const missing = await foretoken(["generate", work.path("run"), "--prompt", "export ", "--tree"]);
    expect(missing).toMatchObject({ code: 2, stdout: "" });
    expect(missing.stderr).toMatch(/--tree: expected .* got no file .*tree\.json\. `foretoken eval <dir> --fit-tree`/);

    const fitted = await succeeds(["eval", work.path("run"), "--fit-tree", "3"]);
    expect(fitted.stdout).toMatch(/nodes +tokens\/forward +the last one\n +0 +1\.000 *\n +1 +1\.\d{3} +\[\d+\]\n/);
    const { tree } = JSON.parse(readFileSync(join(work.path("run"), "tree.json"), "utf8")) as { tree: number[][] };
    expect(tree).toHaveLength(3);
    const args = ["generate", work.path("run"), "--prompt", "export ", "--max-new-tokens", "12", "--stats"];
    const plain = await succeeds([...args, "--speculate", "off"]);
    const drafted = await succeeds([...args, "--speculate", "2", "--tree"]);
    expect(drafted.stdout).toBe(plain.stdout);
    expect(drafted.stderr).toMatch(/head 2 [\d.]+ % of \d+\n.*the same text/);
    const other = work.write("tree.json", "[[0, 0]]");
    const { code, stderr } = await foretoken([...args, "--tree", other]);
    expect([code, stderr]).toEqual([2, expect.stringContaining("tree: expected paths of 1 to 1 ranks")]);
  });

  test("generate --num-beams writes the likeliest text, and tells of the others", async () => {
    const args = ["generate", work.path("run"), "--prompt", "export ", "--max-new-tokens", "8", "--num-beams", "3"];
    const { stdout, stderr } = await succeeds([...args, "--stats"]);
    expect(Buffer.byteLength(stdout)).toBe(8);
    expect(stderr).toMatch(/^8 tokens in \d forwards; the 3 likeliest texts:\n/);
    const [, ...logs] = (stderr.match(/-\d+\.\d{3}/g) ?? []).map(Number).map((log, i, all) => [all[i - 1] ?? 0, log]);
    expect(logs).toHaveLength(2);
    for (const [before = NaN, log = NaN] of logs) expect(log).toBeLessThanOrEqual(before);
    expect((await succeeds([...args, "--tree"])).stdout).toBe(stdout);
    const { code, stderr: refusal } = await foretoken([...args, "--temperature", "1"]);
    expect([code, refusal]).toEqual([2, expect.stringContaining("--temperature: expected no such option beside")]);
  });

  test("generate says when the context is full", async () => {
    const { stdout, stderr } = await succeeds([
      "generate",
      work.path("run"),
      "--prompt-file",
      work.write("prompt", "0123456789"),
    ]);
    expect(Buffer.byteLength(stdout)).toBe(14 + 1);
    expect(stderr).toContain("context of 24 tokens is full");
  });

  test("a second run into the folder is refused, and --resume goes on to more steps", async () => {
    const refused = await foretoken(train("run", "--steps", "12"));
    expect(refused).toMatchObject({ code: 2, stdout: "" });
    expect(refused.stderr).toMatch(/--out: expected a folder without a run.*Add --resume/);
    const resume = ["train", "--resume", "--out", work.path("run")];
    const done = await foretoken(resume);
    expect(done.code).toBe(2);
    expect(done.stderr).toMatch(/--steps: expected more than the run has taken, got 12/);
    const more = events((await succeeds([...resume, "--steps", "15", "--json"])).stdout);
    expect(more.filter(({ event }) => event === "step").map(({ step }) => step)).toEqual([13, 14, 15]);
  });

  test("--resume with another model is refused", async () => {
    const { code, stderr } = await foretoken(["train", "--resume", "--out", work.path("run"), "--hidden-size", "64"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^foretoken train: \[resume\] hiddenSize: expected 32 as in the checkpoint, got 64\. Leave --hidden-size out/,
    );
  });

  test("--resume with other data is refused", async () => {
    const args = [
      "train",
      "--resume",
      "--out",
      work.path("run"),
      "--steps",
      "20",
      "--data",
      work.write("new.ts", sampleText(90)),
    ];
    expect(await foretoken(args)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("the data changed since the checkpoint") as string,
    });
  });
});

test("--json is JSON lines and nothing else: start, steps, eval, done", async () => {
  const lines = events((await succeeds(train("json", "--steps", "5", "--eval-every", "2", "--json"))).stdout);
  expect(lines.map(({ event }) => event)).toEqual([
    "start",
    "step",
    "step",
    "eval",
    "step",
    "step",
    "eval",
    "step",
    "eval",
    "done",
  ]);
  const [start, done] = [lines[0], lines.at(-1)] as [Event, Event];
  expect(start).toMatchObject({
    steps: 5,
    model: { hiddenSize: 32, futureTokens: 2 },
    data: { files: 1, twins: 0, binaries: 0 },
  });
  expect(done).toMatchObject({ step: 5, peakBytes: start["predictedPeakBytes"] });
});

test("--quiet says nothing when all is well", async () => {
  expect(await succeeds(train("quiet", "--steps", "2", "--quiet"))).toMatchObject({ stdout: "", stderr: "" });
});

test("a config file sets model and trainer, and flags win over it", async () => {
  const config = work.write(
    "config.json",
    JSON.stringify({
      model: { headFamily: "causal", futureTokens: 3 },
      trainer: { steps: 9, headWeights: { geometric: 0.5 } },
    }),
  );
  const { stdout } = await succeeds([...train("config", "--config", config, "--steps", "3"), "--json"]);
  const lines = events(stdout);
  expect(lines[0]).toMatchObject({ steps: 3, model: { headFamily: "causal", futureTokens: 2 } });
  const { loss, losses } = lines[1] as unknown as { loss: number; losses: [number, number] };
  expect(loss).toBeCloseTo(losses[0] + 0.5 * losses[1], 5);
});

describe("an interrupted run", () => {
  const steps = ["--steps", "60", "--dtype", "f32"];

  test("ends with 130 after saving, and goes on to the same weights, bit for bit", async () => {
    await succeeds(train("whole", ...steps));
    let sent = false;
    const first = await foretoken(train("cut", ...steps, "--json"), {
      onOutput(stdout, child) {
        if (!sent && stdout.includes('"step":3')) sent = child.kill("SIGINT");
      },
    });
    expect(first.code, first.stderr).toBe(130);
    expect(first.stderr).toMatch(/Saved after step \d+\. To go on:\n {2}npx foretoken train --resume --out \S+cut\n$/);
    const { step } = events(first.stdout).at(-1) as unknown as { step: number };
    expect(step).toBeLessThan(60);
    const second = events((await succeeds(["train", "--resume", "--out", work.path("cut"), "--json"])).stdout);
    expect(second.find(({ event }) => event === "step")).toMatchObject({ step: step + 1 });
    expect(weights("cut").equals(weights("whole"))).toBe(true);
  });

  test("saves too when whoever reads its output leaves, and says so without a stack", async () => {
    const { code, stderr } = await foretoken(train("head", "--steps", "100000", "--json"), {
      onOutput: (_, child) => child.closeOutput(),
    });
    expect(code).toBe(130);
    expect(stderr).toMatch(/^Saved after step \d+\./);
    expect(existsSync(join(work.path("head"), "latest"))).toBe(true);
  });
});

test("a loss that is no number stops the run, names the step, and leaves the last checkpoint good", async () => {
  const { code, stderr } = await foretoken(
    train("nan", "--steps", "50", "--learning-rate", "1e30", "--warmup-steps", "0", "--save-every", "1"),
  );
  expect(code).toBe(1);
  const [, step] = /not a finite number at step (\d+)/.exec(stderr) ?? [];
  const last = `step-${String(Number(step) - 1).padStart(8, "0")}`;
  expect(stderr).toContain(`The last checkpoint is good: ${join(work.path("nan"), "checkpoints", last)}`);
  expect(readdirSync(join(work.path("nan"), "checkpoints"))).toContain(last);
  await succeeds(["generate", work.path("nan"), "--prompt", "a", "--max-new-tokens", "1", "--quiet"]);
});
