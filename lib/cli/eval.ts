// foretoken eval: what each head of a model is worth on a text.
import type { Command } from "commander";
import { fitTree } from "../decode/fit.js";
import { ForetokenError } from "../errors.js";
import type { Dataset } from "../io/dataset.js";
import { evaluate } from "../train/evaluate.js";
import {
  addCommonOptions,
  chosenDevice,
  type CommonOptions,
  type ComputeType,
  dtypeOption,
  loadModel,
} from "./common.js";
import { defaultEvalFraction, readData, savedData } from "./data.js";
import { formatCount } from "./format.js";
import { Output, whenReaderLeaves } from "./output.js";
import { bitsOf, headTable } from "./report.js";
import { saveTree, treeTable } from "./tree.js";
import { share, wholeNumber } from "./values.js";

interface EvalOptions extends CommonOptions {
  readonly data?: readonly string[];
  readonly split?: true | number;
  readonly batchSize?: number;
  readonly contextLength?: number;
  readonly fitTree?: true | number;
  readonly dtype?: ComputeType;
}

const examples = `
Examples:
  foretoken eval runs/code                       the text that the run held out
  foretoken eval runs/code --data test           another text
  foretoken eval runs/code --fit-tree            and which tree of drafts suits its heads, for generate --tree
  foretoken eval runs/code --data src --split    the tenth of src that \`train --data src\` holds out`;

export function registerEval(program: Command): void {
  const command = program.command("eval").description("per head: loss, bits per byte, accuracy, acceptance");
  command
    .argument("<dir>", "a run's folder, or a checkpoint's")
    .option("--data <paths...>", "files, folders, globs (default: what the run held out)")
    .option("--split [fraction]", "only the share of --data that `train` holds out (0.1 unless given)", share)
    .option("--batch-size <rows>", "rows at once (default: 8)", wholeNumber(1))
    .option("--context-length <tokens>", "tokens per row (default: the model's)", wholeNumber(1))
    .option(
      "--fit-tree [nodes]",
      "find the best tree of drafts, of 32 nodes unless given; kept in <dir>",
      wholeNumber(1),
    )
    .addOption(dtypeOption("what is computed in (default: as it was trained)"));
  addCommonOptions(command).addHelpText("after", examples);
  command.action(runEval);
}

async function runEval(folder: string, options: EvalOptions): Promise<void> {
  const output = new Output(options);
  whenReaderLeaves(() => process.exit(0));
  const device = chosenDevice(options);
  using model = await loadModel(folder, device, options.dtype);
  const data = await chosenData(folder, options);
  const { batchSize, contextLength } = options;
  const metrics = await evaluate(model, data, { batchSize, contextLength });
  output.event("eval", { ...metrics, bitsPerByte: metrics.losses.map(bitsOf), documents: data.documentCount });
  output.line(`${formatCount(metrics.tokens)} tokens of ${formatCount(data.documentCount)} documents`);
  output.result(headTable(metrics));
  if (options.fitTree === undefined) return;
  const nodes = options.fitTree === true ? undefined : options.fitTree;
  const fitted = await fitTree(model, data, { nodes, batchSize, contextLength });
  const path = await saveTree(folder, fitted);
  output.event("tree", { ...fitted, path });
  output.result(`\n${treeTable(fitted)}\nThe tree is in ${path}: generate --tree drafts with it.`);
}

async function chosenData(folder: string, { data, split }: EvalOptions): Promise<Dataset> {
  const fraction = split === true ? defaultEvalFraction : split;
  if (data) {
    const read = readData({ paths: data, from: process.cwd(), evalFraction: fraction ?? 0 });
    return read.eval ?? read.all;
  }
  const kept = await savedData(folder);
  const heldOut = kept && readData(kept).eval;
  if (heldOut) return heldOut;
  const remedy = "The folder does not say what its run held out.";
  throw new ForetokenError("BAD_OPTION", {
    op: "eval",
    argument: "--data",
    wanted: "files, folders or globs",
    got: "none",
    remedy,
  });
}
