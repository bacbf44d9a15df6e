// What openDevice makes of the machine's GPUs and driver, on software cards that are set so.
import { describe, expect, it } from "vitest";
import { runChild } from "../helpers/child.js";
import { onSoftwareGpu } from "../helpers/levels.js";

interface Opened {
  readonly kind?: string;
  readonly level?: string;
  readonly sum?: readonly number[];
  readonly code?: string;
  readonly message?: string;
}

async function open(kind: string, env: NodeJS.ProcessEnv, index?: number): Promise<Opened & { stderr: string }> {
  const args = [kind, ...(index === undefined ? [] : [String(index)])];
  const { stdout, stderr } = await runChild("gpu/children/open.ts", { args, env: { FORETOKEN_DEVICE: "", ...env } });
  return { ...(JSON.parse(stdout) as Opened), stderr };
}

describe.runIf(onSoftwareGpu)("openDevice", () => {
  it.each([
    ["sm_80", "sm_80"],
    ["sm_89", "sm_80"],
    ["sm_90", "sm_90"],
    ["sm_100", "sm_80"],
    ["sm_120", "sm_80"],
  ])("takes the kernels for a card that is %s: %s", async (card, level) => {
    expect(await open("auto", { PTX_DEVICE: card })).toMatchObject({ kind: "cuda", level, sum: [2, 4, 6] });
  });

  const unusable: readonly [string, NodeJS.ProcessEnv, RegExp][] = [
    ["no driver", { PTX_DRIVER: "0" }, /driver/],
    ["a driver that is too old", { PTX_DRIVER: "12020" }, /too old.*580/s],
    ["no device", { PTX_DEVICES: "0" }, /no .*GPU|no device/i],
    ["an empty CUDA_VISIBLE_DEVICES", { CUDA_VISIBLE_DEVICES: "" }, /CUDA_VISIBLE_DEVICES/],
    ["a device that is too old", { PTX_DEVICE: "sm_75" }, /8\.0/],
  ];

  it.each(unusable)("says what to do about %s", async (_what, env, message) => {
    const { code, message: said } = await open("cuda", env);
    expect(code).toBe("NO_DEVICE");
    expect(said).toMatch(message);
  });

  it("has a message of its own for each", async () => {
    const said = await Promise.all(unusable.map(async ([, env]) => (await open("cuda", env)).message));
    expect(new Set(said).size).toBe(unusable.length);
  });

  it.each(unusable)("takes the CPU when asked for any device, with %s", async (_what, env) => {
    const { kind, sum, stderr } = await open("auto", env);
    expect([kind, sum]).toEqual(["cpu", [2, 4, 6]]);
    expect(stderr.match(/No GPU is used/g)?.length ?? 0).toBeLessThanOrEqual(1);
  });

  it("says once that it takes the CPU where a GPU was meant to work", async () => {
    const { stderr } = await open("auto", { PTX_DRIVER: "12020" });
    expect(stderr.match(/No GPU is used/g)).toHaveLength(1);
  });

  it("names the GPUs there are when asked for another", async () => {
    const { code, message } = await open("cuda", {}, 3);
    expect(code).toBe("NO_DEVICE");
    expect(message).toMatch(/index/);
  });

  it("opens the second of two", async () => {
    expect(await open("cuda", { PTX_DEVICES: "2" }, 1)).toMatchObject({ kind: "cuda", sum: [2, 4, 6] });
  });
});
