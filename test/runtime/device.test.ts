import { describe, expect, it } from "vitest";
import { dtypes, openDevice, tags } from "../../lib/device.js";
import { native } from "../../lib/native.js";
import { scope } from "../../lib/scope.js";
import { type Tensor, emptyPacked, tensor, zeros } from "../../lib/tensor.js";
import { runChild } from "../helpers/child.js";

const code = (name: string): unknown => expect.objectContaining({ code: name });

describe("openDevice", () => {
  it("gives one device for equal options, a new one for other options and for each dry run", () => {
    expect(openDevice()).toBe(openDevice("auto"));
    expect(openDevice()).toBe(openDevice(openDevice().kind));
    expect(openDevice("cpu", { simd: "generic" })).toBe(openDevice("auto", { simd: "generic" }));
    expect(openDevice("cpu", { simd: "generic" })).not.toBe(openDevice());
    using a = openDevice("dry");
    using b = openDevice("dry");
    expect(a).not.toBe(b);
  });

  it("says what it is", () => {
    const device = openDevice("cpu");
    const machine = native().machine();
    expect(device.kind).toBe("cpu");
    expect(device.threads).toBe(machine.threads);
    expect(machine.levels).toContain(device.simd);
    expect(machine.levels[0]).toBe("generic");
    expect(machine.levels).toContain(machine.defaultLevel);
    expect(machine.unrecorded).not.toContain(machine.defaultLevel);
    using dry = openDevice("dry");
    expect([dry.kind, dry.simd, dry.threads]).toEqual(["dry", device.simd, device.threads]);
  });

  it("every level that the machine has opens and computes", async () => {
    for (const simd of native().machine().levels) {
      const device = openDevice("cpu", { simd });
      expect(device.simd).toBe(simd);
      using x = tensor([1, 2, 3], { device });
      native().scale(x.handle, 2, x.handle);
      expect(await x.data()).toEqual(Float32Array.of(2, 4, 6));
    }
  });

  it("refuses what it has not, with the names it has", () => {
    expect(() => openDevice("tpu" as "cpu")).toThrow(/"auto", "cpu", "cuda" or "dry"/);
    expect(() => openDevice("cpu", { simd: "avx9000" })).toThrow(/simd.*one of generic.*got avx9000/);
    expect(() => openDevice("cpu", { memoryLimit: -1 })).toThrow(code("BAD_ARGUMENT"));
    expect(() => openDevice("cpu", { memorylimit: 1 } as object)).toThrow(/Did you mean "memoryLimit"/);
  });

  it("FORETOKEN_SIMD forces the level, FORETOKEN_THREADS the threads; an option wins", async () => {
    const env = { FORETOKEN_DEVICE: "cpu", FORETOKEN_SIMD: "generic", FORETOKEN_THREADS: "3" };
    const { stdout } = await runChild("runtime/children/describe.ts", { env });
    expect(JSON.parse(stdout)).toEqual({ simd: "generic", threads: 3, again: "generic" });
    const unknown = await runChild("runtime/children/describe.ts", {
      env: { FORETOKEN_DEVICE: "cpu", FORETOKEN_SIMD: "mmx" },
    });
    expect(unknown.code).toBe(1);
    expect(unknown.stderr).toMatch(/FORETOKEN_SIMD.*expected one of generic.*got mmx/);
  });

  it("the tables of dtypes and tags are those of the native side", () => {
    expect(native().dtypes).toEqual(dtypes);
    expect(native().tags).toEqual(tags);
  });

  it("a disposed device's tensors are disposed, what is pending rejects, and others go on", async () => {
    const device = openDevice("cpu", { memoryLimit: 1 << 28 });
    const x = zeros([1 << 20], { device });
    for (let i = 0; i < 200; i++) native().randomNormal(x.handle, 0, 1, i, 0);
    const pending = expect(x.data()).rejects.toMatchObject({ code: "DISPOSED" });
    device.dispose();
    device.dispose();
    await pending;
    expect(x.disposed).toBe(true);
    expect(() => native().fill(x.handle, 0)).toThrow(code("DISPOSED"));
    expect(() => x.view([1])).toThrow(code("DISPOSED"));
    expect(() => device.memory()).toThrow(code("DISPOSED"));
    expect(() => zeros([1], { device })).toThrow(code("DISPOSED"));
    await expect(device.sync()).rejects.toMatchObject({ code: "DISPOSED" });
    x.dispose();
    using fresh = openDevice("cpu", { memoryLimit: 1 << 28 });
    expect(fresh).not.toBe(device);
    await fresh.sync();
  });
});

describe("memory", () => {
  // The same calls on a real and on a dry device.
  function script(device = openDevice()): ReturnType<typeof device.memory> {
    const before = device.memory();
    device.resetPeak();
    const kept: Tensor[] = [];
    for (let i = 0; i < 60; i++) {
      const x = zeros([1 + ((i * 7919) % 50_000), 1 + (i % 3)], { device, dtype: i % 2 ? "f32" : "bf16" });
      const y = zeros([x.size], { device, dtype: "f32", tag: "gradient" });
      native().cast(x.handle, y.handle);
      if (i % 5 === 0) kept.push(emptyPacked(i + 1, 33, { dtype: "bf16", device }));
      if (i % 3 === 0) kept.push(y.view([1], 0));
      x.dispose();
      y.dispose();
      if (i % 7 === 0) kept.shift()?.dispose();
    }
    scope(() => {
      const x = zeros([64, 96], { device });
      const weight = zeros([96], { device });
      const dx = zeros([64, 96], { device });
      const dweight = zeros([96], { device });
      native().rmsNormBackward(x.handle, x.handle, weight.handle, dx.handle, dweight.handle, 1e-6, false, false);
    });
    for (const tensor of kept) tensor.dispose();
    expect(device.memory().live).toBe(before.live);
    return device.memory();
  }

  it("the dry device's peaks are the real one's to the byte, workspaces included", async () => {
    using real = openDevice("cpu", { memoryLimit: 1 << 30 });
    using dry = openDevice("dry");
    const measured = script(real);
    expect(measured.peak).toBeGreaterThan(100_000);
    expect(script(dry)).toEqual(measured);
    await real.sync();
  });

  it("an op that needs workspace counts it while it is enqueued", () => {
    using device = openDevice("dry");
    script(device);
    expect(device.memory().byTag.workspace.live).toBe(0);
    expect(device.memory().byTag.workspace.peak).toBeGreaterThan(0);
  });

  it("counts by tag, rounded to 64, and starts peaks anew", () => {
    using device = openDevice("dry");
    const a = zeros([5], { device, tag: "parameter" });
    const b = zeros([100], { device, tag: "gradient" });
    b.dispose();
    expect(device.memory()).toMatchObject({ live: 64, peak: 512, requested: 20 });
    expect(device.memory().byTag.gradient).toEqual({ live: 0, peak: 448 });
    device.resetPeak();
    expect(device.memory().peak).toBe(64);
    a.dispose();
  });

  it("the dry device reads zeros", async () => {
    using device = openDevice("dry");
    using x = tensor([1, 2], { device });
    expect(await x.data()).toEqual(Float32Array.of(0, 0));
    await device.sync();
  });

  it("running out is an error to recover from", async () => {
    using device = openDevice("cpu", { memoryLimit: 1 << 20 });
    using small = tensor([1, 2, 3], { device });
    expect(() => zeros([1 << 19], { device })).toThrow(code("OUT_OF_MEMORY"));
    expect(() => zeros([1 << 19], { device })).toThrow(/2097152.*64.*1048576/); // wanted, live, limit
    using fits = zeros([1 << 17], { device });
    native().fill(fits.handle, 2);
    expect(await small.data()).toEqual(Float32Array.of(1, 2, 3));
    expect((await fits.data()).every((value) => value === 2)).toBe(true);
  });

  it("the process grows by no more than the peak × 1.03 + 16 MB", async () => {
    const {
      code: exit,
      stdout,
      stderr,
    } = await runChild("runtime/children/fragment.ts", { env: { FORETOKEN_DEVICE: "cpu" } });
    expect([exit, stderr]).toEqual([0, ""]);
    const { grown, peak } = JSON.parse(stdout) as { grown: number; peak: number };
    expect(peak).toBeGreaterThan(200e6);
    expect(grown).toBeGreaterThan(0.9 * peak); // the memory was really used
    expect(grown).toBeLessThanOrEqual(peak * 1.03 + 16 * 2 ** 20);
  });
});
