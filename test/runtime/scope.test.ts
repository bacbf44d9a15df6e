import { describe, expect, it } from "vitest";
import { openDevice } from "../../lib/device.js";
import { detach, keep, scope } from "../../lib/scope.js";
import { type Tensor, zeros } from "../../lib/tensor.js";

const device = openDevice("dry");
const make = (): Tensor => zeros([4], { device });

describe("scope", () => {
  it("disposes what is made inside and not returned", () => {
    const before = device.memory().live;
    let inner: Tensor | undefined;
    const returned = scope(() => {
      inner = make();
      return make();
    });
    expect(inner?.disposed).toBe(true);
    expect(returned.disposed).toBe(false);
    expect(device.memory().live).toBe(before + 64);
    returned.dispose();
    expect(device.memory().live).toBe(before);
  });

  it("finds returned tensors in arrays, objects, maps and sets, and walks circles once", () => {
    interface Circle {
      self?: Circle;
      tensor: Tensor;
    }
    const { array, map, set, circle } = scope(() => {
      const circle: Circle = { tensor: make() };
      circle.self = circle;
      return { array: [[make()], 1], map: new Map([["a", make()]]), set: new Set([make()]), circle };
    });
    const kept = [...(array[0] as Tensor[]), ...map.values(), ...set, circle.tensor];
    expect(kept).toHaveLength(4);
    for (const tensor of kept) {
      expect(tensor.disposed).toBe(false);
      tensor.dispose();
    }
  });

  it("passes what it returns to the scope around it", () => {
    let middle: Tensor | undefined;
    scope(() => {
      middle = scope(() => make());
      expect(middle.disposed).toBe(false);
    });
    expect(middle?.disposed).toBe(true);
  });

  it("keep moves a tensor one scope out, detach takes it out of all", () => {
    let kept: Tensor | undefined;
    let detached: Tensor | undefined;
    scope(() => {
      scope(() => {
        kept = keep(make());
        detached = detach(make());
      });
      expect(kept?.disposed).toBe(false);
    });
    expect(kept?.disposed).toBe(true);
    expect(detached?.disposed).toBe(false);
    detached?.dispose();
  });

  it("does not touch tensors made outside", () => {
    const outside = make();
    scope(() => [outside]);
    scope(() => undefined);
    expect(outside.disposed).toBe(false);
    outside.dispose();
  });

  it("disposes everything when the function throws, and throws that", () => {
    let made: Tensor | undefined;
    const failing = (): never => {
      made = make();
      throw new RangeError("mine");
    };
    expect(() => scope(failing)).toThrow(RangeError);
    expect(made?.disposed).toBe(true);
    expect(scope(() => 5)).toBe(5);
  });

  it("refuses an asynchronous function and disposes what it made", () => {
    let made: Tensor | undefined;
    const asynchronous = async (): Promise<void> => {
      made = make();
      await Promise.reject(new Error("nobody hears this one"));
    };
    expect(() => scope(asynchronous)).toThrow(expect.objectContaining({ code: "ASYNC_SCOPE" }));
    expect(made?.disposed).toBe(true);
  });

  it("lets a tensor be disposed by hand inside", () => {
    const before = device.memory().live;
    scope(() => {
      make().dispose();
    });
    expect(device.memory().live).toBe(before);
  });
});
