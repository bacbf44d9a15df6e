import { describe, expect, it } from "vitest";
import { runChild } from "../helpers/child.js";
import { levels } from "../helpers/levels.js";

describe("training and text are the same bits for any number of threads", () => {
  it.each(levels())("%s", async (simd) => {
    const digest = async (threads: string, dtype: string): Promise<string> => {
      const { stdout, stderr } = await runChild("train/children/digest.ts", {
        args: [dtype],
        env: { FORETOKEN_THREADS: threads, FORETOKEN_SIMD: simd },
      });
      expect(stderr).toBe("");
      return stdout;
    };
    for (const dtype of ["f32", "bf16"]) {
      const one = await digest("1", dtype);
      expect(one).toMatch(new RegExp(`^${simd} [0-9a-f]{64}`));
      expect(await digest("2", dtype)).toBe(one);
      expect(await digest("5", dtype)).toBe(one);
    }
  });
});
