// What is a GPU's own: being asked for, copies through page-locked memory, memory that runs out, and the dry device that
// stands for one. The other tests of this folder run on a GPU as they are.
import { describe, expect, it } from "vitest";
import { type Device, openDevice } from "../../lib/device.js";
import { native } from "../../lib/native.js";
import { type Tensor, empty, tensor, zeros } from "../../lib/tensor.js";
import { runChild } from "../helpers/child.js";

const { built, gpus, problem } = native().gpus();
const usual = openDevice();
const onGpu = usual.kind === "cuda";
const code = (name: string): unknown => expect.objectContaining({ code: name });

interface Found {
  readonly kind?: string;
  readonly code?: string;
  readonly message?: string;
}

interface Report {
  readonly cuda: Found;
  readonly auto: readonly [Found, Found];
  readonly warnings: readonly string[];
}

async function report(env: NodeJS.ProcessEnv): Promise<Report> {
  const { code, stdout, stderr } = await runChild("runtime/children/gpu.ts", { env: { FORETOKEN_DEVICE: "", ...env } });
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as Report;
}

describe("openDevice", () => {
  it.runIf(problem !== "")('"cuda" says what is missing, and "auto" computes on the CPU', async () => {
    expect(() => openDevice("cuda")).toThrow(code("NO_DEVICE"));
    expect(() => openDevice("cuda")).toThrow(problem);
    const { auto, warnings } = await report({});
    expect(auto).toMatchObject([{ kind: "cpu" }, { kind: "cpu" }]);
    const found = native().gpus().expected ? [/^ForetokenDevice: No GPU is used: /] : [];
    expect(warnings).toEqual(found.map((text) => expect.stringMatching(text) as string));
  });

  it.each(["cpu", "cuda"])("FORETOKEN_DEVICE=%s decides what auto is", async (device) => {
    const { auto, cuda } = await report({ FORETOKEN_DEVICE: device });
    if (device === "cpu") expect(auto[0].kind).toBe("cpu");
    else expect(auto[0]).toEqual(cuda);
  });

  it("FORETOKEN_DEVICE that names nothing is an error, an index below 0 too", async () => {
    const { auto } = await report({ FORETOKEN_DEVICE: "tpu" });
    expect(auto[0]).toMatchObject({ code: "NO_DEVICE" });
    expect(auto[0].message).toMatch(/FORETOKEN_DEVICE: expected "cpu" or "cuda", got tpu/);
    for (const index of [-1, 0.5, NaN]) expect(() => openDevice("cuda", { index })).toThrow(code("BAD_ARGUMENT"));
  });

  it.runIf(onGpu)("gives one device for equal options, and refuses an index that no GPU has", () => {
    expect(openDevice("cuda")).toBe(openDevice("cuda", { index: 0 }));
    const count = gpus.length;
    expect(() => openDevice("cuda", { index: count })).toThrow(code("NO_DEVICE"));
    expect(() => openDevice("cuda", { index: count })).toThrow(
      count === 1 ? /index.*0, the only one.*got 1/ : /index.*0 to/,
    );
  });
});

describe.runIf(onGpu)("copies", () => {
  const counted = (length: number): Float32Array<ArrayBuffer> => Float32Array.from({ length }, (_, i) => i);

  it.each([
    ["a part of a segment", 1000],
    ["a segment of the ring and one element", (1 << 18) + 1],
    ["more than the ring holds", (1 << 21) + (1 << 19) + 3],
  ])("there and back: %s", async (_, length) => {
    const values = counted(length);
    using x = tensor(values);
    expect(Buffer.compare(Buffer.from((await x.data()).buffer), Buffer.from(values.buffer))).toBe(0);
  });

  it("go around the rings many times, small and large ones mixed", async () => {
    const sizes = [3, 70_000, 1, 200_000, 5_000, 300_000]; // below and above what is read by way of the ring
    const reads: Promise<Float32Array>[] = [];
    for (let i = 0; i < 48; i++) {
      using x = tensor(new Float32Array(sizes[i % sizes.length] ?? 0).fill(i));
      reads.push(x.data());
    }
    for (const [i, data] of (await Promise.all(reads)).entries()) {
      expect(data.length).toBe(sizes[i % sizes.length]);
      expect(data.every((value) => value === i)).toBe(true);
    }
  });

  it("a large read is a snapshot at its place in the stream", async () => {
    using x = zeros([1 << 21]);
    const before = x.data();
    native().fill(x.handle, 1);
    const after = x.data();
    expect((await before).every((value) => value === 0)).toBe(true);
    expect((await after).every((value) => value === 1)).toBe(true);
  });
});

describe.runIf(onGpu)("memory", () => {
  it("that runs out is an error to recover from, whatever the limit is", async () => {
    const most = gpus[0]?.memory ?? 0;
    using device = openDevice("cuda", { memoryLimit: 2 * most }); // so that the GPU refuses, not the ledger
    using kept = tensor([1, 2, 3], { device });
    const { live } = device.memory();
    const held: Tensor[] = [];
    const part = Math.ceil(most / 8);
    expect(() => {
      for (let i = 0; i < 9; i++) held.push(empty([part], { dtype: "u8", device }));
    }).toThrow(expect.objectContaining({ code: "OUT_OF_MEMORY", argument: "activation" }));
    expect(held.length).toBeGreaterThan(4);
    for (const each of held) each.dispose();
    expect(device.memory().live).toBe(live);
    expect(await kept.data()).toEqual(Float32Array.of(1, 2, 3));
    using again = empty([4 * part], { dtype: "u8", device });
    expect(again.disposed).toBe(false);
  });

  it("of a disposed device goes to the next, also when work was still queued", () => {
    const most = gpus[0]?.memory ?? 0;
    for (let round = 0; round < 4; round++) {
      using device = openDevice("cuda", { memoryLimit: most });
      using half = empty([Math.floor(most / 2)], { dtype: "u8", device });
      native().fill(half.view([64]).handle, round);
    }
  });

  it("what is pending when a device is disposed settles: with its result, or as DISPOSED", async () => {
    const device = openDevice("cuda", { memoryLimit: 1 << 26 });
    const x = tensor(new Float32Array(1 << 19).fill(1), { device });
    for (let i = 0; i < 20; i++) native().scale(x.handle, -1, x.handle);
    const pending = Promise.allSettled([x.data(), device.sync()]);
    device.dispose();
    const [read, sync] = await pending;
    if (read.status === "fulfilled") expect(read.value.every((value) => value === 1)).toBe(true);
    else expect(read.reason).toMatchObject({ code: "DISPOSED" });
    if (sync.status === "rejected") expect(sync.reason).toMatchObject({ code: "DISPOSED" });
    await expect(async () => x.data()).rejects.toThrow(code("DISPOSED"));
    expect(() => native().fill(x.handle, 0)).toThrow(code("DISPOSED"));
  });

  it("tensors of a GPU and of the CPU do not meet", () => {
    using a = zeros([4]);
    using b = zeros([4], { device: openDevice("cpu") });
    expect(() => native().add(a.handle, b.handle, a.handle)).toThrow(code("WRONG_DEVICE"));
  });
});

describe.runIf(built)("the dry device that stands for a GPU", () => {
  const script = (device: Device): ReturnType<Device["memory"]> => {
    const kept: Tensor[] = [];
    for (let i = 0; i < 40; i++) {
      const x = empty([1 + ((i * 7919) % 500_000), 1 + (i % 3)], { device, dtype: i % 2 ? "f32" : "bf16" });
      if (i % 3 === 0) kept.push(x);
      else x.dispose();
      if (i % 7 === 0) kept.shift()?.dispose();
    }
    const rows = empty([64, 96], { device, dtype: "bf16" });
    const weight = empty([96], { device, dtype: "bf16" });
    const dweight = empty([96], { device, dtype: "f32" });
    native().rmsNormBackward(rows.handle, rows.handle, weight.handle, rows.handle, dweight.handle, 1e-6, false, false);
    const memory = device.memory();
    for (const each of [...kept, rows, weight, dweight]) each.dispose();
    expect(device.memory().live).toBe(0);
    return memory;
  };

  it("is an H100 where there is no GPU, or as asked", () => {
    using h100 = openDevice("dry", { like: { simd: "sm_90", multiprocessors: 0 } });
    expect([h100.kind, h100.simd, h100.multiprocessors]).toEqual(["dry", "sm_90", 132]);
    using small = openDevice("dry", { like: { simd: "sm_80", multiprocessors: 7 } });
    expect([small.simd, small.multiprocessors]).toEqual(["sm_80", 7]);
    using here = openDevice("dry", { like: "cuda" });
    expect(here.simd).toBe(gpus[0]?.level ?? "sm_90");
    expect(() => openDevice("dry", { like: { simd: "sm_70", multiprocessors: 7 } })).toThrow(
      /sm_80 or sm_90, got sm_70/,
    );
  });

  it("counts in pages of 2 MiB and knows the workspaces", () => {
    using dry = openDevice("dry", { like: "cuda" });
    const memory = script(dry);
    expect(memory.reserved % (2 << 20)).toBe(0);
    expect(memory.byTag.workspace.peak).toBeGreaterThan(0);
  });

  it.runIf(onGpu)("has the same ledger to the byte", async () => {
    using real = openDevice("cuda", { memoryLimit: 1 << 30 });
    using dry = openDevice("dry", { like: real });
    expect(script(dry)).toEqual(script(real));
    await real.sync();
  });
});
