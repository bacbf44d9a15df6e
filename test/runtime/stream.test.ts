import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { openDevice } from "../../lib/device.js";
import { native } from "../../lib/native.js";
import { randn, zeros } from "../../lib/tensor.js";
import { runChild } from "../helpers/child.js";

const device = openDevice();

describe("the stream", () => {
  it("of the CPU lets timers and file reads go on between any two steps", async () => {
    const device = openDevice("cpu");
    using x = zeros([1 << 21], { device });
    const events: string[] = [];
    for (let step = 0; step < 3; step++) {
      for (let i = 0; i < 4; i++) native().randomNormal(x.handle, 0, 1, i, 0);
      const done = device.sync().then(() => events.push("step"));
      await Promise.all([
        sleep(1).then(() => events.push("timer")),
        readFile(fileURLToPath(import.meta.url)).then(() => events.push("file")),
      ]);
      await done;
    }
    for (let step = 0; step < 3; step++) {
      const during = events.slice(3 * step, 3 * step + 3);
      expect(during[2]).toBe("step");
    }
  });

  it("resolves awaits in the order of their ops", async () => {
    using x = zeros([1]);
    const order: number[] = [];
    await Promise.all(
      Array.from({ length: 100 }, (_, i) => (i % 2 ? x.data() : device.sync()).then(() => order.push(i))),
    );
    expect(order).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });

  it("takes more ops than its queue holds", async () => {
    using x = zeros([1]);
    using one = zeros([1]);
    native().fill(one.handle, 1);
    for (let i = 0; i < 5000; i++) native().add(x.handle, one.handle, x.handle);
    expect(await x.item()).toBe(5000);
  });
});

describe("processes", () => {
  it.each(["end", "exit", "throw"])("end while work is queued: by %s", async (how) => {
    const { code, signal, stdout } = await runChild("runtime/children/leave.ts", { args: [how] });
    expect([signal, code, stdout.trim()]).toEqual([null, how === "end" ? 0 : how === "exit" ? 7 : 1, "queued"]);
  });

  it("stay alive while a promise is pending, and no longer", async () => {
    const { code, stdout } = await runChild("runtime/children/pending.ts");
    expect([code, stdout.trim()]).toEqual([0, "3"]);
  });

  it("FORETOKEN_SYNC=1 runs each op before its call returns, with the same results", async () => {
    const run = async (sync: string): Promise<{ written: number; sum: number }> => {
      const { stdout } = await runChild("runtime/children/synchronous.ts", {
        env: { FORETOKEN_DEVICE: "cpu", FORETOKEN_SYNC: sync },
      });
      return JSON.parse(stdout) as { written: number; sum: number };
    };
    const [synchronous, usual] = [await run("1"), await run("0")];
    expect(synchronous.written).toBeGreaterThan(128e6);
    expect(synchronous.sum).toBe(30);
    expect(usual.sum).toBe(30);
  });

  it("results do not depend on the number of threads", async () => {
    const outputs = [];
    for (const threads of ["1", "2", "5"]) {
      const { stdout } = await runChild("runtime/children/digest.ts", { env: { FORETOKEN_THREADS: threads } });
      outputs.push(stdout);
    }
    expect(outputs[0]).toMatch(/^[0-9a-f]{64}/);
    expect(new Set(outputs).size).toBe(1);
  });

  it("say why the addon cannot be loaded and what to do", async () => {
    const { code, stderr } = await runChild("runtime/children/describe.ts", {
      env: { FORETOKEN_ADDON: "/nonexistent" },
    });
    expect(code).toBe(1);
    expect(stderr).toMatch(/NO_ADDON/);
    expect(stderr).toMatch(/npm run build:native/);
  });
});

describe("workers", () => {
  // Node 20 does not take a TypeScript file as a worker's entry, even with tsx: its entry is these few lines.
  const script = JSON.stringify(new URL("./children/worker.ts", import.meta.url));
  const entry = `import("tsx/esm/api").then(({ register }) => (register(), import(${script})));`;
  const start = (work: "forever" | "sum"): Worker => new Worker(entry, { eval: true, workerData: work });
  const message = (worker: Worker): Promise<unknown> =>
    new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));

  it("one terminated in the middle of its work disturbs neither another nor the main thread", async () => {
    using seeds = randn([4096], { seed: 5 });
    const wanted = (await seeds.data()).reduce((sum, value) => sum + value, 0);
    for (let round = 0; round < 3; round++) {
      const doomed = start("forever");
      await message(doomed);
      const steady = start("sum");
      const sum = message(steady);
      await sleep(20);
      await doomed.terminate();
      expect(await sum).toBe(wanted);
      using again = randn([4096], { seed: 5 });
      expect(await again.data()).toEqual(await seeds.data());
      await steady.terminate();
    }
  });

  it("that alone use the addon may come and go, whichever way they end", async () => {
    const { code, signal, stdout, stderr } = await runChild("runtime/children/workers-only.ts");
    expect([signal, code, stderr]).toEqual([null, 0, ""]);
    expect(stdout.trim()).toBe("terminate exit end terminate exit end");
  });
});
