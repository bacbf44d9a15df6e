import { describe, expect, it } from "vitest";
import { openDevice } from "../../lib/device.js";
import { native } from "../../lib/native.js";
import { scope } from "../../lib/scope.js";
import { type Tensor, empty, tensor, zeros } from "../../lib/tensor.js";

const device = openDevice();
const code = (name: string): unknown => expect.objectContaining({ code: name });

// total += 3·(x + 1), through temporary tensors and a constant written inside.
function step(x: Tensor, total: Tensor, on = device): void {
  scope(() => {
    const one = tensor(new Float32Array(x.size).fill(1), { device: on });
    const sum = empty(x.shape, { dtype: "f32", device: on });
    native().add(x.handle, one.handle, sum.handle);
    one.dispose();
    const tripled = empty(x.shape, { dtype: "f32", device: on });
    native().scale(sum.handle, 3, tripled.handle);
    sum.dispose();
    native().accumulate(tripled.handle, 1, total.handle);
  });
}

describe("record", () => {
  it("replays what a direct call does, with what its inputs hold by then", async () => {
    using x = zeros([1000]);
    using direct = zeros([1000]);
    using replayed = zeros([1000]);
    using recording = device.record(() => step(x, replayed));
    expect(await replayed.data()).toEqual(new Float32Array(1000)); // recorded, not run
    for (let i = 0; i < 20; i++) {
      x.write(Float32Array.from({ length: 1000 }, (_, j) => i * j));
      recording.replay();
      step(x, direct);
    }
    expect(await replayed.data()).toEqual(await direct.data());
    expect((await direct.data())[2]).toBe(3 * (2 * 190 + 20));
  });

  it("keeps its memory from others until it is disposed", async () => {
    using x = tensor(Float32Array.of(1, 2, 3, 4));
    using total = zeros([4]);
    const recording = device.record(() => step(x, total));
    const others = Array.from({ length: 50 }, (_, i) => tensor(new Float32Array(4).fill(i)));
    recording.replay();
    for (const [i, other] of others.entries()) {
      expect(await other.data()).toEqual(new Float32Array(4).fill(i));
      other.dispose();
    }
    expect(await total.data()).toEqual(Float32Array.of(6, 9, 12, 15));
    const held = device.memory().byTag.recording.live;
    expect(held).toBeGreaterThan(0);
    recording.dispose();
    recording.dispose();
    expect(device.memory().byTag.recording.live).toBe(0);
    expect(() => recording.replay()).toThrow(code("DISPOSED"));
  });

  it("keeps a tensor it uses alive when that is disposed elsewhere", async () => {
    const x = tensor(Float32Array.of(1, 1, 1, 1));
    using total = zeros([4]);
    const before = device.memory().live;
    const recording = device.record(() => step(x, total));
    x.dispose();
    const others = Array.from({ length: 20 }, () => tensor(new Float32Array(4).fill(100)));
    recording.replay();
    expect(await total.data()).toEqual(Float32Array.of(6, 6, 6, 6));
    recording.dispose();
    for (const other of others) other.dispose();
    expect(device.memory().live).toBe(before - 64); // x is gone with the recording
  });

  it("a tensor made inside can be read after each replay", async () => {
    using x = tensor([2]);
    let y: Tensor | undefined;
    using recording = device.record(() => {
      y = empty([1], { dtype: "f32", device });
      native().scale(x.handle, 10, y.handle);
    });
    for (const value of [1, 2]) {
      x.write([value]);
      recording.replay();
      expect(await y?.item()).toBe(10 * value);
    }
    y?.dispose();
  });

  it("reading inside, and recording inside a recording, are errors; the device goes on", async () => {
    using x = zeros([1]);
    let reading: Promise<unknown> | undefined;
    device
      .record(() => {
        reading = x.data();
      })
      .dispose();
    await expect(reading).rejects.toMatchObject({ code: "BAD_ARGUMENT", op: "data" });
    expect(() => device.record(() => device.record(() => {}))).toThrow(code("BAD_ARGUMENT"));
    expect(() =>
      device.record(() => {
        throw new RangeError("mine");
      }),
    ).toThrow(RangeError);
    native().fill(x.handle, 4);
    expect(await x.item()).toBe(4);
  });

  it("has the same ledger on the dry device", () => {
    using real = openDevice("cpu", { memoryLimit: 1 << 29 });
    using dry = openDevice("dry");
    const [measured, predicted] = [real, dry].map((on) => {
      using x = zeros([5000], { device: on });
      using total = zeros([5000], { device: on });
      using recording = on.record(() => step(x, total, on));
      recording.replay();
      return on.memory();
    });
    expect(predicted).toEqual(measured);
  });
});
