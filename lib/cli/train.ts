// foretoken train: a model from text.
import type { Command } from "commander";
import { byteTokenizer } from "../io/tokenizer.js";
import { LanguageModel } from "../mtp/model.js";
import type { StepMetrics } from "../train/metrics.js";
import type { Trainer } from "../train/trainer.js";
import { addCommonOptions, chosenDevice, dtypeOption, fastestDtype } from "./common.js";
import { readData } from "./data.js";
import { formatCount } from "./format.js";
import { Output } from "./output.js";
import { headTable } from "./report.js";
import { memoryLine, nextLines, runTraining, shortest } from "./run.js";
import { addTrainFlags } from "./train-flags.js";
import { planTraining, type TrainCommandOptions } from "./train-plan.js";
import { share, wholeNumber } from "./values.js";

const examples = `
Examples:
  foretoken train --data src --out runs/code
  foretoken train --data "docs/**/*.md" notes.txt --out runs/text --future-tokens 4 --steps 2000
  foretoken train --data src "!**/*.min.js" --out runs/big --config big.json --memory-budget 2GB
  foretoken train --resume --out runs/code

A config file holds {"model": {"hiddenSize": 512, …}, "trainer": {"batchSize": 16, …}}; flags win over it.
Ctrl-C finishes the step, saves, and says how to go on.`;

export function registerTrain(program: Command): void {
  const command = program.command("train").description("train a model that predicts several next tokens at once");
  command
    .option("--data <paths...>", "text to learn from: files, folders, globs (! in front leaves out)")
    .option("--out <dir>", "the run's folder")
    .option("--config <file>", "settings of model and trainer as JSON")
    .option("--resume", "go on from the run's latest checkpoint, with its settings and data")
    .option("--eval-fraction <share>", "share of the text to hold out, whole packages or folders (default: 0.1)", share)
    .option("--seed <number>", "start values and order of the data (default: 0)", wholeNumber(0))
    .addOption(dtypeOption("what is computed in (default: bf16 where the processor has it, else f32)"));
  addTrainFlags(command);
  addCommonOptions(command).addHelpText("after", examples);
  command.action(async (options: TrainCommandOptions) => {
    process.exitCode = await train(options);
  });
}

async function train(options: TrainCommandOptions): Promise<number> {
  const output = new Output(options);
  const started = process.cwd();
  const plan = await planTraining(options);
  const device = chosenDevice(options);
  const data = readData(plan.data);
  using model = LanguageModel.create(plan.model, {
    ...{ device, seed: plan.seed, tokenizer: byteTokenizer() },
    dtype: plan.dtype ?? fastestDtype(device),
  });
  const run = { out: plan.out, model, trainer: plan.trainer, plan: plan.data, data };
  return await runTraining(output, run, (trainer, last) => finish(output, shortest(started, plan.out), trainer, last));
}

function finish(output: Output, out: string, trainer: Trainer, last: StepMetrics): void {
  const { evaluation, checkpoint, settings } = trainer;
  const { step, tokens, peakBytes, predictedPeakBytes } = last;
  output.event("done", { step, tokens, out: settings.out, checkpoint, evaluation, peakBytes, predictedPeakBytes });
  output.line();
  output.line(evaluation ? `On held-out text (${formatCount(evaluation.tokens)} tokens):` : "On the last step's text:");
  output.line(headTable(evaluation ?? last));
  output.line();
  output.line(memoryLine(last));
  output.line(`saved    ${out}`);
  output.line();
  output.line(nextLines(out, "…"));
}
