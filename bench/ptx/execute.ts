// Runs workloads in a process that has the software GPU in place of a driver, as one card, and reads what it counted.
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { softwareGpu } from "../env.js";
import type { Lines, Request } from "./child.js";
import { kernelNames, readLaunches, type Launch } from "./launches.js";
import type { CardName } from "./model.js";
import { readResources, type Resources } from "./resources.js";
import { depthsOf, halved, type Workload } from "./workload.js";

/** So many multiprocessors that kernels whose blocks take tile after tile have a block for each: counts are per tile. */
const oneTilePerBlock = 1024;

export interface NamedLaunch extends Launch {
  /** For people. */
  readonly name: string;
}

/** What a workload launched, in order. */
export interface Execution {
  readonly workload: Workload;
  readonly measured: readonly NamedLaunch[];
  /** The same with one letter halved. */
  readonly halves: ReadonlyMap<string, readonly NamedLaunch[]>;
}

export interface Executions {
  readonly resources: Resources;
  readonly all: readonly Execution[];
}

/** The code that a card of that architecture runs. */
export const architectureOf = (card: CardName): string => (card === "sm_90" ? "sm_90a" : card);

/** halves: whether every workload runs with half of each depth as well, as modelled times need it. */
export async function execute(
  card: CardName,
  workloads: readonly Workload[],
  addon: string,
  { halves }: { halves: boolean },
): Promise<Executions> {
  const resources = readResources(addon, architectureOf(card));
  const lettersOf = (workload: Workload): readonly string[] => (halves ? depthsOf(workload) : []);
  const requests = workloads.flatMap((workload): Request[] => {
    const { name, measured } = workload;
    return [measured, ...lettersOf(workload).map((letter) => halved(measured, letter))].map((sizes) => ({
      name,
      sizes,
    }));
  });
  const answers = (await launchesOf(card, requests, addon, resources)).values();
  const next = (): readonly NamedLaunch[] => answers.next().value ?? [];
  const all = workloads.map((workload): Execution => {
    const measured = next();
    return { workload, measured, halves: new Map(lettersOf(workload).map((letter) => [letter, next()])) };
  });
  return { resources, all };
}

/** Of each request. */
async function launchesOf(
  card: CardName,
  requests: readonly Request[],
  addon: string,
  resources: Resources,
): Promise<NamedLaunch[][]> {
  const folder = mkdtempSync(join(tmpdir(), "foretoken-ptx-"));
  try {
    const report = join(folder, "launches.jsonl");
    const child = fileURLToPath(new URL("child.ts", import.meta.url));
    const env = softwareGpu({ addon, card, report, multiprocessors: oneTilePerBlock });
    const given = ["--import", "tsx", child, report, JSON.stringify(requests)];
    const { stdout } = await promisify(execFile)(process.execPath, given, { env });
    const launches = readLaunches(report);
    const named = kernelNames(launches, resources).map((name, i) => ({ ...(launches[i] as Launch), name }));
    return (JSON.parse(stdout) as Lines[]).map((lines) => named.slice(...lines));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
