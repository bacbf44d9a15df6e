// The runner: each cell runs once, whatever interrupts; what does not fit is refused before anything runs.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { openDevice } from "../../lib/device.js";
import { ForetokenError } from "../../lib/errors.js";
import { interval } from "../../lib/studies/statistics.js";
import { runStudy, type StudyOptions, type StudyProgress } from "../../lib/studies/runner.js";
import { cellHash } from "../../lib/studies/store.js";
import type { Study } from "../../lib/studies/study.js";
import { workFolder } from "../cli/command.js";
import { root } from "../structure/sources.js";

interface Settings {
  readonly width: number;
}
interface Result {
  readonly value: number;
}

let ran: string[] = [];
beforeEach(() => (ran = []));
const work = workFolder();
afterAll(work.remove);
let folders = 0;
const freshFolder = (): string => work.path(`out-${folders++}`);

function exampleStudy(change: Partial<Study<Settings, Result>> = {}): Study<Settings, Result> {
  return {
    name: "example",
    title: "An <example>",
    question: "Is it so?",
    source: "nowhere",
    revision: 1,
    seeds: { quick: 2, minute: 2, full: 3, long: 4 },
    configurations: (size) => (size === "quick" ? [{ width: 1 }, { width: 2 }] : [{ width: 1 }, { width: 3 }]),
    describe: ({ width }) => `width ${width}`,
    plan: ({ width }) => ({ peakBytes: 1000 * width, parameters: 10, tokens: width === 2 ? 199 : 200 }),
    runCell({ settings, seed }) {
      ran.push(`${settings.width}:${seed}`);
      return Promise.resolve({ value: settings.width + seed / 10 });
    },
    summarise: (results) => ({
      verdict: `mean ${interval(results.map(({ result }) => result.value)).mean.toFixed(3)}`,
      findings: ["1 < 2"],
      tables: [
        { title: "Values", columns: ["cell", "value"], rows: results.map((r) => [`s${r.seed}`, r.result.value]) },
      ],
      figures: [{ name: "picture", title: "A picture", caption: "What it shows.", chart: {} }],
    }),
    ...change,
  };
}

const draw: StudyOptions["draw"] = () =>
  Promise.resolve({ svg: "<svg>drawn</svg>", png: Uint8Array.of(137, 80, 78, 71) });
const device = openDevice("cpu");
const run = (study: Study, out: string, change: Partial<StudyOptions> = {}) =>
  runStudy(study, { size: "quick", out, device, draw, ...change });

test("runs every configuration at a seed before the next seed, and only once", async () => {
  const out = freshFolder();
  const first = await run(exampleStudy(), out);
  expect(ran).toEqual(["1:1", "2:1", "1:2", "2:2"]);
  expect(first.verdict).toBe("mean 1.650");
  const again = await run(exampleStudy(), out);
  expect(ran).toHaveLength(4);
  expect(again.cells).toEqual(first.cells);
});

test("more seeds, other settings and another form run what is new", async () => {
  const out = freshFolder();
  await run(exampleStudy(), out);
  ran = [];
  await run(exampleStudy(), out, { seeds: 3 });
  expect(ran).toEqual(["1:3", "2:3"]);
  ran = [];
  await run(exampleStudy({ configurations: () => [{ width: 2 }, { width: 5 }] }), out);
  expect(ran).toEqual(["5:1", "5:2"]);
  ran = [];
  await run(exampleStudy({ revision: 2 }), out);
  expect(ran).toHaveLength(4);
  const folders = readdirSync(out).sort();
  expect(folders).toEqual(["README.md", "example-quick"]);
  await run(exampleStudy(), out, { size: "full", seeds: 1 });
  expect(readdirSync(out).sort()).toEqual(["README.md", "example", "example-quick"]);
});

test("interrupted, it keeps what is finished and goes on from there", async () => {
  const out = freshFolder();
  const stop = new AbortController();
  const study = exampleStudy({
    runCell({ settings, seed }, { signal }) {
      if (ran.length === 2) stop.abort();
      if (signal?.aborted) return Promise.reject(new ForetokenError("ABORTED", "training was stopped"));
      ran.push(`${settings.width}:${seed}`);
      return Promise.resolve({ value: settings.width + seed / 10 });
    },
  });
  await expect(run(study, out, { signal: stop.signal })).rejects.toThrow(/stopped with 2 of 4 cells finished.*goes on/);
  expect(existsSync(join(out, "example-quick/results.json"))).toBe(false);
  ran = [];
  const report = await run(exampleStudy(), out);
  expect(ran).toEqual(["1:2", "2:2"]);
  expect(report.verdict).toBe("mean 1.650");
});

test("a signal between cells stops before the next", async () => {
  const stop = new AbortController();
  const onCell = (): void => stop.abort();
  await expect(run(exampleStudy(), freshFolder(), { signal: stop.signal, onCell })).rejects.toThrow(/1 of 4/);
  expect(ran).toEqual(["1:1"]);
});

test("a cell's failure is the run's, with the cells before it kept", async () => {
  const out = freshFolder();
  const runCell = () => (
    ran.push("x"),
    ran.length === 3 ? Promise.reject(new Error("broke")) : Promise.resolve({ value: 1 })
  );
  await expect(run(exampleStudy({ runCell }), out)).rejects.toThrow("broke");
  expect(readdirSync(join(out, "example-quick/cells"))).toHaveLength(2);
});

test.each(["", '{"half":', "{}", "[]"])("a cell's file that holds %j is run again", async (content) => {
  const out = freshFolder();
  await run(exampleStudy(), out);
  const cells = join(out, "example-quick/cells");
  writeFileSync(join(cells, readdirSync(cells)[0] ?? ""), content);
  ran = [];
  await run(exampleStudy(), out);
  expect(ran).toHaveLength(1);
});

test("a cell too large is refused by its name before anything runs", async () => {
  const out = freshFolder();
  const refused = run(exampleStudy(), out, { memoryBudget: 1999 });
  await expect(refused).rejects.toMatchObject({ code: "MEMORY_BUDGET" });
  await expect(refused).rejects.toThrow(/example, width 2: expected at most 1999 bytes, got 2000 bytes predicted/);
  expect(ran).toEqual([]);
  expect(existsSync(out)).toBe(false);
  await run(exampleStudy(), out, { memoryBudget: 2000 });
  expect(ran).toHaveLength(4);
});

test("without a budget what is free is the limit", async () => {
  const study = exampleStudy({ plan: () => ({ peakBytes: 1e18, parameters: 1, tokens: 1 }) });
  await expect(run(study, freshFolder())).rejects.toMatchObject({ code: "MEMORY_BUDGET" });
});

test("progress counts down the work that is left", async () => {
  const seen: StudyProgress[] = [];
  await run(exampleStudy(), freshFolder(), { onCell: (progress) => seen.push(progress) });
  expect(seen.map(({ done, cells, label }) => `${done}/${cells} ${label}`)).toEqual([
    "1/4 width 1, seed 1",
    "2/4 width 2, seed 1",
    "3/4 width 1, seed 2",
    "4/4 width 2, seed 2",
  ]);
  expect(seen.at(-1)?.secondsLeft).toBeCloseTo(0, 9);
  for (const { secondsLeft } of seen.slice(0, 3)) expect(secondsLeft).toBeGreaterThan(0);
});

describe("what is written", () => {
  const out = freshFolder();
  const read = (name: string): string => readFileSync(join(out, name), "utf8");

  test("results.json has circumstances, settings, seeds and numbers", async () => {
    await run(exampleStudy(), out);
    await run(exampleStudy({ name: "other", title: "The other" }), out, { size: "full" });
    const results = JSON.parse(read("example-quick/results.json")) as Record<string, unknown>;
    expect(results).toMatchObject({
      ...{ name: "example", size: "quick", seeds: 2, verdict: "mean 1.650" },
      machine: { processor: device.name, simd: device.simd, threads: device.threads, node: process.versions.node },
      tooShort: [{ label: "width 2", tokensPerParameter: 19.9 }],
      figures: [{ name: "picture", title: "A picture", caption: "What it shows." }],
    });
    expect(results["date"]).toMatch(/^\d{4}-\d\d-\d\dT/);
    const inRepository = existsSync(join(root, ".git"));
    expect(String(results["commit"])).toMatch(inRepository ? /^[0-9a-f]{7,}\+?$/ : /^null$/);
    expect((results["cells"] as object[]).map((cell) => ({ ...cell, seconds: 0 }))).toEqual(
      [1, 2].flatMap((seed) =>
        [1, 2].map((width) => ({ settings: { width }, seed, seconds: 0, result: { value: width + seed / 10 } })),
      ),
    );
  });

  test("results.json keeps six digits and what a study abridges; the cells' files all of it", async () => {
    const out = freshFolder();
    const long = { value: Math.PI, more: [1 / 3, null, "text"] };
    const study = exampleStudy({ runCell: () => Promise.resolve(long), abridge: ({ value }) => ({ value }) });
    await run(study, out, { seeds: 1 });
    await run(exampleStudy({ name: "whole", runCell: () => Promise.resolve(long) }), out, { seeds: 1 });
    const kept = (folder: string): unknown[] =>
      (
        JSON.parse(readFileSync(join(out, folder, "results.json"), "utf8")) as { cells: { result: object }[] }
      ).cells.map(({ result }) => result);
    expect(kept("example-quick")).toEqual([{ value: 3.14159 }, { value: 3.14159 }]);
    expect(kept("whole-quick")[0]).toEqual({ value: 3.14159, more: [0.333333, null, "text"] });
    const cells = join(out, "example-quick/cells");
    const cell = JSON.parse(readFileSync(join(cells, readdirSync(cells)[0] ?? ""), "utf8")) as { result: object };
    expect(cell.result).toEqual(long);
  });

  test("figures are SVG and PNG, and the page carries them inside", () => {
    expect(readdirSync(join(out, "example-quick/figures"))).toEqual(["picture.png", "picture.svg"]);
    const page = read("example-quick/index.html");
    expect(page).toContain(`src="data:image/svg+xml;base64,${Buffer.from("<svg>drawn</svg>").toString("base64")}"`);
    expect(page).not.toMatch(/(src|href)="(?!data:)/);
    for (const text of ["An &lt;example&gt;", "mean 1.650", "1 &lt; 2", "What it shows.", "2.2"])
      expect(page).toContain(text);
  });

  test("what is too short to judge is said on page and gallery, with its tokens per parameter", () => {
    const sentence = "Too short to judge, with under 20 training tokens per parameter: width 2 (19.9).";
    expect(read("example-quick/index.html")).toContain(sentence);
    expect(read("README.md").split(sentence)).toHaveLength(2);
  });

  test("the gallery shows every study in the folder, with pictures by relative path", () => {
    const gallery = read("README.md");
    expect(gallery).toMatch(/## An <example>[^]*## The other/);
    for (const folder of ["example-quick", "other"]) {
      const [, path = ""] = new RegExp(`!\\[A picture\\]\\((${folder}/figures/picture\\.png)\\)`).exec(gallery) ?? [];
      expect(readFileSync(join(out, path))[0]).toBe(137);
    }
    expect(gallery).toContain("| s1 | 1.1 |");
  });

  test("what else lies in the folder is left alone and out of the gallery", async () => {
    for (const [name, content] of Object.entries({ mine: '{"verdict": 1}', damaged: "{" })) {
      mkdirSync(join(out, name), { recursive: true });
      writeFileSync(join(out, name, "results.json"), content);
    }
    await run(exampleStudy(), out);
    expect(read("README.md").match(/^## .*$/gm)).toEqual(["## An <example>", "## The other"]);
    expect(read("mine/results.json")).toBe('{"verdict": 1}');
  });

  test("a figure that a study no longer has is gone", async () => {
    const figures = [{ name: "renamed", title: "A picture", caption: "", chart: {} }];
    const summarise = () => ({ verdict: "", findings: [], tables: [], figures });
    await run(exampleStudy({ summarise }), out);
    expect(readdirSync(join(out, "example-quick/figures"))).toEqual(["renamed.png", "renamed.svg"]);
  });
});

test("a cell's hash depends on every part of its key, and not on the order that settings are written in", () => {
  const key = {
    study: "a",
    revision: 1,
    version: "1",
    simd: "amx",
    settings: { x: 1, y: { p: [1, 2], q: 2 } },
    seed: 1,
  };
  const same = {
    seed: 1,
    settings: { y: { q: 2, p: [1, 2] }, x: 1 },
    simd: "amx",
    version: "1",
    revision: 1,
    study: "a",
  };
  expect(cellHash(same)).toBe(cellHash(key));
  const others = [
    { ...key, study: "b" },
    { ...key, revision: 2 },
    { ...key, version: "2" },
    { ...key, simd: "avx2" },
    { ...key, seed: 2 },
    { ...key, settings: { x: 1, y: { p: [2, 1], q: 2 } } },
  ];
  expect(new Set([key, ...others].map(cellHash)).size).toBe(7);
});
