import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { diskFileSystem } from "../../lib/io/files.js";
import { loadCheckpoint } from "../helpers/io-checkpoint.js";

const saver = fileURLToPath(new URL("../helpers/io-saver.ts", import.meta.url));

/** Resolves at the first line; the returned function tells the last whole line so far. */
async function lastLineOf(child: ChildProcess): Promise<() => string> {
  let text = "";
  await new Promise<void>((resolve, reject) => {
    child.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      resolve();
    });
    child.once("exit", (code) => reject(new Error(`the saver ended with ${code}`)));
  });
  return () => text.split("\n").at(-2) ?? "";
}

test("fifty SIGKILLs while saving: each time the last finished checkpoint or a newer one loads whole", async () => {
  const run = mkdtempSync(join(tmpdir(), "foretoken-kill-"));
  try {
    for (let kill = 0; kill < 50; kill++) {
      const child = spawn(process.execPath, ["--import", "tsx", saver, run], { stdio: ["ignore", "pipe", "inherit"] });
      const lastLine = await lastLineOf(child);
      await sleep((kill * 7) % 41); // ms; a save takes about ten
      const exited = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await exited;
      const { step } = await loadCheckpoint(diskFileSystem, run);
      expect(step).toBeGreaterThanOrEqual(Number(lastLine()));
    }
  } finally {
    rmSync(run, { recursive: true });
  }
});
