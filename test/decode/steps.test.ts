// Which steps are recorded, and which stand in for others.
import { describe, expect, it } from "vitest";
import { RecordedSteps } from "../../lib/decode/steps.js";
import { openDevice } from "../../lib/device.js";
import { scale } from "../../lib/ops/elementwise.js";
import { zeros } from "../../lib/tensor.js";

const device = openDevice("cpu");

/** Steps that say how often they were recorded, for which rows, and what was given back. */
function counted() {
  const recorded: number[] = [];
  let disposed = 0;
  const x = zeros([4], { device });
  const maker = {
    inputs: () => ({ dispose: () => void disposed++ }),
    run: (_: unknown, rows: number) => {
      recorded.push(rows);
      return [scale(x, 2)];
    },
  };
  return { recorded, disposed: () => disposed, maker, dispose: () => x.dispose() };
}

describe("RecordedSteps", () => {
  it("takes a somewhat larger step until a size has been wanted often", () => {
    const { recorded, maker, disposed, dispose } = counted();
    const { live } = device.memory();
    const steps = new RecordedSteps(device);
    const sizes = [3, 4, 2, 3, 1, 8, 5].map((rows) => steps.take("a", rows, maker).rows);
    expect(sizes).toEqual([4, 4, 4, 4, 1, 8, 8]);
    expect(recorded).toEqual([4, 1, 8]);
    for (let i = 0; i < 20; i++) steps.take("a", 3, maker);
    expect(steps.take("a", 3, maker).rows).toBe(3);
    expect(recorded).toEqual([4, 1, 8, 3]);
    expect(steps.take("a", 100, maker).rows).toBe(104);
    steps.dispose();
    expect(disposed()).toBe(5);
    expect(device.memory().live).toBe(live);
    dispose();
  });

  it("keeps kinds apart, and sizes where they must be exact", () => {
    const { recorded, maker, dispose } = counted();
    const steps = new RecordedSteps(device);
    steps.take("a", 4, maker);
    steps.take("b", 4, maker);
    expect(steps.takeExactly("a", 3, maker).rows).toBe(3);
    expect(recorded).toEqual([4, 4, 3]);
    steps.dispose();
    dispose();
  });

  it("drops those that were not used for longest", () => {
    const { recorded, maker, dispose } = counted();
    const steps = new RecordedSteps(device);
    steps.takeExactly("first", 1, maker);
    steps.takeExactly("second", 1, maker);
    for (let i = 0; i < 255; i++) {
      steps.takeExactly(`other ${i}`, 1, maker);
      steps.takeExactly("first", 1, maker);
    }
    expect(recorded).toHaveLength(257);
    steps.takeExactly("second", 1, maker);
    expect(recorded).toHaveLength(258);
    steps.dispose();
    dispose();
  });
});
