// Runs a TypeScript file in a process of its own.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

export interface ChildResult {
  /** Exit code; null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** `script` is relative to test/. A child that has not ended after `limit` ms is killed: its signal is SIGKILL. */
export async function runChild(
  script: string,
  { args = [], env = {}, limit = 50_000 }: { args?: string[]; env?: NodeJS.ProcessEnv; limit?: number } = {},
): Promise<ChildResult> {
  const path = fileURLToPath(new URL(`../${script}`, import.meta.url));
  const child = spawn(process.execPath, ["--import", "tsx", path, ...args], { env: { ...process.env, ...env } });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (data) => (stdout += String(data)));
  child.stderr.on("data", (data) => (stderr += String(data)));
  const timer = setTimeout(() => child.kill("SIGKILL"), limit);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout, stderr });
    });
  });
}
