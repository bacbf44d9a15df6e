// Runs a study: plans every cell before the first begins, leaves out what is finished, keeps each cell as it ends.
import { join } from "node:path";
import type { Device } from "../device.js";
import { ForetokenError } from "../errors.js";
import type { Draw } from "./charts.js";
import { circumstances, packageVersion } from "./circumstances.js";
import { saveReport, type StudyReport } from "./report.js";
import { CellStore, type CellKey, type StoredCell } from "./store.js";
import type { Cell, CellPlan, Study, StudySize } from "./study.js";

export interface StudyOptions {
  readonly size: StudySize;
  /** Default: the study's number for the size. */
  readonly seeds?: number | undefined;
  /** The folder of all studies; this one's is within it. */
  readonly out: string;
  readonly device: Device;
  /** From `loadCharts`. */
  readonly draw: Draw;
  /** Bytes that a cell may take. Default: what is free on a CPU's machine; on a GPU its own limit. */
  readonly memoryBudget?: number | undefined;
  /** Stops within the cell that runs, which is lost; those before it are kept. */
  readonly signal?: AbortSignal | undefined;
  readonly onStart?: ((start: StudyStart) => void) | undefined;
  readonly onCell?: ((progress: StudyProgress) => void) | undefined;
}

export interface StudyStart {
  readonly folder: string;
  readonly cells: number;
  /** Of these, finished by an earlier run. */
  readonly finished: number;
  readonly seeds: number;
  /** Of the largest cell. */
  readonly peakBytes: number;
}

export interface StudyProgress {
  readonly done: number;
  readonly cells: number;
  /** The cell that has just ended. */
  readonly label: string;
  readonly seconds: number;
  /** Of all cells to come, from the work that each holds and the pace so far. */
  readonly secondsLeft: number;
}

/** A run with fewer training tokens per parameter says nothing of the method. */
export const tokensPerParameterToJudge = 20;

/** The folder of one study's results; the smaller sizes have their own, so that they never replace the full one. */
export function studyFolder(out: string, name: string, size: StudySize): string {
  return join(out, size === "full" ? name : `${name}-${size}`);
}

/**
 * Runs what is not finished yet, then writes results.json, figures, index.html and the gallery of all studies in `out`.
 * Throws MEMORY_BUDGET before anything runs, ABORTED with all finished cells kept, SAVE_FAILED.
 */
export async function runStudy(study: Study, options: StudyOptions): Promise<StudyReport> {
  const { size, out, device, signal } = options;
  const folder = studyFolder(out, study.name, size);
  const seeds = options.seeds ?? study.seeds[size];
  const planned = plan(study, options);
  const store = new CellStore(join(folder, "cells"));
  const cells = everyCell(planned, seeds);
  const stored = new Map<object, StoredCell>();
  for (const { cell } of cells) {
    const found = await store.read(keyOf(study, device, cell));
    if (found) stored.set(cell, found);
  }
  const peakBytes = Math.max(...planned.map(({ plan }) => plan.peakBytes));
  options.onStart?.({ folder, cells: cells.length, finished: stored.size, seeds, peakBytes });

  const pace = new Pace(cells.filter(({ cell }) => !stored.has(cell)).map(({ plan }) => workOf(plan)));
  for (const { cell, plan } of cells) {
    if (stored.has(cell)) continue;
    const label = `${study.describe(cell.settings)}, seed ${cell.seed}`;
    if (signal?.aborted) throw stopped(stored.size, cells.length);
    const began = performance.now();
    const result = await study.runCell(cell, { device, signal }).catch((error: unknown) => {
      throw isAborted(error) ? stopped(stored.size, cells.length) : error;
    });
    const seconds = (performance.now() - began) / 1000;
    const finished = { ...keyOf(study, device, cell), seconds, result };
    await store.write(finished);
    stored.set(cell, finished);
    pace.add(workOf(plan), seconds);
    const { secondsLeft } = pace;
    options.onCell?.({ done: stored.size, cells: cells.length, label, seconds, secondsLeft });
  }
  const results = cells.flatMap(({ cell }) => stored.get(cell) ?? []);
  return await report(study, options, { folder, seeds, planned, results });
}

interface Planned {
  readonly settings: object;
  readonly plan: CellPlan;
}

/** What each configuration takes. Throws MEMORY_BUDGET for the first that does not fit. */
function plan(study: Study, { size, device, memoryBudget }: StudyOptions): Planned[] {
  const budget = memoryBudget ?? (device.kind === "cuda" ? Infinity : process.availableMemory());
  return study.configurations(size).map((settings) => {
    const plan = study.plan(settings, device);
    if (plan.peakBytes > budget) {
      throw new ForetokenError("MEMORY_BUDGET", {
        op: "study",
        argument: `${study.name}, ${study.describe(settings)}`,
        wanted: `at most ${budget} bytes`,
        got: `${plan.peakBytes} bytes predicted`,
        remedy: "Take a smaller size of the study, or a machine with more memory.",
      });
    }
    return { settings, plan };
  });
}

/** Seed by seed, so that an interrupted run has compared all configurations at the seeds it has. */
function everyCell(planned: readonly Planned[], seeds: number): { cell: Cell<object>; plan: CellPlan }[] {
  return Array.from({ length: seeds }, (_, i) => i + 1).flatMap((seed) =>
    planned.map(({ settings, plan }) => ({ cell: { settings, seed }, plan })),
  );
}

function keyOf({ name, revision }: Study, { simd }: Device, { settings, seed }: Cell<object>): CellKey {
  return { study: name, revision, version: packageVersion(), simd, settings, seed };
}

async function report(
  study: Study,
  { size, out, device, draw }: StudyOptions,
  run: { folder: string; seeds: number; planned: readonly Planned[]; results: readonly StoredCell[] },
): Promise<StudyReport> {
  const { name, title, question, source } = study;
  const summary = study.summarise(run.results.map(({ settings, seed, result }) => ({ settings, seed, result })));
  const tooShort = run.planned
    .filter(({ plan }) => study.learns !== false && plan.tokens < tokensPerParameterToJudge * plan.parameters)
    .map(({ settings, plan }) => ({
      label: study.describe(settings),
      tokensPerParameter: plan.tokens / plan.parameters,
    }));
  const seconds = run.results.reduce((sum, cell) => sum + cell.seconds, 0);
  const about = { name, title, question, source, size, seeds: run.seeds, seconds, ...circumstances(device) };
  const cells = run.results.map((cell) => ({ ...cell, result: study.abridge?.(cell.result) ?? cell.result }));
  const made: StudyReport = { ...about, ...summary, tooShort, cells };
  await saveReport(out, run.folder, made, draw);
  return made;
}

/** Operations of a training grow with both. */
const workOf = ({ tokens, parameters }: CellPlan): number => tokens * (parameters + 10_000);

/** How long is left, from the work done. */
class Pace {
  private done = 0;
  private seconds = 0;
  private left: number;

  constructor(work: readonly number[]) {
    this.left = work.reduce((sum, each) => sum + each, 0);
  }

  add(work: number, seconds: number): void {
    this.done += work;
    this.left -= work;
    this.seconds += seconds;
  }

  get secondsLeft(): number {
    return this.done > 0 ? (this.left * this.seconds) / this.done : 0;
  }
}

const isAborted = (error: unknown): boolean => error instanceof ForetokenError && error.code === "ABORTED";

function stopped(done: number, cells: number): ForetokenError {
  const remedy = "They are kept: the same command goes on from there.";
  return new ForetokenError("ABORTED", `stopped with ${done} of ${cells} cells finished`, { op: "study", remedy });
}
