// Whatever is proposed, the text is that of plain decoding: what speculation.test.ts leaves out.
import { afterAll, describe, it } from "vitest";
import { levels } from "../helpers/levels.js";
import { acceptanceCounts, checkOwnHeads, checkSpoiltDrafts, kinds } from "../helpers/speculation.js";

const lower = levels().slice(0, -1);
const runs = lower.flatMap((simd) => (["f32", "bf16"] as const).map((dtype) => [simd, dtype] as const));

afterAll(() => console.log(String(acceptanceCounts)));

describe.each(kinds.filter(([name]) => name !== "parallel"))("%s heads", (_name, config) => {
  it.each(runs)("%s %s", async (simd, dtype) => {
    for (const temperature of [0, 1.3]) await checkSpoiltDrafts(config, simd, dtype, temperature);
    await checkOwnHeads(config, simd, dtype);
  });
});
