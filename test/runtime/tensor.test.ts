import { describe, expect, it } from "vitest";
import { openDevice } from "../../lib/device.js";
import { type Handle, native } from "../../lib/native.js";
import { fromBf16, toBf16 } from "../../lib/bf16.js";
import { empty, emptyPacked, randn, tensor, zeros } from "../../lib/tensor.js";

const device = openDevice();
const code = (name: string): unknown => expect.objectContaining({ code: name });

describe("making tensors", () => {
  it("takes nested arrays, numbers and typed arrays", async () => {
    using matrix = tensor([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    expect(matrix.shape).toEqual([2, 3]);
    expect(matrix.dtype).toBe("f32");
    expect(await matrix.data()).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
    using scalar = tensor(7);
    expect(scalar.shape).toEqual([]);
    expect(await scalar.item()).toBe(7);
    using bytes = tensor(Uint8Array.of(1, 255), { shape: [2, 1] });
    expect(bytes.dtype as string).toBe("u8");
    expect(await bytes.data()).toEqual(Uint8Array.of(1, 255));
  });

  it.each([
    ["f32", Float32Array.of(1.5, -2, 3)],
    ["f64", Float64Array.of(1.1, -2, 3)],
    ["i32", Int32Array.of(-1, 2, 1 << 30)],
    ["u8", Uint8Array.of(0, 128, 255)],
    ["bf16", Uint16Array.of(0x3fc0, 0xc000, 0x4040)],
  ] as const)("reads %s back as it was written", async (dtype, values) => {
    using made = tensor(values, { dtype });
    expect(await made.data()).toEqual(values);
  });

  it("rounds numbers to bf16 and widens them back", async () => {
    using made = tensor([1, 1.00390625, 1.01171875, -3.14159265], { dtype: "bf16" });
    // 1 + 2⁻⁸ lies halfway and goes to even (1), 1 + 3·2⁻⁸ halfway to even (1 + 2⁻⁶)
    expect(await made.toFloats()).toEqual(Float32Array.of(1, 1, 1.015625, -3.140625));
  });

  it("zeros are zeros over memory that held something else", async () => {
    const dirty = tensor(new Float32Array(64).fill(NaN));
    dirty.dispose();
    using made = zeros([64]);
    expect(await made.data()).toEqual(new Float32Array(64));
  });

  it("randn depends on seed and stream alone", async () => {
    using a = randn([1000], { seed: 1 });
    using b = randn([1000], { seed: 1 });
    using c = randn([1000], { seed: 1, stream: 1 });
    using shifted = randn([1000], { seed: 1, mean: 5, std: 0.5 });
    const [x, y, z, w] = await Promise.all([a.data(), b.data(), c.data(), shifted.data()]);
    expect(x).toEqual(y);
    expect(x).not.toEqual(z);
    const difference = w.map((value, i) => Math.abs(value - (5 + 0.5 * (x[i] ?? NaN))));
    expect(Math.max(...difference)).toBeLessThanOrEqual(2 ** -21); // one step of f32 numbers from 4 to 8
    const mean = x.reduce((sum, value) => sum + value, 0) / 1000;
    expect(Math.abs(mean)).toBeLessThan(4 / Math.sqrt(1000)); // four standard errors
  });

  it("handles empty tensors", async () => {
    using none = zeros([0, 3]);
    expect(await none.data()).toEqual(new Float32Array(0));
  });

  it("says what is wrong with data, shape, dtype and options", () => {
    expect(() => tensor([[1, 2], [3]])).toThrow(code("SHAPE_MISMATCH"));
    expect(() => tensor([1, 2, 3], { shape: [2] })).toThrow(code("SHAPE_MISMATCH"));
    expect(() => zeros([-1])).toThrow(code("BAD_ARGUMENT"));
    expect(() => zeros([1.5])).toThrow(code("BAD_ARGUMENT"));
    expect(() => zeros([1, 1, 1, 1, 1])).toThrow(code("BAD_ARGUMENT"));
    expect(() => zeros([1], { dtype: "f16" as "f32" })).toThrow(code("BAD_ARGUMENT"));
    expect(() => zeros([1], { dtpe: "f32" } as object)).toThrow(/Did you mean "dtype"/);
    expect(() => tensor(Uint16Array.of(1), { dtype: "f32" })).toThrow(code("DTYPE_MISMATCH"));
  });
});

describe("the size of a shape", () => {
  const most = 2 ** 50 - 1; // elements: 8 bytes of each are exact in a number

  // Where 64 bits wrap to 0, to a small number, to a negative one, and what a 0 would hide.
  it.each([
    [[2 ** 32, 2 ** 32]],
    [[2 ** 32, 2 ** 32, 2 ** 32, 2 ** 32]],
    [[2 ** 33, 2 ** 31 + 1]],
    [[2 ** 31, 2 ** 32]],
    [[2 ** 32, 2 ** 32, 0]],
    [[2 ** 50]],
  ])("(%s) is too large, in lib and natively", (shape) => {
    using base = zeros([6]);
    const [n = 1, k = 1] = shape;
    const { live } = device.memory();
    expect(() => zeros(shape)).toThrow(code("BAD_ARGUMENT"));
    expect(() => empty(shape, { dtype: "u8", device })).toThrow(code("BAD_ARGUMENT"));
    expect(() => base.view(shape)).toThrow(code("BAD_ARGUMENT"));
    expect(() => native().view(base.handle, 0, ...shape)).toThrow(code("BAD_ARGUMENT"));
    expect(() => native().allocate(device.id, 0, 0, ...shape)).toThrow(code("BAD_ARGUMENT"));
    expect(() => emptyPacked(n, k, { dtype: "bf16", device })).toThrow(code("BAD_ARGUMENT"));
    expect(() => native().allocatePacked(device.id, 0, 0, n, k)).toThrow(code("BAD_ARGUMENT"));
    expect(device.memory().live).toBe(live);
  });

  it("at the limit is for the memory to refuse", () => {
    using base = zeros([6]);
    expect(() => zeros([most])).toThrow(code("OUT_OF_MEMORY"));
    expect(() => emptyPacked(most, 1, { dtype: "f32", device })).toThrow(code("OUT_OF_MEMORY"));
    expect(() => emptyPacked(1, most, { dtype: "f32", device })).toThrow(code("OUT_OF_MEMORY"));
    expect(() => base.view([most])).toThrow(/within 6 elements/);
    using none = zeros([0, most]);
    expect(none.size).toBe(0);
  });

  it.each([[[-1]], [[1.5]], [[NaN]], [[1e300]], [[1, 1, 1, 1, 1]]])("(%s) is refused natively", (shape) => {
    using base = zeros([6]);
    expect(() => native().allocate(device.id, 0, 0, ...shape)).toThrow(code("BAD_ARGUMENT"));
    expect(() => native().view(base.handle, 0, ...shape)).toThrow(code("BAD_ARGUMENT"));
  });
});

describe("bf16", () => {
  // Rounding by arithmetic on the significand, apart from the bit trick under test.
  const reference = (value: number): number => {
    if (!Number.isFinite(value) || value === 0) return value;
    const unit = 2 ** (Math.max(Math.floor(Math.log2(Math.abs(value))), -126) - 7);
    const scaled = value / unit;
    const floor = Math.floor(scaled);
    const rest = scaled - floor;
    const up = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0);
    const rounded = (up ? floor + 1 : floor) * unit;
    return Math.sign(value) * (Math.abs(rounded) >= 2 ** 128 ? Infinity : Math.abs(rounded)); // keeps -0
  };

  it("rounds to nearest even over the whole range", () => {
    const values = new Float32Array(20_000);
    for (let i = 0; i < values.length; i++) values[i] = Math.sin(i) * 2 ** ((i % 276) - 148);
    const special = Float32Array.of(0, -0, Infinity, -Infinity, 3.4e38, -3.4e38, 1e-45);
    for (const list of [values, special]) {
      expect(fromBf16(toBf16(list))).toEqual(list.map(reference));
    }
  });

  it("keeps NaN, also one whose payload is in the lower half", () => {
    const odd = new Float32Array(Uint32Array.of(0x7f800001, 0xffffffff).buffer);
    expect([...fromBf16(toBf16(odd))]).toEqual([NaN, NaN]);
  });
});

describe("views", () => {
  it("share memory and live on their own", async () => {
    const base = tensor([0, 1, 2, 3, 4, 5]);
    using tail = base.view([2, 2], 2);
    using same = base.view([3, 2]);
    expect(await tail.data()).toEqual(Float32Array.of(2, 3, 4, 5));
    native().fill(tail.handle, 9);
    expect(await base.data()).toEqual(Float32Array.of(0, 1, 9, 9, 9, 9));
    base.dispose();
    expect(await same.data()).toEqual(Float32Array.of(0, 1, 9, 9, 9, 9));
    expect(() => base.view([6])).toThrow(code("DISPOSED"));
  });

  it("free the memory with the last of them", () => {
    const before = device.memory().live;
    const base = zeros([1024]);
    const view = base.view([512], 512);
    base.dispose();
    expect(device.memory().live).toBe(before + 4096);
    view.dispose();
    expect(device.memory().live).toBe(before);
  });

  it("as another dtype have the same bits, and as many bytes", async () => {
    using base = tensor([1, -2, 0.5, 0]);
    using bits = base.viewAs("i32", [4]);
    expect(await bits.data()).toEqual(Int32Array.of(0x3f800000, 0xc0000000 | 0, 0x3f000000, 0));
    using halves = base.viewAs("bf16", [2, 4]);
    expect((await halves.data())[1]).toBe(0x3f80);
    expect(() => base.viewAs("bf16", [4])).toThrow(code("BAD_ARGUMENT"));
    expect(() => base.viewAs("i64" as "i32", [2])).toThrow(code("BAD_ARGUMENT"));
    using packed = emptyPacked(8, 8, { dtype: "bf16", device });
    expect(() => packed.viewAs("i32", [32])).toThrow(code("BAD_ARGUMENT"));
  });

  it("must stay inside", () => {
    using base = zeros([6]);
    expect(() => base.view([4], 3)).toThrow(code("BAD_ARGUMENT"));
    for (const offset of [-1, 0.5, NaN, Infinity, 1e300])
      expect(() => base.view([1], offset)).toThrow(code("BAD_ARGUMENT"));
    using packed = emptyPacked(8, 8, { dtype: "bf16", device });
    expect(() => packed.view([64])).toThrow(code("BAD_ARGUMENT"));
  });
});

describe("write", () => {
  it("goes to its place, in order with ops", async () => {
    using x = zeros([6]);
    using doubled = zeros([6]);
    x.write([1, 2], 1);
    native().scale(x.handle, 2, doubled.handle);
    x.write(Float32Array.of(7), 5);
    expect(await doubled.data()).toEqual(Float32Array.of(0, 2, 4, 0, 0, 0));
    expect(await x.data()).toEqual(Float32Array.of(0, 1, 2, 0, 0, 7));
  });

  it("copies at the call, however much is queued", async () => {
    using big = zeros([device.kind === "cpu" ? 1 << 18 : 1 << 8]);
    using x = empty([1 << 16], { dtype: "f32", device });
    using sum = zeros([1 << 16]);
    const data = new Float32Array(1 << 16);
    for (let i = 1; i <= 40; i++) {
      native().randomNormal(big.handle, 0, 1, i, 0); // keeps the stream busy
      x.write(data.fill(i));
      native().add(sum.handle, x.handle, sum.handle);
    }
    expect(await sum.data()).toEqual(new Float32Array(1 << 16).fill(820));
  });

  it("refuses what does not fit", () => {
    using x = zeros([4]);
    expect(() => x.write([1, 2], 3)).toThrow(code("BAD_ARGUMENT"));
    expect(() => x.write([1], -1)).toThrow(code("BAD_ARGUMENT"));
    expect(() => native().write(x.handle, Int32Array.of(1), 0)).toThrow(code("BAD_ARGUMENT"));
  });
});

describe("read", () => {
  it("is a snapshot at its place in the stream", async () => {
    using x = zeros([3]);
    const reads = [];
    for (let i = 1; i <= 50; i++) {
      native().fill(x.handle, i);
      reads.push(x.data());
    }
    x.write([-1, -1, -1]);
    const seen = await Promise.all(reads);
    expect(seen.map((data) => [...data])).toEqual(Array.from({ length: 50 }, (_, i) => [i + 1, i + 1, i + 1]));
  });

  it("item wants one element", async () => {
    using x = zeros([2]);
    await expect(x.item()).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
  });

  it("of a packed weight is refused, of a disposed tensor too", async () => {
    using packed = emptyPacked(4, 4, { dtype: "f32", device });
    await expect(packed.data()).rejects.toMatchObject({ code: "BAD_ARGUMENT" });
    const x = zeros([1]);
    const pending = x.data();
    x.dispose();
    expect(await pending).toEqual(Float32Array.of(0)); // it was enqueued before
    await expect(x.data()).rejects.toMatchObject({ code: "DISPOSED" });
  });
});

describe("handles", () => {
  it("a disposed tensor is an error that names op and argument, also when its slot is in use again", () => {
    using y = zeros([4]);
    const a = zeros([4]);
    a.dispose();
    a.dispose();
    using again = zeros([4]);
    expect(again.handle).not.toBe(a.handle);
    expect(() => native().add(y.handle, a.handle, y.handle)).toThrow(
      expect.objectContaining({ code: "DISPOSED", op: "add", argument: "b" }),
    );
  });

  it.each([1, -1, 0.5, NaN, Infinity, 2 ** 52, 2 ** 60])("%s, which no tensor has, is an error", (handle) => {
    expect(() => native().fill(handle, 1)).toThrow(code("DISPOSED"));
  });

  it("anything but a number is an error that says what was wanted", () => {
    expect(() => native().fill("x" as unknown as Handle, 1)).toThrow(/\[fill\] y: expected a tensor/);
    expect(() => native().fill({} as unknown as Handle, 1)).toThrow(code("BAD_ARGUMENT"));
    expect(() => native().fill(null as unknown as Handle, 1)).toThrow(code("BAD_ARGUMENT"));
    using x = zeros([1]);
    expect(() => native().fill(x.handle, "1" as unknown as number)).toThrow(/\[fill\] value: expected a number/);
    expect(() => (native().fill as (y: Handle) => void)(x.handle)).toThrow(code("BAD_ARGUMENT"));
  });

  it("tensors of two devices do not meet", () => {
    using other = openDevice("dry");
    using a = zeros([4]);
    using b = zeros([4], { device: other });
    expect(() => native().add(a.handle, b.handle, a.handle)).toThrow(
      expect.objectContaining({ code: "WRONG_DEVICE", op: "add", argument: "b" }),
    );
  });
});
