// npm run bench                          lists the questions
// npm run bench -- step loss [options]   answers these; "all" answers every one
import { parseArgs } from "node:util";
import { benches } from "./benches.js";
import { circumstances, printFinding, saveFindings, type Finding } from "./report.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string" },
    save: { type: "boolean", default: false },
    smoke: { type: "boolean", default: false },
    trace: { type: "boolean", default: false },
  },
});

function usage(): string {
  const names = Object.entries(benches).map(([name, { question }]) => `  ${name.padEnd(10)}${question}`);
  return [
    "npm run bench -- <name…|all> [--rounds N] [--save] [--trace] [--smoke]",
    "",
    ...names,
    "",
    "  --rounds N  rounds of each comparison (default 9)",
    "  --save      keep the figures in bench/results/",
    "  --trace     step: where the time goes, kernel by kernel",
    "  --smoke     tiny sizes, to see that the benches work",
    "",
    "With FORETOKEN_PYTHON naming a Python that has PyTorch, loss and step are compared with it in the same run.",
  ].join("\n");
}

const chosen = positionals.includes("all") ? Object.keys(benches) : positionals;
const unknown = chosen.find((name) => !(name in benches));
const rounds = values.rounds === undefined ? 9 : Number(values.rounds);

if (chosen.length === 0) {
  console.log(usage());
} else if (unknown !== undefined || !Number.isInteger(rounds) || rounds < 1) {
  console.error(`${unknown === undefined ? `--rounds ${values.rounds}` : `bench ${unknown}`}: not known\n\n${usage()}`);
  process.exitCode = 1;
} else {
  const { machine, level, threads, node, commit, date } = circumstances();
  console.log(`${machine}, ${level}, ${threads} threads, Node ${node}, commit ${commit}, ${date}`);
  for (const name of chosen) await answer(name);
}

async function answer(name: string): Promise<void> {
  const bench = benches[name];
  if (!bench) return;
  console.log(`\n== ${name}: ${bench.question}`);
  const { smoke, trace, save } = values;
  const findings: Finding[] = [];
  for await (const finding of bench.run({ smoke, trace, rounds: smoke ? 1 : rounds })) {
    printFinding(finding);
    findings.push(finding);
  }
  if (save) console.log(`\nsaved ${saveFindings(trace ? `${name}-trace` : name, findings)}`);
}
