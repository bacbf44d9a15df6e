// The `foretoken` command as a child process, and a small text to train on.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { root } from "../structure/sources.js";

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Called with all of stdout so far whenever there is more. */
  readonly onOutput?: (stdout: string, child: { kill(signal: NodeJS.Signals): boolean; closeOutput(): void }) => void;
  readonly script?: string;
}

/** Runs `foretoken <args>` to its end. */
export function foretoken(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const { cwd = root, env = {}, onOutput, script = "dist/cli/main.js" } = options;
  const child = spawn(process.execPath, [join(root, script), ...args], { cwd, env: { ...process.env, ...env } });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
    onOutput?.(stdout, { kill: (signal) => child.kill(signal), closeOutput: () => child.stdout.destroy() });
  });
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.end();
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, stdout, stderr })));
}

/** The same, with success expected. */
export async function succeeds(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const finished = await foretoken(args, options);
  expect(finished, finished.stderr).toMatchObject({ code: 0 });
  return finished;
}

export interface Event {
  readonly event: string;
  readonly [field: string]: unknown;
}

/** Every line of --json, each of which must be an object with an event's name. */
export function events(stdout: string): Event[] {
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => {
      const parsed = JSON.parse(line) as Event;
      expect(typeof parsed.event).toBe("string");
      return parsed;
    });
}

/** A folder for one file of tests; call `remove` at its end. */
export function workFolder() {
  const folder = mkdtempSync(join(tmpdir(), "foretoken-cli-"));
  return {
    folder,
    path: (name: string): string => join(folder, name),
    write(name: string, content: string | Uint8Array): string {
      writeFileSync(join(folder, name), content);
      return join(folder, name);
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** Lines of code, all different. */
export function sampleText(lines: number): string {
  return Array.from(
    { length: lines },
    (_, i) => `export const value${i} = compute(${(i * 37) % 101}, "name ${i}");\n`,
  ).join("");
}

/** A model that trains in milliseconds. */
export const tinyModel = [
  "--hidden-size",
  "32",
  "--trunk-layers",
  "1",
  "--future-tokens",
  "2",
  "--batch-size",
  "2",
  "--context-length",
  "24",
];
