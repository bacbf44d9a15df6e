import { defineConfig } from "vitest/config";

const slow = "test/**/*.slow.test.ts";
const outside = ["test/package/**", "test/arm64/**"];

// Four projects: `unit` is what `npm test` runs, the others have a script each.
export default defineConfig({
  test: {
    // Kernels bring their own threads: one test process for two cores keeps them from waiting for each other.
    maxWorkers: "50%",
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      { extends: true, test: { name: "unit", include: ["test/**/*.test.ts"], exclude: [slow, ...outside] } },
      { extends: true, test: { name: "slow", include: [slow], exclude: outside, testTimeout: 900_000 } },
      { extends: true, test: { name: "package", include: ["test/package/*.test.ts"], testTimeout: 300_000 } },
      { extends: true, test: { name: "arm64", include: ["test/arm64/*.test.ts"], testTimeout: 900_000 } },
    ],
  },
});
