// The other side: plain decoding of the same checkpoint in PyTorch with a static cache, where a Python that has it is named.
import { openDevice } from "../../lib/device.js";
import type { Variant } from "../interleave.js";
import { PythonServer, pythonWithTorch } from "../python.js";
import type { ComputeDType } from "../workload.js";

export interface TheirJob {
  /** The trained model's. */
  readonly folder: string;
  readonly dtype: ComputeDType;
  /** Tokens written after each prompt. */
  readonly length: number;
  readonly ways: readonly ("eager" | "compile")[];
}

export interface Theirs extends Disposable {
  readonly variants: readonly Variant[];
}

/** ours: the tokens that plain decoding wrote after each prompt; theirs must start as they do. */
export async function openTheirs(
  job: TheirJob,
  prompts: readonly Int32Array[],
  ours: readonly (readonly number[])[],
): Promise<Theirs> {
  const path = pythonWithTorch();
  if (path === undefined) return { variants: [], [Symbol.dispose]: () => undefined };
  const server = new PythonServer(path, "decode.py", openDevice().threads);
  const given = prompts.map((prompt) => [...prompt]);
  const { folder, dtype, length } = job;
  const variants: Variant[] = [];
  for (const way of job.ways) {
    await server.request("open", { folder, dtype, length, way });
    const write = (): Promise<{ tokens: number[][]; ms: number }> => server.request("write", { way, prompts: given });
    const { tokens } = await write();
    const parting = tokens.map((each, i) => each.findIndex((token, j) => token !== ours[i]?.[j]));
    // bf16 rounds differently on both sides: a near tie may go the other way, and the texts part from there on.
    const first = Math.min(...parting.map((at) => (at < 0 ? length : at)));
    if (first < 3) throw new Error(`PyTorch (${way}) writes another text from token ${first} on`);
    variants.push({ name: `PyTorch, ${way}`, run: async () => (await write()).ms });
  }
  return { variants, [Symbol.dispose]: () => server[Symbol.dispose]() };
}
