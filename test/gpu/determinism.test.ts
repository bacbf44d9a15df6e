// The same bits however the GPU happens to run: order of warps, blocks that run at once, moments at which copies arrive.
import { describe, expect, it } from "vitest";
import { runChild } from "../helpers/child.js";
import { onSoftwareGpu } from "../helpers/levels.js";

async function digest(dtype: string, env: NodeJS.ProcessEnv): Promise<string> {
  const { stdout, stderr } = await runChild("train/children/digest.ts", { args: [dtype], env, limit: 280_000 });
  expect(stderr).toBe("");
  expect(stdout).toMatch(/^sm_\d+ [0-9a-f]{64}\n$/);
  return stdout;
}

// bf16 alone: f32 has no tensor cores, which a software GPU takes minutes for; the kernel tests hold its bits.
describe.each(["bf16"])("weights after training, and text, %s", (dtype) => {
  it("are the same bits from run to run", async () => {
    expect(await digest(dtype, {})).toBe(await digest(dtype, {}));
  });

  it.runIf(onSoftwareGpu)("are the same bits under three seeds and two numbers of multiprocessors", async () => {
    const first = await digest(dtype, { PTX_SEED: "1", PTX_SMS: "4" });
    expect(await digest(dtype, { PTX_SEED: "2", PTX_SMS: "7" })).toBe(first);
    expect(await digest(dtype, { PTX_SEED: "3", PTX_SMS: "4" })).toBe(first);
  });

  it.runIf(onSoftwareGpu)("are the same bits on a 9.0 card under two seeds", async () => {
    const first = await digest(dtype, { PTX_DEVICE: "sm_90", PTX_SEED: "1" });
    expect(await digest(dtype, { PTX_DEVICE: "sm_90", PTX_SEED: "2", PTX_SMS: "6" })).toBe(first);
  });
});
