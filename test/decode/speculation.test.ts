// Whatever is proposed, the text is that of plain decoding: every family at the machine's best level, every level with one
// family; speculation.slow.test.ts has the rest.
import { afterAll, describe, it } from "vitest";
import { levels } from "../helpers/levels.js";
import { acceptanceCounts, checkOwnHeads, checkSpoiltDrafts, kinds } from "../helpers/speculation.js";

const best = levels().at(-1) ?? "generic";
const dtypes = ["f32", "bf16"] as const;

afterAll(() => console.log(String(acceptanceCounts)));

describe.each(kinds)("%s heads", (name, config) => {
  const here = name === "parallel" ? levels() : [best];
  describe.each(here.flatMap((simd) => dtypes.map((dtype) => [simd, dtype] as const)))("%s %s", (simd, dtype) => {
    it.each([0, 1.3])("drafts that are wrong anywhere, temperature %d", async (temperature) => {
      await checkSpoiltDrafts(config, simd, dtype, temperature);
    });

    it("the model's own heads, at every k", async () => {
      await checkOwnHeads(config, simd, dtype);
    });
  });
});
