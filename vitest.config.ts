import { defineConfig } from "vitest/config";

const slow = "test/**/*.slow.test.ts";
const outside = ["test/package/**", "test/arm64/**", "test/gpu/**"];

// What computes on the device under test. The rest of `unit` is about files, text and the CPU alone; so is, of these
// folders, what is about settings, numbers of JavaScript's and the CPU's threads.
const tests = (paths: string[]): string[] => paths.map((path) => `test/${path}{/**/*,}.test.ts`);
const onGpu = tests(["gpu", "ops", "runtime", "mtp", "train", "decode"]);
const notOnGpu = tests(["mtp/config", "train/schedule", "train/threads", "decode/view"]);
// Thousands of steps of one token: minutes for a software GPU, which takes the same kinds of steps in gpu/decode.
const inSoftware = /\bptx\b/.test(process.env["FORETOKEN_ADDON"] ?? "");
const decoding = ["acceptance", "batch", "beam", "drafts", "speculation", "tree"].map((name) => `decode/${name}`);
const tooLong = inSoftware ? tests(decoding) : [];

// Five projects: `unit` is what `npm test` runs and `gpu` what it runs with DEVICE=ptx or cuda; the others have a script
// each.
export default defineConfig({
  test: {
    // Kernels bring their own threads: one test process for two cores keeps them from waiting for each other.
    maxWorkers: "50%",
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      { extends: true, test: { name: "unit", include: ["test/**/*.test.ts"], exclude: [slow, ...outside] } },
      // The software GPU runs each process on one core.
      {
        extends: true,
        test: {
          name: "gpu",
          include: onGpu,
          exclude: [slow, ...notOnGpu, ...tooLong],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          maxWorkers: 2,
        },
      },
      { extends: true, test: { name: "slow", include: [slow], exclude: outside, testTimeout: 900_000 } },
      { extends: true, test: { name: "package", include: ["test/package/*.test.ts"], testTimeout: 300_000 } },
      { extends: true, test: { name: "arm64", include: ["test/arm64/*.test.ts"], testTimeout: 900_000 } },
    ],
  },
});
