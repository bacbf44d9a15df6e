// The commands on a GPU: what they say of it, and that its figures are the ones they show. What flags and files may be is
// in test/cli.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "../../lib/device.js";
import { native } from "../../lib/native.js";
import { events, sampleText, succeeds, tinyModel, workFolder } from "../cli/command.js";

const { name, simd } = openDevice("cuda");
const { capability } = native().gpus().gpus[0] ?? {};
const work = workFolder();
afterAll(work.remove);
const text = work.write("text.ts", sampleText(40));
const onGpu = ["--device", "cuda"];

describe("train, eval and generate", () => {
  const run = work.path("run");
  let page = "";
  beforeAll(async () => {
    page = (await succeeds(["train", "--data", text, "--out", run, ...tinyModel, "--steps", "3", ...onGpu])).stdout;
  });

  it("train names the card, computes in bf16, and takes the memory that it said", () => {
    const card = new RegExp(
      `^device {3}${name}, compute capability ${capability}, [\\d.]+ GB, kernels for ${simd}$`,
      "m",
    );
    expect(page).toMatch(card);
    expect(page).toMatch(/^model .* parameters in bf16: /m);
    expect(page).toMatch(/at the most, as predicted to the byte/);
  });

  it("eval shows the figures that train ended with", async () => {
    const { stdout } = await succeeds(["eval", run, "--quiet", ...onGpu]);
    expect(page).toContain(stdout.trimEnd());
  });

  it("generate writes the same text each time", async () => {
    const args = ["generate", run, "--prompt", "export ", "--max-new-tokens", "6", ...onGpu];
    const { stdout, stderr } = await succeeds([...args, "--stats"]);
    expect(stderr).toMatch(/^6 tokens; /);
    expect((await succeeds(args)).stdout).toBe(stdout);
  });

  it("train --resume goes on, and --json tells the level", async () => {
    const { stdout } = await succeeds(["train", "--resume", "--out", run, "--steps", "5", "--json", ...onGpu]);
    const [start, ...rest] = events(stdout);
    expect(start).toMatchObject({ event: "start", device: name, simd, dtype: "bf16" });
    expect(rest.find(({ event }) => event === "step")).toMatchObject({ step: 4 });
    expect(rest.at(-1)).toMatchObject({ event: "done", peakBytes: start?.["predictedPeakBytes"] });
  });
});

describe("doctor", () => {
  // The self-test's kernels are held against bounds and races by the kernel tests.
  it("finds every kernel right, and tells the card, its memory and its speed", async () => {
    const { stdout } = await succeeds(["doctor", ...onGpu], { env: { PTX_SANITIZE: "off" } });
    expect(stdout).toMatch(
      new RegExp(`^gpu 0 +${name}, compute capability ${capability}, [\\d.]+ GB, kernels for ${simd}`, "m"),
    );
    expect(stdout).toMatch(/^driver +CUDA \d+\.\d; this build is for CUDA 13\.\d$/m);
    for (const dtype of ["f32", "bf16"])
      expect(stdout).toMatch(new RegExp(`^ *${simd} +${dtype} +(\\d+) of \\1 right$`, "m"));
    expect(stdout).toMatch(
      new RegExp(`^${name} multiplies bf16 matrices of (\\d+)×\\1 at [\\d.]+ [GT]FLOP/s\\.$`, "m"),
    );
    expect(stdout).toMatch(/^All of this took at most [\d.]+ MB of its memory\.$/m);
    expect(stdout).toMatch(/^- .*foretoken train/m);
  });
});
