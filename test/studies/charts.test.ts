// Charts: real pictures by the real packages, names that do not lie on each other, and what is said without packages.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chartPackages, loadCharts } from "../../lib/studies/charts.js";
import { apart, dotChart, heatMaps, lineChart, palette } from "../../lib/studies/style.js";

const line = (name: string, color: string, end: number) => ({
  name,
  color,
  points: [1, 2, 3].map((x) => ({ x, y: end + 3 - x, low: end - 4, high: end + 4 })),
});
const panel = (title: string) => ({
  title,
  lines: [line("training", palette.vermilion, 0.5), line("held out", palette.blue, 0.51)],
  levels: [{ name: "floor ln 2 / 19", color: palette.black, y: 0.5 }],
});

describe.each([false, true])("a line chart, logarithmic: %s", (log) => {
  test("has its axes' titles, every name once a panel, and numbers only", async () => {
    const draw = await loadCharts();
    const { svg, png } = await draw(
      lineChart([panel("left"), panel("right")], { title: "step" }, { title: "loss (nats)", log }),
    );
    for (const text of ["left", "right", "step", "loss (nats)"]) expect(svg).toContain(`>${text}<`);
    for (const name of ["training", "held out", "floor ln 2 / 19"]) expect(svg.split(`>${name}<`)).toHaveLength(3);
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    for (const color of [palette.vermilion, palette.blue]) expect(svg).toContain(`stroke="${color}"`);
    const [, width = "", height = ""] = /^<svg[^>]* width="(\d+)" height="(\d+)"/.exec(svg) ?? [];
    expect([...png.slice(0, 4)]).toEqual([137, 80, 78, 71]);
    const header = Buffer.from(png);
    expect([header.readUInt32BE(16), header.readUInt32BE(20)]).toEqual([2 * Number(width), 2 * Number(height)]);
  });
});

test("moments have their names, and a rule each", async () => {
  const draw = await loadCharts();
  const moments = [
    { name: "forward", x: 1 },
    { name: "backward", x: 2 },
  ];
  const panels = [{ title: "", lines: [line("bytes", palette.blue, 1)], moments }];
  const { svg } = await draw(lineChart(panels, { title: "operation" }, { title: "bytes (MB)" }));
  for (const { name } of moments) expect(svg.split(`>${name}<`)).toHaveLength(2);
  expect(svg.match(/aria-roledescription="rule mark"/g)).toHaveLength(2);
});

test("dots have their names once, their intervals where they are known, and each panel its axis", async () => {
  const draw = await loadCharts();
  const dots = [
    { name: "one", color: palette.black, value: 1, low: 0.5, high: 2 },
    { name: "two", color: palette.blue, value: 3, low: null, high: null },
  ];
  const { svg } = await draw(
    dotChart([
      { title: "left", x: { title: "bits" }, dots },
      { title: "right", x: { title: "tokens" }, dots },
    ]),
  );
  for (const text of ["left", "right", "bits", "tokens", "one", "two"]) expect(svg.split(`>${text}<`)).toHaveLength(2);
  expect(svg.match(/aria-roledescription="rule mark"/g)).toHaveLength(2);
  expect(svg.match(/aria-roledescription="point"/g)).toHaveLength(4);
  expect(svg).not.toMatch(/NaN|Infinity|undefined/);
});

test("a heat map has a number for each value, and nothing where there is none", async () => {
  const draw = await loadCharts();
  const values = [
    [0.125, 1],
    [null, 0.5],
  ];
  const { svg } = await draw(heatMaps([{ title: "map", rows: ["a", "b"], columns: ["1", "2"], values }], "x", "y"));
  const numbers = [...svg.matchAll(/>(\d\.\d\d)</g)].map(([, text]) => text);
  expect(numbers.sort()).toEqual(["0.13", "0.50", "1.00"]);
});

test.each([
  [["vega"], /got none of vega\. .*npm install vega$/],
  [
    [...chartPackages],
    /expected the packages vega, vega-lite, @resvg\/resvg-js, got none of .*npm install vega vega-lite @resvg\/resvg-js$/,
  ],
])("without %j it says what to install", async (absent, message) => {
  const load = (name: string): Promise<unknown> =>
    absent.includes(name)
      ? Promise.reject(Object.assign(new Error("no such package"), { code: "ERR_MODULE_NOT_FOUND" }))
      : Promise.resolve({});
  await expect(loadCharts(load)).rejects.toThrow(message);
  await expect(loadCharts(load)).rejects.toMatchObject({ code: "NO_PACKAGE" });
});

test("a package that is there but fails is not called missing", async () => {
  await expect(loadCharts(() => Promise.reject(new Error("bad build")))).rejects.toThrow(/^bad build$/);
});

test("names keep their order and distance, stay on the panel, and move only where they must", () => {
  const places = fc.array(fc.double({ min: 0, max: 200, noNaN: true }), { minLength: 1, maxLength: 10 });
  fc.assert(
    fc.property(places, (given) => {
      const wanted = [...given].sort((a, b) => a - b);
      const placed = apart(wanted, 15, 200);
      for (const [i, place] of placed.entries()) {
        expect(place).toBeLessThanOrEqual(200);
        expect(place).toBeGreaterThan(-1e-9);
        if (i > 0) expect(place - (placed[i - 1] ?? 0)).toBeGreaterThan(15 - 1e-9);
      }
      if (wanted.every((place, i) => i === 0 || place - (wanted[i - 1] ?? 0) >= 15)) expect(placed).toEqual(wanted);
    }),
  );
});
