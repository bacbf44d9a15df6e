// The same bits however the GPU happens to run: order of warps, blocks that run at once, moments at which copies arrive.
import { readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, describe, it } from "vitest";
import { runChild } from "../helpers/child.js";
import { onSoftwareGpu } from "../helpers/levels.js";

// bf16 alone: f32 has no tensor cores, which a software GPU takes minutes for; the kernel tests hold its bits.
const dtype = "bf16";

/** Of weights after training and of text; 3 steps and 6 tokens on a software GPU. */
async function digest(env: NodeJS.ProcessEnv = {}): Promise<string> {
  const args = [dtype, ...(onSoftwareGpu ? ["3", "6"] : [])];
  const { stdout, stderr } = await runChild("train/children/digest.ts", { args, env, limit: 280_000 });
  expect(stderr).toBe("");
  expect(stdout).toMatch(/^sm_\d+ [0-9a-f]{64}\n$/);
  return stdout;
}

// The first run of each card is held against bounds and races too; the others are only to give the same bits.
const others: readonly NodeJS.ProcessEnv[] = [
  { PTX_SEED: "2", PTX_SMS: "7", PTX_SANITIZE: "off" },
  { PTX_SEED: "3", PTX_SMS: "4", PTX_SANITIZE: "off" },
];

describe(`weights after training, and text, ${dtype}`, () => {
  it.skipIf(onSoftwareGpu)("are the same bits from run to run", async () => {
    expect(await digest()).toBe(await digest());
  });

  describe.runIf(onSoftwareGpu).each([
    ["sm_80", ["MmaMultistage", "attention_kernel"]],
    ["sm_90", ["Sm90TmaGmma", "attention_kernel"]],
  ])("on a card that is %s", (card, kernels) => {
    it("are the same bits under three seeds and two numbers of multiprocessors", async () => {
      const report = join(tmpdir(), `foretoken-determinism-${process.pid}-${card}.jsonl`);
      const first = await digest({ PTX_DEVICE: card, PTX_SEED: "1", PTX_SMS: "4", PTX_REPORT: report });
      for (const env of others) expect(await digest({ PTX_DEVICE: card, ...env })).toBe(first);
      const ran = await readFile(report, "utf8");
      for (const kernel of kernels) expect(ran).toContain(kernel);
      await rm(report);
    });
  });
});
