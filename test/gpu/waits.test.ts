// How often a step makes the host wait for the GPU, as the software GPU counts it: each call that waits, by whatever name.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runChild } from "../helpers/child.js";
import { onSoftwareGpu } from "../helpers/levels.js";

/** Of a whole process, but for `reads`, which are asked for by JavaScript: test/ptx/runtime/hooks.h. */
interface Totals {
  readonly synchronizations: number;
  readonly allocations: number;
  readonly launches: number;
  readonly reads: number;
}

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "foretoken-waits-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function totals(what: string, count: number, env: NodeJS.ProcessEnv): Promise<Totals> {
  const file = join(folder, `${what}-${count}.json`);
  const { stdout, stderr } = await runChild("gpu/children/steps.ts", {
    args: [what, String(count)],
    env: { ...env, PTX_TOTALS: file, PTX_DRY: "1" }, // what the host asks for does not depend on values
  });
  expect(stderr).toBe("");
  return { ...(JSON.parse(await readFile(file, "utf8")) as Totals), reads: Number(stdout) };
}

/** What one more step takes, once the first ones have taken the memory that all use. */
async function perStep(what: "train" | "decode", env: NodeJS.ProcessEnv = {}): Promise<Totals> {
  const [few, many] = [3, 7];
  const [before, after] = [await totals(what, few, env), await totals(what, many, env)];
  const each = (name: keyof Totals): number => (after[name] - before[name]) / (many - few);
  return {
    synchronizations: each("synchronizations"),
    allocations: each("allocations"),
    launches: each("launches"),
    reads: each("reads"),
  };
}

describe.runIf(onSoftwareGpu)("the host waits for nothing", () => {
  it("in a training step, which reads its metrics: sums, gradient norm, status", async () => {
    expect(await perStep("train")).toMatchObject({ synchronizations: 0, allocations: 0, reads: 3 });
  });

  it("in a decoding step: tokens and their log-probabilities are read once for one or several", async () => {
    const { reads, ...rest } = await perStep("decode");
    expect(rest).toMatchObject({ synchronizations: 0, allocations: 0 });
    expect(reads).toBeGreaterThan(0);
    expect(reads).toBeLessThanOrEqual(1);
  });

  it("unless it is told to: then every launch is waited for, and counted", async () => {
    const { synchronizations, launches } = await perStep("train", { FORETOKEN_SYNC: "1" });
    expect(launches).toBeGreaterThan(50);
    expect(synchronizations).toBeGreaterThan(launches / 2); // an op may launch several kernels
  });
});
