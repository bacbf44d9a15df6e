import { defineConfig } from "vitest/config";

const slow = "test/**/*.slow.test.ts";
const outside = ["test/package/**", "test/arm64/**", "test/gpu/**"];

// What computes on the device under test. The rest of `unit` is about files, text and the CPU alone.
const onGpu = ["gpu", "ops", "runtime", "mtp/golden", "mtp/sequential"].map((path) => `test/${path}{/**/*,}.test.ts`);

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
      { extends: true, test: { name: "gpu", include: onGpu, exclude: [slow], testTimeout: 300_000, maxWorkers: 2 } },
      { extends: true, test: { name: "slow", include: [slow], exclude: outside, testTimeout: 900_000 } },
      { extends: true, test: { name: "package", include: ["test/package/*.test.ts"], testTimeout: 300_000 } },
      { extends: true, test: { name: "arm64", include: ["test/arm64/*.test.ts"], testTimeout: 900_000 } },
    ],
  },
});
