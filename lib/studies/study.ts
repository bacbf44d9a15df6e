// What a study is: configurations, what one cell (a configuration at a seed) measures, and what all of them say.
import type { Device } from "../device.js";
import type { Chart } from "./style.js";

/**
 * quick: within 10 s on two cores, for tests; minute: a first look; full: the one to be believed, about 40 minutes at the
 * most; long: up to three hours.
 */
export const studySizes = ["quick", "minute", "full", "long"] as const;
export type StudySize = (typeof studySizes)[number];

export interface Cell<Settings> {
  readonly settings: Settings;
  /** From 1. */
  readonly seed: number;
}

export interface CellResult<Settings, Result> extends Cell<Settings> {
  readonly result: Result;
}

/** What a configuration will take, known before anything runs. */
export interface CellPlan {
  /** Bytes on the device at the highest point. */
  readonly peakBytes: number;
  readonly parameters: number;
  /** Tokens that it is trained on. */
  readonly tokens: number;
}

export interface CellContext {
  readonly device: Device;
  readonly signal?: AbortSignal | undefined;
}

/** Columns of text and numbers. */
export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | number | null)[])[];
}

export interface Figure {
  /** Of its files. */
  readonly name: string;
  readonly title: string;
  /** What is drawn, how many seeds, what the bands are. */
  readonly caption: string;
  readonly chart: Chart;
}

export interface Summary {
  /** A sentence: what was and what was not seen at this size. */
  readonly verdict: string;
  /** More sentences. */
  readonly findings: readonly string[];
  readonly tables: readonly Table[];
  readonly figures: readonly Figure[];
}

/** Settings and Result are plain JSON: a finished cell is a file. */
export interface Study<Settings extends object = object, Result extends object = object> {
  readonly name: string;
  readonly title: string;
  /** The question, in a line. */
  readonly question: string;
  /** Where it comes from: arXiv id and section. */
  readonly source: string;
  /** Goes up when `runCell` measures something else, so that older cells are not taken for it. */
  readonly revision: number;
  /** Whether its models learn something: else how many tokens they read says nothing. Default true. */
  readonly learns?: boolean | undefined;
  readonly seeds: Readonly<Record<StudySize, number>>;
  configurations(size: StudySize): readonly Settings[];
  /** A configuration in a few words. */
  describe(settings: Settings): string;
  plan(settings: Settings, device: Device): CellPlan;
  /** Rejects with ABORTED when the signal comes. */
  runCell(cell: Cell<Settings>, context: CellContext): Promise<Result>;
  /** What results.json keeps of a long result; the cell's own file has all of it. Default: everything. */
  abridge?(result: Result): object;
  summarise(results: readonly CellResult<Settings, Result>[]): Summary;
}
