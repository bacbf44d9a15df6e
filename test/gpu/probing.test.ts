// What openDevice makes of the machine's GPUs and driver, on software cards that are set so.
import { readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { runChild } from "../helpers/child.js";
import { onSoftwareGpu } from "../helpers/levels.js";

interface Opened {
  readonly kind?: string;
  readonly level?: string;
  /** Whether opening it again gave the same device. */
  readonly same?: boolean;
  readonly product?: readonly number[];
  readonly code?: string;
  readonly message?: string;
  readonly stderr: string;
}

async function open(kind: string, env: NodeJS.ProcessEnv, index?: number): Promise<Opened> {
  const args = [kind, ...(index === undefined ? [] : [String(index)])];
  const { stdout, stderr } = await runChild("gpu/children/open.ts", { args, env: { FORETOKEN_DEVICE: "", ...env } });
  return { ...(JSON.parse(stdout) as Opened), stderr };
}

const product = [64, 128, 192, 256, 320, 384, 448, 512];

describe.runIf(onSoftwareGpu)("openDevice", () => {
  it.each([
    ["sm_80", "sm_80", "MmaMultistage"],
    ["sm_89", "sm_80", "MmaMultistage"],
    ["sm_90", "sm_90", "Sm90TmaGmma"],
    ["sm_100", "sm_80", "MmaMultistage"],
    ["sm_120", "sm_80", "MmaMultistage"],
  ])("takes the kernels for a card that is %s: %s, products by %s", async (card, level, kernel) => {
    const report = join(tmpdir(), `foretoken-dispatch-${process.pid}-${card}.jsonl`);
    const opened = await open("auto", { PTX_DEVICE: card, PTX_REPORT: report });
    expect(opened).toMatchObject({ kind: "cuda", level, same: true, product });
    const ran = (await readFile(report, "utf8")).trim().split("\n");
    expect(ran.filter((line) => line.includes("cutlass")).every((line) => line.includes(kernel))).toBe(true);
    expect(ran.join()).toContain(kernel);
    await rm(report);
  });

  // Silent where nothing suggests that a GPU was meant: no driver, or whoever set the variable chose so.
  const unusable: readonly [string, NodeJS.ProcessEnv, RegExp, warnings: number][] = [
    ["no driver", { PTX_DRIVER: "0" }, /no NVIDIA driver.*Install NVIDIA's driver, 580/s, 0],
    ["a driver that is too old", { PTX_DRIVER: "12020" }, /too old.*CUDA 12\.2.*Install driver 580/s, 1],
    ["no device", { PTX_DEVICES: "0" }, /a driver, but no NVIDIA GPU.*nvidia-smi/s, 1],
    ["an empty CUDA_VISIBLE_DEVICES", { CUDA_VISIBLE_DEVICES: "" }, /CUDA_VISIBLE_DEVICES is "".*Unset it/s, 0],
    ["a device that is too old", { PTX_DEVICE: "sm_75" }, /8\.0 or later.*sm_75 has 7\.5.*Ampere/s, 1],
  ];

  it.each(unusable)("says what to do about %s", async (_what, env, message) => {
    const { code, message: said } = await open("cuda", env);
    expect(code).toBe("NO_DEVICE");
    expect(said).toMatch(message);
  });

  it.each(unusable)("takes the CPU when asked for any device, with %s, and says so once", async (...given) => {
    const [, env, , warnings] = given;
    const { kind, same, product: values, stderr } = await open("auto", env);
    expect([kind, same, values]).toEqual(["cpu", true, product]);
    expect(stderr.match(/No GPU is used/g) ?? []).toHaveLength(warnings);
  });

  it("names the GPUs there are when asked for another", async () => {
    const only = await open("cuda", {}, 1);
    expect(only).toMatchObject({ code: "NO_DEVICE" });
    expect(only.message).toMatch(/index: .*expected 0, the only one.*got 1/);
    const neither = await open("cuda", { PTX_DEVICES: "2" }, 2);
    expect(neither).toMatchObject({ code: "NO_DEVICE" });
    expect(neither.message).toMatch(/index: .*expected 0 to 1, got 2/);
  });

  it("counts what CUDA_VISIBLE_DEVICES leaves", async () => {
    const { message } = await open("cuda", { PTX_DEVICES: "2", CUDA_VISIBLE_DEVICES: "1" }, 1);
    expect(message).toMatch(/index: .*expected 0, the only one.*got 1/);
  });

  it("opens the second of two", async () => {
    expect(await open("cuda", { PTX_DEVICES: "2" }, 1)).toMatchObject({ kind: "cuda", same: true, product });
  });
});
