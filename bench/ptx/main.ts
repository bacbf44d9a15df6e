// npm run bench:ptx [-- --card sm_80] [--save] [name…]: what does each CUDA kernel do, counted by the software GPU, and
// how long should that take on an A100 and an H100, modelled?
import { existsSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { environment } from "../env.js";
import { commit } from "../report.js";
import { execute, type Executions } from "./execute.js";
import { figuresOf } from "./figures.js";
import { cards, type CardName } from "./model.js";
import { asText, tablesOf } from "./tables.js";
import { workloads } from "./workloads.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { card: { type: "string" }, save: { type: "boolean", default: false } },
});
const addon = environment.addon ?? fileURLToPath(new URL("../../build/ptx/foretoken.node", import.meta.url));
const chosen = positionals.length === 0 ? workloads : workloads.filter(({ name }) => positionals.includes(name));
const isCard = (name: string): name is CardName => name in cards;

function complaint(): string | undefined {
  const { card } = values;
  if (card !== undefined && !isCard(card)) return `--card ${card}: wanted ${Object.keys(cards).join(" or ")}`;
  const unknown = positionals.find((name) => !workloads.some((each) => each.name === name));
  if (unknown !== undefined)
    return `${unknown}: not a workload. There are:\n  ${workloads.map(({ name }) => name).join("\n  ")}`;
  if (!existsSync(addon))
    return `${addon} is missing: build the software GPU with npm run build:ptx (it needs npm run cuda:toolkit once)`;
  return undefined;
}

function answer(card: CardName, executions: Executions): void {
  const figures = figuresOf(card, executions);
  const heading = `Commit ${commit()}. Counts are exact; times are modelled (bench/ptx/model.ts), not measured.`;
  const text = `${card} (${cards[card].name}). ${heading}\n\n${asText(tablesOf(card, figures))}\n`;
  console.log(text);
  if (!values.save) return;
  const path = fileURLToPath(new URL(`../results/ptx-${card}`, import.meta.url));
  const saved = { bench: "ptx", card, commit: commit(), times: "modelled, not measured", model: cards[card], figures };
  writeFileSync(`${path}.json`, `${JSON.stringify(saved, null, 2)}\n`);
  writeFileSync(`${path}.txt`, text);
  console.log(`saved ${path}.json and .txt\n`);
}

const wrong = complaint();
if (wrong === undefined) {
  const asked = Object.keys(cards).filter((card) => isCard(card) && (values.card ?? card) === card) as CardName[];
  // A process on one core for each, at the same time.
  const executions = await Promise.all(asked.map((card) => execute(card, chosen, addon, { halves: true })));
  for (const [i, card] of asked.entries()) answer(card, executions[i] as Executions);
} else {
  console.error(wrong);
  process.exitCode = 1;
}
