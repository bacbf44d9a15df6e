#!/usr/bin/env node
// The `foretoken` command. Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted (what is done is saved then).
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { registerDoctor } from "./doctor.js";
import { registerEval } from "./eval.js";
import { exitCodeOf, tellError } from "./failure.js";
import { registerGenerate } from "./generate.js";
import { whenReaderLeaves } from "./output.js";
import { registerStudy } from "./study.js";
import { registerTrain } from "./train.js";

const examples = `
Examples:
  foretoken train --data src --out runs/code
  foretoken eval runs/code
  foretoken generate runs/code --prompt "export function "
  foretoken study progressions --quick
  foretoken doctor

A <dir> is a run's folder (its latest checkpoint is meant) or a checkpoint's.
\`foretoken <command> --help\` tells a command's options.`;

function version(): string {
  const file = new URL("../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

function createProgram(): Command {
  const program = new Command("foretoken");
  program
    .description("Train language models that predict several tokens at once, and decode with them.")
    .version(version())
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, `foretoken${named()}: `)) });
  for (const register of [registerTrain, registerEval, registerGenerate, registerStudy, registerDoctor])
    register(program);
  return program.addHelpText("after", examples);
}

/** The command in the arguments, for the beginning of an error. */
function named(): string {
  const command = process.argv[2] ?? "";
  return program.commands.some((each) => each.name() === command) ? ` ${command}` : "";
}

whenReaderLeaves(() => process.exit(0));
const program = createProgram();
try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else {
    tellError(`foretoken${named()}`, error, process.argv.includes("--json"));
    process.exitCode = exitCodeOf(error);
  }
}
