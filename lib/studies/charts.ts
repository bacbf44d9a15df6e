// Charts as files, by packages that are loaded when a chart is wanted: Vega draws SVG, resvg turns that into PNG.
import type * as ResvgPackage from "@resvg/resvg-js";
import type * as Vega from "vega";
import type * as VegaLite from "vega-lite";
import { ForetokenError } from "../errors.js";
import type { Chart } from "./style.js";

/** Optional peers of the package. */
export const chartPackages = ["vega", "vega-lite", "@resvg/resvg-js"] as const;

export interface Drawing {
  readonly svg: string;
  /** Twice the SVG's size. */
  readonly png: Uint8Array;
}

export type Draw = (chart: Chart) => Promise<Drawing>;

/** Loads the packages, now rather than behind hours of training. Throws NO_PACKAGE that names those that are missing. */
export async function loadCharts(load: (name: string) => Promise<unknown> = (name) => import(name)): Promise<Draw> {
  const found = await Promise.all(chartPackages.map((name) => load(name).catch(missing)));
  const absent = chartPackages.filter((_, i) => found[i] === undefined);
  if (absent.length > 0) {
    throw new ForetokenError("NO_PACKAGE", {
      op: "study",
      argument: "charts",
      wanted: `the packages ${chartPackages.join(", ")}`,
      got: `none of ${absent.join(", ")}`,
      remedy: `They are optional: npm install ${absent.join(" ")}`,
    });
  }
  const [vega, vegaLite, resvg] = found as [typeof Vega, typeof VegaLite, typeof ResvgPackage];
  return (chart) => draw(chart, vega, vegaLite, resvg);
}

function missing(error: unknown): undefined {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND") return undefined;
  throw error;
}

async function draw(
  chart: Chart,
  vega: typeof Vega,
  vegaLite: typeof VegaLite,
  { Resvg }: typeof ResvgPackage,
): Promise<Drawing> {
  const { spec } = vegaLite.compile(chart as unknown as VegaLite.TopLevelSpec);
  const view = new vega.View(vega.parse(spec), { renderer: "none", logLevel: vega.Error });
  const svg = await view.toSVG();
  view.finalize();
  const font = { loadSystemFonts: true, defaultFontFamily: "DejaVu Sans" };
  return { svg, png: new Resvg(svg, { font, fitTo: { mode: "zoom", value: 2 } }).render().asPng() };
}
