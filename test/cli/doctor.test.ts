// doctor: what it finds is what the library uses, and its self-test can fail.
import { expect, test } from "vitest";
import { difference } from "../../lib/cli/self-test.js";
import { native } from "../../lib/native.js";
import { levels, onGpu } from "../helpers/levels.js";
import { read } from "../structure/sources.js";
import { events, foretoken, succeeds } from "./command.js";

interface Report {
  readonly levels: string[];
  readonly chosen: string;
  readonly ok: boolean;
  readonly advice: string[];
  readonly selfTest: { level: string; dtype: string; tested: number; failures: string[] }[];
}

const device = onGpu ? "cuda" : "cpu";

/** Every kernel of the contract, and one training. */
const testsPerLevel = [...read("lib/native.generated.d.ts").matchAll(/^ {2}\w+\(/gm)].length + 1;

test("every kernel is right on the GPU and at every level that this processor can run, in both dtypes", async () => {
  const [report] = events((await succeeds(["doctor", "--device", device, "--json"])).stdout) as unknown as [Report];
  expect(report.ok).toBe(true);
  expect(report.levels).toContain(report.chosen);
  const compared = [...report.levels.filter((level) => level !== "generic"), ...(onGpu ? levels() : [])];
  const wanted = compared.flatMap((level) => [`${level} f32`, `${level} bf16`]);
  expect(report.selfTest.map(({ level, dtype }) => `${level} ${dtype}`).sort()).toEqual(wanted.sort());
  for (const { tested, failures } of report.selfTest) {
    expect(tested).toBe(testsPerLevel);
    expect(failures).toEqual([]);
  }
});

test("says it in plain words, and what to do", async () => {
  const { stdout } = await succeeds(["doctor", "--device", "cpu", "--simd", "generic"]);
  for (const word of ["processor", "threads", "memory", "node", "because you asked for it"]) {
    expect(stdout).toContain(word);
  }
  expect(stdout).toMatch(/- .*foretoken train/);
});

test("names the GPUs, or says why none can be used", async () => {
  const { stdout } = await succeeds(["doctor", "--device", "cpu", "--simd", "generic"]);
  const { built, gpus, remedy } = native().gpus();
  if (!built) expect(stdout).toContain("this build has no CUDA backend");
  else if (gpus.length === 0) expect(stdout).toMatch(/^gpu {8}(?!.*no CUDA backend).+$/m);
  for (const { index, name, capability } of gpus)
    expect(stdout).toContain(`gpu ${index}      ${name}, compute capability ${capability}`);
  expect(stdout).toContain(remedy);
});

test("FORETOKEN_SIMD is obeyed and shown", async () => {
  const { stdout } = await foretoken(["doctor", "--device", "cpu", "--json"], {
    env: { FORETOKEN_SIMD: "generic", FORETOKEN_THREADS: "1" },
  });
  expect(events(stdout)[0]).toMatchObject({ chosen: "generic", threads: 1 });
});

test.each<[string, number[][], string | undefined]>([
  ["equal values", [[1, 2], [3]], undefined],
  ["a difference within rounding", [[1, 2.00001], [3]], undefined],
  ["a difference beyond it", [[1, 2.001], [3]], "differs by 5.0e-4"],
  ["not a number", [[1, NaN], [3]], "differs by"],
  ["a missing output", [[1, 2]], "differs by"],
])("the self-test on %s", (_, got, wanted) => {
  const found = difference("op", got, [[1, 2], [3]], "f32");
  if (wanted === undefined) expect(found).toBeUndefined();
  else expect(found).toContain(wanted);
});
