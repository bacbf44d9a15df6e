// The plain files of a run's folder: trainer.json and metrics.jsonl.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { diskFileSystem, makeFolder } from "../io/files.js";
import { saveFileAtomically, saving } from "../io/save.js";

/** Appends one JSON line per step to metrics.jsonl. */
export class RunLog {
  private constructor(private readonly path: string) {}

  /**
   * Begins the log of a run, or goes on behind `step`: later lines, of steps that are taken again, are dropped. Throws
   * SAVE_FAILED, as `append` does.
   */
  static async open(run: string, settings: object, step: number): Promise<RunLog> {
    await saving(run, () => makeFolder(diskFileSystem, run));
    await saveFileAtomically(diskFileSystem, join(run, "trainer.json"), `${JSON.stringify(settings, null, 2)}\n`);
    const path = join(run, "metrics.jsonl");
    const kept = step === 0 ? [] : (await linesOf(path)).filter((line) => stepOf(line) <= step);
    await saveFileAtomically(diskFileSystem, path, kept.map((line) => `${line}\n`).join(""));
    return new RunLog(path);
  }

  async append(metrics: object): Promise<void> {
    const line = new TextEncoder().encode(`${JSON.stringify(metrics)}\n`);
    await saving(this.path, () => diskFileSystem.append(this.path, line));
  }
}

async function linesOf(path: string): Promise<string[]> {
  const text = await readFile(path, "utf8").catch(() => "");
  return text.split("\n").filter((line) => line !== "");
}

/** A line that a crash cut off counts as never written. */
function stepOf(line: string): number {
  try {
    const parsed: unknown = JSON.parse(line);
    return typeof parsed === "object" && parsed !== null && "step" in parsed ? Number(parsed.step) : Infinity;
  } catch {
    return Infinity;
  }
}
