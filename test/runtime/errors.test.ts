import { describe, expect, it } from "vitest";
import { ForetokenError, checkOptions, dtypeMismatch, nearestName, shapeMismatch } from "../../lib/errors.js";

describe("ForetokenError", () => {
  it("says op, argument, wanted and got", () => {
    const error = shapeMismatch("rms_norm", "weight", [512], [256]);
    expect(error.message).toBe("[rms_norm] weight: expected shape (512), got (256)");
    expect(error).toMatchObject({ code: "SHAPE_MISMATCH", op: "rms_norm", argument: "weight", got: "(256)" });
    expect(error).toBeInstanceOf(Error);
    expect(dtypeMismatch("linear", "x", ["f32", "bf16"], "i32").message).toBe(
      "[linear] x: expected f32 or bf16, got i32",
    );
  });

  it("adds text and remedy where there are any, and leaves out what is missing", () => {
    const text = new ForetokenError("BAD_DATA", "a zero byte", { argument: "a.bin", remedy: "Leave binaries out." });
    expect(text.message).toBe("a.bin: a zero byte. Leave binaries out.");
    expect(new ForetokenError("ABORTED", "stopped").message).toBe("stopped");
    expect(new ForetokenError("BAD_OPTION", "odd", { wanted: "a", got: "b" }).message).toBe("odd: expected a, got b");
  });

  it("carries its cause", () => {
    const cause = new Error("disk");
    expect(new ForetokenError("SAVE_FAILED", { op: "save", cause }).cause).toBe(cause);
    expect("cause" in new ForetokenError("ABORTED", "stopped")).toBe(false);
  });
});

describe("nearestName", () => {
  const known = ["batchSize", "learningRate", "steps", "evalEvery"];

  it.each([
    ["learning_rate", "learningRate"], // another spelling
    ["bathSize", "batchSize"], // a letter missing
    ["STEPS", "steps"], // case
  ])("finds %s → %s", (name, wanted) => {
    expect(nearestName(name, known)).toBe(wanted);
  });

  it("suggests nothing when nothing is near, or known", () => {
    expect(nearestName("zzzzqqqq", known)).toBeUndefined();
    expect(nearestName("steps", [])).toBeUndefined();
  });

  it("is named by the error about an unknown option", () => {
    expect(() => checkOptions("Trainer", { batchSize: 1 }, known)).not.toThrow();
    const unknown = (): void => checkOptions("Trainer", { bathSize: 1 }, known);
    expect(unknown).toThrow(expect.objectContaining({ code: "BAD_OPTION" }));
    expect(unknown).toThrow(/Did you mean "batchSize"\?/);
  });
});
