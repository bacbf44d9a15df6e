// The flags of `train` that set one field of the model or of the trainer: written once, for parsing, for the config file's
// place and for naming the flag in an error.
import { type Command, Option } from "commander";
import { byteSize, notNegative, positive, wholeNumber } from "./values.js";

interface Flag {
  readonly name: string;
  readonly value: string;
  readonly sets: "model" | "trainer";
  readonly field: string;
  readonly help: string;
  readonly parse?: (text: string) => number;
  readonly choices?: readonly string[];
}

const count = wholeNumber(1);

// prettier-ignore
const flags: readonly Flag[] = [
  { name: "future-tokens", value: "n", sets: "model", field: "futureTokens", parse: count, help: "how many next tokens are predicted at once (default: 4)" },
  { name: "hidden-size", value: "d", sets: "model", field: "hiddenSize", parse: count, help: "width of the model (default: 256)" },
  { name: "trunk-layers", value: "layers", sets: "model", field: "trunkLayers", parse: wholeNumber(0), help: "layers below the heads (default: 4)" },
  { name: "attention-heads", value: "count", sets: "model", field: "numAttentionHeads", parse: count, help: "attention heads per layer (default: one per 64 of the width)" },
  { name: "head-family", value: "family", sets: "model", field: "headFamily", choices: ["parallel", "causal", "anticausal", "linear", "none"], help: "how the prediction heads hang together (default: parallel)" },
  { name: "unembedding", value: "kind", sets: "model", field: "unembedding", choices: ["shared", "replicated"], help: "one unembedding for all heads, or one each (default: shared)" },
  { name: "steps", value: "count", sets: "trainer", field: "steps", parse: count, help: "optimizer steps (default: 1000)" },
  { name: "epochs", value: "count", sets: "trainer", field: "epochs", parse: positive, help: "passes over the data, in place of --steps" },
  { name: "batch-size", value: "rows", sets: "trainer", field: "batchSize", parse: count, help: "rows per micro-batch (default: 8)" },
  { name: "context-length", value: "tokens", sets: "trainer", field: "contextLength", parse: count, help: "tokens per row (default: 256)" },
  { name: "accumulate", value: "count", sets: "trainer", field: "accumulate", parse: count, help: "micro-batches per optimizer step (default: 1)" },
  { name: "learning-rate", value: "rate", sets: "trainer", field: "learningRate", parse: positive, help: "peak learning rate (default: 0.001)" },
  { name: "schedule", value: "shape", sets: "trainer", field: "schedule", choices: ["cosine", "linear", "constant"], help: "the learning rate after warm-up (default: cosine)" },
  { name: "warmup-steps", value: "count", sets: "trainer", field: "warmupSteps", parse: wholeNumber(0), help: "steps to the peak rate (default: 2 % of the steps)" },
  { name: "weight-decay", value: "rate", sets: "trainer", field: "weightDecay", parse: notNegative, help: "decoupled, on matrices (default: 0.1)" },
  { name: "eval-every", value: "steps", sets: "trainer", field: "evalEvery", parse: count, help: "evaluate on held-out data (default: at the end)" },
  { name: "save-every", value: "steps", sets: "trainer", field: "saveEvery", parse: count, help: "save a checkpoint (default: at the end)" },
  { name: "keep", value: "count", sets: "trainer", field: "keep", parse: count, help: "checkpoints that stay (default: 2)" },
  { name: "memory-budget", value: "size", sets: "trainer", field: "memoryBudget", parse: byteSize, help: "refuse to start above it, as 2GB" },
];

export type Settings = Record<string, unknown>;

export function addTrainFlags(command: Command): void {
  for (const { name, value, help, parse, choices } of flags) {
    const option = new Option(`--${name} <${value}>`, help);
    if (choices) option.choices([...choices]);
    if (parse) option.argParser((text) => parse(text));
    command.addOption(option);
  }
}

/** What the flags given on the command line set. `options`: commander's, by the flags' names in camelCase. */
export function givenSettings(options: Settings): { model: Settings; trainer: Settings } {
  const given: { model: Settings; trainer: Settings } = { model: {}, trainer: {} };
  for (const { name, sets, field } of flags) {
    const value = options[camelCase(name)];
    if (value !== undefined) given[sets][field] = value;
  }
  return given;
}

/** `--batch-size` for batchSize. */
export function flagOf(field: string): string | undefined {
  const found = flags.find((flag) => flag.field === field);
  return found && `--${found.name}`;
}

/** The trainer's fields that a run's trainer.json keeps and a resumed run takes over. */
export const keptFields: readonly string[] = [
  ...flags.filter(({ sets, field }) => sets === "trainer" && field !== "epochs").map(({ field }) => field),
  ...["betas", "clipNorm", "headWeights", "evalBatches", "seed"],
];

function camelCase(name: string): string {
  return name.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}
