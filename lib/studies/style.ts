// How every picture of the studies looks: one palette, one type, axes with units, names beside the lines they belong to.

/** A Vega-Lite specification: plain JSON. */
export type Chart = Readonly<Record<string, unknown>>;

/** Okabe and Ito 2008: told apart by everyone, and of different greys; yellow is too light for lines. */
export const palette = {
  black: "#000000",
  blue: "#0072B2",
  vermilion: "#D55E00",
  green: "#009E73",
  purple: "#CC79A7",
  sky: "#56B4E9",
  orange: "#E69F00",
} as const;

const grey = "#595959";
const font = "DejaVu Sans, Verdana, Arial, sans-serif";
const fontSize = 12;
/** Pixels between names that would lie on each other. */
const nameHeight = 15;

/** Pixels of all panels together, gaps left out. */
const chartWidth = 640;
const chartHeight = 300;

export interface Point {
  readonly x: number;
  readonly y: number;
  /** Its interval, where it has one. */
  readonly low?: number | null | undefined;
  readonly high?: number | null | undefined;
}

export interface Line {
  readonly name: string;
  readonly color: string;
  readonly dashed?: boolean | undefined;
  /** Drawn as a mark at each point too, with the interval as a bar; else the interval is a band. */
  readonly marked?: boolean | undefined;
  readonly points: readonly Point[];
}

/** A level that is known: a floor, a ceiling. */
export interface Level {
  readonly name: string;
  readonly color: string;
  readonly y: number;
}

export interface Axis {
  /** With its unit. */
  readonly title: string;
  readonly log?: boolean | undefined;
  /** Default: from the data. */
  readonly domain?: readonly [number, number] | undefined;
  /** Default: Vega's choice. */
  readonly ticks?: readonly number[] | undefined;
  /** d3-format. */
  readonly format?: string | undefined;
}

/** Where something begins on the x axis. */
export interface Moment {
  readonly name: string;
  readonly x: number;
}

export interface LinePanel {
  readonly title: string;
  readonly lines: readonly Line[];
  readonly levels?: readonly Level[] | undefined;
  readonly moments?: readonly Moment[] | undefined;
}

/** What all charts have in common. */
const config = {
  font,
  background: "white",
  view: { stroke: null },
  axis: {
    ...{ domainColor: grey, tickColor: grey, labelColor: "black", titleColor: "black" },
    ...{ labelFontSize: fontSize, titleFontSize: fontSize, titleFontWeight: "normal", titlePadding: 8 },
    ...{ gridColor: "#e6e6e6", labelFlush: false, labelOverlap: true },
  },
  axisX: { grid: false },
  title: { fontSize: 13, fontWeight: "bold", anchor: "start", offset: 10 },
  text: { font, fontSize },
};

const schema = "https://vega.github.io/schema/vega-lite/v6.json";

/** Panels side by side, or in rows of `columns`, which share the y axis; the x axis is each panel's own. */
export function lineChart(panels: readonly LinePanel[], x: Axis, y: Axis, columns = panels.length): Chart {
  const yDomain = y.domain ?? valueDomain(panels, y.log ?? false);
  const rows = Math.ceil(panels.length / columns);
  const size = { width: Math.round(chartWidth / columns), height: Math.round(chartHeight / (rows > 1 ? 1.5 : 1)) };
  return {
    $schema: schema,
    config,
    columns,
    spacing: { row: 28, column: 24 },
    concat: panels.map((panel) => {
      const xDomain = x.domain ?? extent(panel.lines.flatMap(({ points }) => points.map((point) => point.x)));
      return linePanel(panel, { ...x, domain: xDomain }, { ...y, domain: yDomain }, size);
    }),
  };
}

type Placed = Axis & { readonly domain: readonly [number, number] };

function linePanel(panel: LinePanel, x: Placed, y: Placed, size: { width: number; height: number }): Chart {
  const encodings = { x: position("x", x), y: position("y", y) };
  const names = placeNames(panel, x, y, size.height);
  return {
    ...size,
    title: panel.title,
    layer: [
      ...(panel.levels ?? []).map((level) => ({
        data: { values: [{ y: level.y }] },
        mark: { type: "rule", color: level.color, strokeDash: [2, 3], strokeWidth: 1.2 },
        encoding: { y: encodings.y },
      })),
      ...momentLayers(panel.moments ?? [], encodings, y.domain[1]),
      ...panel.lines.map((line) => spread(line, y.domain, encodings)),
      ...panel.lines.flatMap((line) => lineLayers(line, encodings)),
      ...names.map(({ at, name, color }) => ({
        data: { values: [at] },
        mark: { type: "text", text: name, color, align: "left", baseline: "middle", dx: 6, clip: false },
        encoding: encodings,
      })),
    ],
  };
}

function position(field: "x" | "y", { title, log, domain, ticks, format }: Placed): Chart {
  return {
    field,
    type: "quantitative",
    title,
    scale: { type: log ? "log" : "linear", domain, nice: false, ...(!log && { zero: false }) },
    axis: { ...axisTicks(ticks ?? (log ? logTicks(domain) : undefined)), ...(format !== undefined && { format }) },
  };
}

const axisTicks = (values: readonly number[] | undefined): Chart => (values ? { values } : { tickCount: 5 });

/** 1, 3, 10, 30 … within the domain. */
function logTicks([low, high]: readonly [number, number]): number[] {
  const first = Math.floor(Math.log10(low));
  const decades = Array.from({ length: Math.ceil(Math.log10(high)) - first + 1 }, (_, i) => 10 ** (first + i));
  const ticks = decades.flatMap((decade) => [decade, 3 * decade]).map((tick) => Number(tick.toPrecision(1)));
  return ticks.filter((tick) => tick >= low && tick <= high);
}

type Encodings = { readonly x: Chart; readonly y: Chart };

/** The intervals of a line, as far as the axis goes: bars at its marks, or a band. */
function spread({ points, color, marked }: Line, [bottom, top]: readonly [number, number], { x, y }: Encodings): Chart {
  const within = (value: number): number => Math.min(top, Math.max(bottom, value));
  const values = points.flatMap(({ low, high, ...at }) =>
    low == null || high == null ? [] : [{ ...at, low: within(low), high: within(high) }],
  );
  const mark = marked ? { type: "rule", color, strokeWidth: 1.5 } : { type: "area", color, opacity: 0.18 };
  return { data: { values }, mark, encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" } } };
}

function lineLayers({ points, color, dashed, marked }: Line, encoding: Encodings): Chart[] {
  const line = { type: "line", color, strokeWidth: 2, clip: true, ...(dashed && { strokeDash: [6, 3] }) };
  const point = { type: "point", filled: true, size: 45, opacity: 1, color };
  return (marked ? [line, point] : [line]).map((mark) => ({ data: { values: points }, mark, encoding }));
}

/** A rule where each begins, its name behind it at the top. */
function momentLayers(moments: readonly Moment[], { x, y }: Encodings, top: number): Chart[] {
  return moments.flatMap((moment) => [
    { data: { values: [moment] }, mark: { type: "rule", color: grey, strokeWidth: 0.8 }, encoding: { x } },
    {
      data: { values: [{ ...moment, y: top }] },
      mark: { type: "text", text: moment.name, color: grey, fontSize: 11, align: "left", baseline: "top", dx: 3 },
      encoding: { x, y },
    },
  ]);
}

interface Name {
  readonly name: string;
  readonly color: string;
  readonly at: { readonly x: number; readonly y: number };
}

/** Names of lines and levels at the panel's right end, moved apart where they would lie on each other. */
function placeNames({ lines, levels = [] }: LinePanel, x: Placed, y: Placed, height: number): Name[] {
  const [toPixel, toValue] = pixels(y, height);
  const wanted = [
    ...lines.map(({ name, color, points }) => ({ name, color, pixel: toPixel(points.at(-1)?.y ?? NaN) })),
    ...levels.map(({ name, color, y: value }) => ({ name, color, pixel: toPixel(value) })),
  ].filter(({ name, pixel }) => name !== "" && Number.isFinite(pixel));
  wanted.sort((a, b) => a.pixel - b.pixel);
  const placed = apart(
    wanted.map(({ pixel }) => pixel),
    nameHeight,
    height,
  );
  return wanted.map(({ name, color }, i) => ({ name, color, at: { x: x.domain[1], y: toValue(placed[i] ?? 0) } }));
}

/** Rising places, `gap` or more apart and within 0..end, as near to the wanted ones as going through them twice gets. */
export function apart(wanted: readonly number[], gap: number, end: number): number[] {
  const placed = [...wanted];
  for (let i = 0; i < placed.length; i++) {
    placed[i] = Math.max(placed[i] ?? 0, i === 0 ? 0 : (placed[i - 1] ?? 0) + gap);
  }
  for (let i = placed.length - 1; i >= 0; i--) {
    placed[i] = Math.min(placed[i] ?? 0, i === placed.length - 1 ? end : (placed[i + 1] ?? 0) - gap);
  }
  return placed;
}

/** From values to pixels from the top, and back. */
function pixels({ domain: [low, high], log }: Placed, height: number): [(v: number) => number, (p: number) => number] {
  const flat = log ? Math.log : (v: number): number => v;
  const back = log ? Math.exp : (v: number): number => v;
  const scale = height / (flat(high) - flat(low));
  return [(value) => (flat(high) - flat(value)) * scale, (pixel) => back(flat(high) - pixel / scale)];
}

function extent(values: readonly number[]): [number, number] {
  const finite = values.filter(Number.isFinite);
  return [Math.min(...finite), Math.max(...finite)];
}

/** Of all that a panel shows, with a little air. */
function valueDomain(panels: readonly LinePanel[], log: boolean): [number, number] {
  const shown = panels.flatMap(({ lines, levels = [] }) => [
    ...lines.flatMap(({ points }) => points.flatMap(({ y, low, high }) => [y, low ?? y, high ?? y])),
    ...levels.map(({ y }) => y),
  ]);
  const [low, high] = extent(log ? shown.filter((value) => value > 0) : shown);
  if (log) return [low / 1.15, high * 1.15];
  const air = (high - low) * 0.05 || 1;
  return [low - air, high + air];
}

export interface Dot {
  readonly name: string;
  readonly color: string;
  readonly value: number;
  readonly low?: number | null | undefined;
  readonly high?: number | null | undefined;
}

export interface DotPanel {
  readonly title: string;
  readonly x: Axis;
  /** From the top; the same names in every panel. */
  readonly dots: readonly Dot[];
}

/** One quantity of several things, each a dot with its interval, panels side by side. */
export function dotChart(panels: readonly DotPanel[]): Chart {
  const width = Math.round(chartWidth / panels.length);
  return {
    $schema: schema,
    config,
    columns: panels.length,
    spacing: 24,
    concat: panels.map(({ title, x, dots }, i) => {
      const shown = dots.flatMap(({ value, low, high }) => [value, low ?? value, high ?? value]);
      const [least, most] = extent(shown);
      const air = (most - least) * 0.05 || 1;
      const across = position("x", { ...x, domain: x.domain ?? [least - air, most + air] });
      const names = dots.map(({ name }) => name);
      const axis = { ticks: false, domain: false, grid: true, labels: i === 0, labelLimit: 260 };
      const down = { field: "name", type: "ordinal", sort: names, title: null, axis };
      const color = { field: "color", type: "nominal", scale: null };
      return {
        title,
        width,
        height: 26 * dots.length,
        data: { values: dots.map(({ name, color, value, low, high }) => ({ name, color, x: value, low, high })) },
        layer: [
          {
            transform: [{ filter: "isValid(datum.low)" }],
            mark: { type: "rule", strokeWidth: 1.5 },
            encoding: { x: { ...across, field: "low" }, x2: { field: "high" }, y: down, color },
          },
          {
            mark: { type: "point", filled: true, size: 60, opacity: 1 },
            encoding: { x: across, y: down, color },
          },
        ],
      };
    }),
  };
}

export interface HeatMap {
  readonly title: string;
  /** Rows from the top. */
  readonly rows: readonly string[];
  readonly columns: readonly string[];
  /** (rows, columns); null where there is nothing. */
  readonly values: readonly (readonly (number | null)[])[];
}

/** Shares from 0 to 1 as shades, each with its number. */
export function heatMaps(maps: readonly HeatMap[], x: string, y: string, format = ".2f"): Chart {
  const cell = Math.min(44, Math.floor(chartWidth / Math.max(...maps.map(({ columns }) => columns.length))));
  return {
    $schema: schema,
    config,
    columns: 1,
    spacing: 24,
    concat: maps.map(({ title, rows, columns, values }) => ({
      title,
      width: cell * columns.length,
      height: 28 * rows.length,
      data: {
        values: rows.flatMap((row, r) =>
          columns.flatMap((column, c) => {
            const value = values[r]?.[c];
            return value == null ? [] : [{ row, column, value }];
          }),
        ),
      },
      encoding: {
        x: {
          field: "column",
          type: "ordinal",
          sort: columns,
          title: x,
          axis: { labelAngle: 0, ticks: false, domain: false },
        },
        y: {
          field: "row",
          type: "ordinal",
          sort: rows,
          title: y,
          axis: { ticks: false, domain: false, labelLimit: 260 },
        },
      },
      layer: [
        {
          mark: { type: "rect", stroke: "white" },
          encoding: {
            color: {
              field: "value",
              type: "quantitative",
              legend: null,
              scale: { domain: [0, 1], range: ["#f2f6fa", palette.blue] },
            },
          },
        },
        {
          mark: { type: "text", fontSize: 11 },
          encoding: {
            text: { field: "value", type: "quantitative", format },
            color: { condition: { test: "datum.value > 0.55", value: "white" }, value: "black" },
          },
        },
      ],
    })),
  };
}
