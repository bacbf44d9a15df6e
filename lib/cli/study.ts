// foretoken study: an experiment from data to pictures.
import { join } from "node:path";
import { type Command, Option } from "commander";
import { ForetokenError } from "../errors.js";
import { loadCharts } from "../studies/charts.js";
import { findStudy, studies } from "../studies/index.js";
import { aboutSentence, readable, shortSentence } from "../studies/page.js";
import type { StudyReport } from "../studies/report.js";
import { runStudy, studyFolder, type StudyOptions, type StudyProgress, type StudyStart } from "../studies/runner.js";
import type { Study, StudySize } from "../studies/study.js";
import { addCommonOptions, chosenDevice, type CommonOptions } from "./common.js";
import { formatBytes, formatDuration, formatTable, plural } from "./format.js";
import { describeDevice } from "./gpu.js";
import { Interrupt, interruptedCode } from "./interrupt.js";
import { Output, whenReaderLeaves } from "./output.js";
import { quoted, shortest } from "./run.js";
import { byteSize, wholeNumber } from "./values.js";

interface StudyCommandOptions extends CommonOptions {
  readonly list?: boolean;
  readonly quick?: boolean;
  readonly minute?: boolean;
  readonly long?: boolean;
  readonly seeds?: number;
  readonly out: string;
  readonly memoryBudget?: number;
}

const examples = `
Examples:
  foretoken study --list
  foretoken study progressions --quick
  foretoken study progressions --seeds 5 --out studies
  foretoken study all

Results, pictures and a page go to <out>/<name> (<out>/<name>-quick and so on for the other forms), a gallery of all
studies to <out>/README.md. Ctrl-C keeps every finished cell, and the same command goes on from there.`;

export function registerStudy(program: Command): void {
  const command = program.command("study").description("run an experiment and draw its pictures");
  command
    .argument("[name]", "the study, or all; --list tells which there are")
    .option("--list", "all studies, a line each")
    .addOption(new Option("--quick", "within seconds, too short to judge by").conflicts(["minute", "long"]))
    .addOption(new Option("--minute", "about a minute: a first look").conflicts(["quick", "long"]))
    .addOption(new Option("--long", "up to three hours").conflicts(["quick", "minute"]))
    .option("--seeds <count>", "runs of each configuration (default: the study's own number)", wholeNumber(1))
    .option("--out <dir>", "the folder of all studies", "runs/studies")
    .option("--memory-budget <size>", "bytes that may be used, as 2GB (default: what is free)", byteSize);
  addCommonOptions(command).addHelpText("after", examples);
  command.action(async (name: string | undefined, options: StudyCommandOptions) => {
    process.exitCode = await study(name, options);
  });
}

async function study(name: string | undefined, options: StudyCommandOptions): Promise<number> {
  const output = new Output(options);
  if (options.list) return list(output);
  if (name === undefined) {
    const details = { op: "study", argument: "name", wanted: "a study", got: "none" };
    throw new ForetokenError("BAD_OPTION", { ...details, remedy: "`foretoken study --list` tells which there are." });
  }
  const chosen = name === "all" ? studies : [findStudy(name)];
  const draw = await loadCharts();
  const device = chosenDevice(options);
  using interrupt = new Interrupt(() => output.note("\nStopping: finished cells are kept. Ctrl-C again ends at once."));
  whenReaderLeaves(() => interrupt.abort());
  output.line(`device   ${describeDevice(device)}`);
  try {
    for (const each of chosen) await runOne(output, each, options, { device, draw, signal: interrupt.signal });
    return 0;
  } catch (error) {
    if (!(error instanceof ForetokenError && error.code === "ABORTED")) throw error;
    output.event("interrupted", { message: error.message });
    output.note(error.message);
    return interruptedCode;
  }
}

async function runOne(
  output: Output,
  study: Study,
  options: StudyCommandOptions,
  shared: Pick<StudyOptions, "device" | "draw" | "signal">,
): Promise<void> {
  const { seeds, out, memoryBudget } = options;
  const size = sizeOf(options);
  const report = await runStudy(study, {
    ...{ size, seeds, out, memoryBudget, ...shared },
    onStart: (start) => tellStart(output, study, size, start),
    onCell: (progress) => tellCell(output, progress),
  });
  finish(output, report, studyFolder(out, study.name, size));
}

function sizeOf({ quick, minute, long }: StudyCommandOptions): StudySize {
  return quick ? "quick" : minute ? "minute" : long ? "long" : "full";
}

function list(output: Output): number {
  const width = Math.max(...studies.map(({ name }) => name.length));
  for (const { name, title, question, source } of studies) {
    output.event("study", { name, title, question, source });
    output.result(`${name.padEnd(width)}  ${question}`);
  }
  return 0;
}

function tellStart(output: Output, { name, title }: Study, size: StudySize, start: StudyStart): void {
  const { cells, finished, seeds, peakBytes, folder } = start;
  output.event("start", { study: name, size, ...start });
  output.line(`study    ${title}, ${size} form`);
  output.line(
    `cells    ${cells} with ${plural(seeds, "seed")} each${finished > 0 ? `, ${finished} finished before` : ""}`,
  );
  output.line(`memory   ${formatBytes(peakBytes)} predicted for the largest`);
  output.line(`saved    ${folder}`);
  output.line();
}

function tellCell(output: Output, progress: StudyProgress): void {
  const { done, cells, label, seconds, secondsLeft } = progress;
  output.event("cell", progress);
  output.line(
    `${String(done).padStart(String(cells).length)}/${cells}  ${label}: ${seconds.toFixed(1)} s, ${formatDuration(secondsLeft)} left`,
  );
}

function finish(output: Output, report: StudyReport, folder: string): void {
  const { cells: _, figures, ...said } = report;
  output.event("done", { ...said, figures: figures.map(({ name }) => name), folder });
  output.line();
  for (const { title, columns, rows } of report.tables) {
    output.line(title);
    output.line(formatTable([columns, ...rows.map((row) => row.map(readable))]));
    output.line();
  }
  const short = shortSentence(report);
  if (short) output.result(short);
  output.result(report.verdict);
  for (const finding of report.findings) output.line(finding);
  output.line();
  output.line(aboutSentence(report));
  output.line(`pictures ${quoted(shortest(process.cwd(), join(folder, "index.html")))}`);
}
