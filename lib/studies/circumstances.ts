// Where and when figures were taken.
import { execFileSync } from "node:child_process";
import { readFileSync, realpathSync } from "node:fs";
import { totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import type { Device } from "../device.js";

export interface Circumstances {
  /** ISO 8601, UTC. */
  readonly date: string;
  /** Of the package's repository, with a + when its sources differ; null outside of one. */
  readonly commit: string | null;
  readonly version: string;
  readonly machine: {
    readonly processor: string;
    readonly simd: string;
    readonly threads: number;
    readonly memoryBytes: number;
    readonly node: string;
  };
}

const root = fileURLToPath(new URL("../../", import.meta.url));

export function packageVersion(): string {
  return (JSON.parse(readFileSync(`${root}package.json`, "utf8")) as { version: string }).version;
}

export function circumstances({ name, simd, threads }: Device): Circumstances {
  return {
    date: new Date().toISOString(),
    commit: commit(),
    version: packageVersion(),
    machine: { processor: name, simd, threads, memoryBytes: totalmem(), node: process.versions.node },
  };
}

/** Only of a repository that is the package's own: installed, it lies within someone else's. */
function commit(): string | null {
  const git = (...args: string[]): string =>
    execFileSync("git", args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    if (realpathSync(git("rev-parse", "--show-toplevel")) !== realpathSync(root)) return null;
    return git("rev-parse", "--short", "HEAD") + (git("status", "--porcelain", "--", "lib", "native") ? "+" : "");
  } catch {
    return null;
  }
}
