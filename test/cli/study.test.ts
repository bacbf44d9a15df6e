// study: from data to pictures with one command, and on from where it was stopped.
import { readdirSync, readFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { studies } from "../../lib/studies/index.js";
import { events, foretoken, succeeds, workFolder } from "./command.js";

const work = workFolder();
afterAll(work.remove);

test("--list tells every study, a line each", async () => {
  const { stdout } = await succeeds(["study", "--list"]);
  const lines = stdout.trimEnd().split("\n");
  expect(lines.map((line) => line.split(/\s/)[0])).toEqual(studies.map(({ name }) => name));
  for (const [i, line] of lines.entries()) expect(line).toContain(studies[i]?.question);
});

test.each<[string, string[], RegExp]>([
  [
    "an unknown study",
    ["progresions"],
    /^foretoken study: \[study\] name: expected one of .*, got progresions\. Did you mean progressions\?\n$/,
  ],
  ["no study", [], /name: expected a study, got none\. `foretoken study --list` tells/],
  ["two forms", ["progressions", "--quick", "--long"], /'--(quick|long)' cannot be used with option '--(quick|long)'/],
])("%s is wrong use", async (_, args, message) => {
  const { code, stderr } = await foretoken(["study", ...args]);
  expect(stderr).toMatch(message);
  expect(code).toBe(2);
});

test("a study too large for the memory given is refused before it runs, by the cell's name", async () => {
  const out = work.path("large");
  const { code, stderr } = await foretoken([
    "study",
    "progressions",
    "--quick",
    "--out",
    out,
    "--memory-budget",
    "1MB",
  ]);
  expect(stderr).toMatch(/progressions, .*n = \d.*: expected at most 1000000 bytes, got \d+ bytes predicted/);
  expect(code).toBe(1);
  expect(() => readdirSync(out)).toThrow();
});

test("progressions --quick: numbers, pictures, page, gallery; stopped, it goes on at the cell it was at", async () => {
  const out = work.path("studies");
  const args = ["study", "progressions", "--quick", "--out", out, "--json"];
  let sent = false;
  const cut = await foretoken(args, {
    onOutput(stdout, child) {
      if (!sent && stdout.split('"event":"cell"').length > 3) sent = child.kill("SIGINT");
    },
  });
  expect(cut.code, cut.stderr).toBe(130);
  expect(cut.stderr).toMatch(
    /stopped with \d+ of 16 cells finished\. They are kept: the same command goes on from there\./,
  );
  const kept = readdirSync(work.path("studies/progressions-quick/cells")).length;
  expect(kept).toBeGreaterThanOrEqual(3);
  expect(kept).toBeLessThan(16);

  const { stdout } = await succeeds(args);
  const said = events(stdout);
  expect(said[0]).toMatchObject({ event: "start", cells: 16, finished: kept, seeds: 2 });
  expect(said.filter(({ event }) => event === "cell")).toHaveLength(16 - kept);
  expect(said.at(-1)).toMatchObject({ event: "done", name: "progressions", size: "quick" });

  const folder = work.path("studies/progressions-quick");
  const results = JSON.parse(readFileSync(`${folder}/results.json`, "utf8")) as {
    cells: object[];
    figures: { name: string }[];
  };
  expect(results.cells).toHaveLength(16);
  const pictures = results.figures.flatMap(({ name }) => [`${name}.png`, `${name}.svg`]);
  expect(readdirSync(`${folder}/figures`)).toEqual(pictures.sort());
  expect(results.figures.map(({ name }) => name)).toContain("sample-efficiency");
  for (const picture of pictures.filter((name) => name.endsWith(".svg")))
    expect(readFileSync(`${folder}/figures/${picture}`, "utf8")).not.toMatch(/NaN|Infinity|undefined/);
  expect(readFileSync(`${folder}/index.html`, "utf8").split("data:image/svg+xml").length - 1).toBe(
    results.figures.length,
  );
  expect(readFileSync(work.path("studies/README.md"), "utf8")).toContain(
    "progressions-quick/figures/sample-efficiency.png",
  );

  const again = await succeeds(["study", "progressions", "--quick", "--out", out]);
  expect(again.stdout).toContain("16 finished before");
  expect(again.stdout).toMatch(/Too short to judge, with under 20 training tokens per parameter: rnn/);
  expect(again.stdout).toMatch(/^RNN: .*\. Transformer: .*$/m);
});

test.each(studies.map(({ name }) => name).filter((name) => name !== "progressions"))("%s --quick", async (name) => {
  const out = work.path("others");
  const { stdout } = await succeeds(["study", name, "--quick", "--out", out]);
  const folder = work.path(`others/${name}-quick`);
  const { figures, verdict } = JSON.parse(readFileSync(`${folder}/results.json`, "utf8")) as {
    figures: { name: string }[];
    verdict: string;
  };
  expect(stdout).toContain(verdict);
  expect(figures.length).toBeGreaterThan(0);
  for (const { name: figure } of figures)
    expect(readFileSync(`${folder}/figures/${figure}.svg`, "utf8")).not.toMatch(/NaN|Infinity|undefined/);
  expect(readFileSync(`${folder}/index.html`, "utf8").split("data:image/svg+xml").length - 1).toBe(figures.length);
});
