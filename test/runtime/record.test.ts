import { describe, expect, it } from "vitest";
import { openDevice, Recording } from "../../lib/device.js";
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

  it("a replay inside a recording is an error: the recording made could outlive the replayed one", async () => {
    using x = tensor([1, 1, 1, 1]);
    using total = zeros([4]);
    const inner = device.record(() => step(x, total));
    expect(() => device.record(() => inner.replay())).toThrow(
      expect.objectContaining({ code: "BAD_ARGUMENT", op: "replay" }),
    );
    inner.replay();
    inner.dispose();
    expect(await total.data()).toEqual(Float32Array.of(6, 6, 6, 6));
    expect(device.memory().byTag.recording.live).toBe(0);
  });

  it("refuses an asynchronous function; the recording is ended and freed", async () => {
    using x = tensor([1, 1, 1, 1]);
    using total = zeros([4]);
    const { live } = device.memory();
    const asynchronous = async (): Promise<void> => {
      step(x, total);
      await Promise.reject(new Error("nobody hears this one"));
    };
    expect(() => device.record(asynchronous as () => void)).toThrow(
      expect.objectContaining({ code: "ASYNC_SCOPE", op: "record" }),
    );
    expect(device.memory().live).toBe(live);
    step(x, total); // runs: nothing records any more
    expect(await total.data()).toEqual(Float32Array.of(6, 6, 6, 6));
  });

  it("that fails is ended and freed, also when the device goes with it", async () => {
    using x = tensor([1, 1, 1, 1]);
    using total = zeros([4]);
    const { live } = device.memory();
    const failing = (): void => {
      step(x, total);
      throw new RangeError("mine");
    };
    expect(() => device.record(failing)).toThrow(RangeError);
    expect(device.memory().live).toBe(live);
    step(x, total);
    expect(await total.data()).toEqual(Float32Array.of(6, 6, 6, 6));
    const doomed = openDevice("dry");
    const disposing = (): void => {
      doomed.dispose();
      throw new RangeError("mine");
    };
    expect(() => doomed.record(disposing)).toThrow(RangeError);
  });

  it("repeats the bytes written inside at each replay", async () => {
    using x = zeros([2]);
    const bytes = Float32Array.of(1, 2);
    using recording = device.record(() => x.write(bytes));
    bytes.fill(9);
    for (let i = 0; i < 2; i++) {
      x.write([5, 5]);
      recording.replay();
      expect(await x.data()).toEqual(Float32Array.of(1, 2));
    }
  });

  it("bytes written inside do not make later writes of the CPU wait", async () => {
    const own = openDevice("cpu", { memoryLimit: 1 << 27 });
    const large = zeros([1 << 21], { device: own });
    const small = zeros([4], { device: own });
    const data = new Float32Array(1 << 21);
    own.record(() => large.write(data)); // 8 MB, more than may wait in queues
    for (let i = 0; i < 200; i++) native().randomNormal(large.handle, 0, 1, i, 0); // keeps the stream busy
    const pending = expect(small.data()).rejects.toMatchObject({ code: "DISPOSED" });
    small.write([1, 2, 3, 4]); // if it waited, the read before it would have come to its end
    own.dispose();
    await pending;
  });

  it("has the same ledger on the dry device", () => {
    using real = openDevice(device.kind, { memoryLimit: 1 << 29 });
    using dry = openDevice("dry", { like: real });
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

describe("Recording.combine", () => {
  it("replays the one that the device names when it gets there, a GPU the last, then the others", async () => {
    using total = zeros([1]);
    using index = zeros([2], { dtype: "i32" });
    using one = zeros([1], { dtype: "i32" });
    const adding = [1, 10, 100].map((amount) => {
      using x = tensor([amount]);
      return device.record(() => native().accumulate(x.handle, 1, total.handle));
    });
    using doubling = device.record(() => native().scale(total.handle, 2, total.handle));
    using combined = Recording.combine(adding, index, [doubling]);
    let expected = 0;
    // Which one is not known when it is enqueued: an op before it writes the index.
    for (const wanted of [2, 0, 1, -7, 9]) {
      one.write([wanted]);
      native().cast(one.handle, index.view([1]).handle);
      const times = wanted === 1 ? 3 : 1;
      combined.replay(times);
      const amount = [1, 10, 100][device.kind === "cuda" ? 2 : Math.min(Math.max(wanted, 0), 2)] ?? NaN;
      for (let i = 0; i < times; i++) expected = 2 * (expected + amount);
    }
    expect(await total.data()).toEqual(Float32Array.of(expected));
    for (const recording of adding) recording.dispose();
  });

  it("refuses what it cannot replay, and enqueues nothing of it", async () => {
    using total = zeros([1]);
    using index = zeros([1], { dtype: "i32" });
    using numbers = zeros([1]);
    const doubled = (): Recording => device.record(() => native().scale(total.handle, 2, total.handle));
    const [first, second, after] = [doubled(), doubled(), doubled()];
    const both = [first, second];
    expect(() => Recording.combine([], index)).toThrow(code("BAD_ARGUMENT"));
    expect(() => Recording.combine(both, numbers)).toThrow(code("DTYPE_MISMATCH"));
    using elsewhere = openDevice("dry");
    using other = zeros([1], { dtype: "i32", device: elsewhere });
    expect(() => Recording.combine(both, other)).toThrow(code("WRONG_DEVICE"));
    expect(() => device.record(() => Recording.combine(both, index))).toThrow(code("BAD_ARGUMENT"));
    const combined = Recording.combine(both, index, [after]);
    expect(() => device.record(() => combined.replay())).toThrow(code("BAD_ARGUMENT"));
    native().fill(total.handle, 1);
    after.dispose();
    expect(() => combined.replay()).toThrow(code("DISPOSED"));
    expect(() => Recording.combine(both, index, [after])).toThrow(code("DISPOSED"));
    combined.dispose();
    expect(() => combined.replay()).toThrow(code("DISPOSED"));
    using short = zeros([1], { dtype: "i32" });
    const orphaned = Recording.combine([first], short);
    short.dispose();
    expect(() => orphaned.replay()).toThrow(code("DISPOSED"));
    expect(await total.item()).toBe(1);
    for (const each of [first, second, orphaned]) each.dispose();
    expect(device.memory().byTag.recording.live).toBe(0);
  });
});
