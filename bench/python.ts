// The other side of a comparison: a Python process that answers one line of JSON with one line of JSON, and rests
// (its threads asleep) while we run.
import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";
import { environment, pythonEnvironment } from "./env.js";

export class PythonFailure extends Error {}

export class PythonServer implements Disposable {
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly lines: Interface;
  private readonly answers: AsyncIterator<string>;
  private errors = "";

  /** script: its name in bench/. */
  constructor(python: string, script: string, threads: number) {
    const path = fileURLToPath(new URL(script, import.meta.url));
    this.child = spawn(python, [path], { env: pythonEnvironment(threads) });
    this.child.stderr.on("data", (text) => (this.errors = (this.errors + String(text)).slice(-4000)));
    this.child.stdin.on("error", () => {}); // a process that died is reported by the answer that does not come
    this.lines = createInterface({ input: this.child.stdout });
    this.answers = this.lines[Symbol.asyncIterator]();
  }

  /** Throws PythonFailure with Python's own message when the request failed or the process died. */
  async request<Answer extends object>(op: string, request: object = {}): Promise<Answer> {
    this.child.stdin.write(`${JSON.stringify({ op, ...request })}\n`);
    const line = await this.answers.next();
    if (line.done) throw new PythonFailure(`the Python process ended:\n${this.errors}`);
    const answer = JSON.parse(line.value) as Answer | { error: string };
    if ("error" in answer) throw new PythonFailure(answer.error);
    return answer;
  }

  [Symbol.dispose](): void {
    this.child.stdin.end();
    this.lines.close();
    this.child.kill();
  }
}

/** Says why nothing is compared with PyTorch, or gives its interpreter. */
export function pythonWithTorch(): string | undefined {
  if (!environment.python) console.log("not compared with PyTorch: FORETOKEN_PYTHON names no Python that has it");
  return environment.python;
}
