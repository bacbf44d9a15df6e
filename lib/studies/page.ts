// A study's results as pages: HTML with its pictures inside, and the gallery's Markdown.
import type { StudyReport } from "./report.js";
import type { Figure, Table } from "./study.js";

type Shown = Omit<StudyReport, "cells" | "figures"> & {
  readonly figures: readonly Pick<Figure, "name" | "title" | "caption">[];
};

export interface GalleryEntry {
  /** Relative to the gallery. */
  readonly folder: string;
  readonly report: Shown;
}

/** One page that needs no other file. */
export function studyPage(report: StudyReport, drawn: readonly { figure: Figure; svg: string }[]): string {
  const figures = drawn.map(({ figure, svg }) => {
    const source = `data:image/svg+xml;base64,${Buffer.from(svg).toString("base64")}`;
    return `<figure>
<h2>${escaped(figure.title)}</h2>
<img src="${source}" alt="${escaped(figure.title)}">
<figcaption>${escaped(figure.caption)}</figcaption>
</figure>`;
  });
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(report.title)}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #111; background: #fff; }
h1 { margin-bottom: 0.2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 0.6rem; }
figure { margin: 0; } figure img { max-width: 100%; height: auto; } figcaption, .about { color: #444; font-size: 0.9rem; }
.verdict { border-left: 4px solid #0072b2; padding: 0.2rem 0 0.2rem 1rem; font-weight: 600; }
.short { border-left-color: #d55e00; }
table { border-collapse: collapse; font-size: 0.9rem; } th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid #ddd; text-align: left; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; } .scroll { overflow-x: auto; }
</style>
</head>
<body>
<h1>${escaped(report.title)}</h1>
<p>${escaped(report.question)}</p>
${shortSentence(report) ? `<p class="verdict short">${escaped(shortSentence(report))}</p>\n` : ""}<p class="verdict">${escaped(report.verdict)}</p>
${report.findings.map((finding) => `<p>${escaped(finding)}</p>`).join("\n")}
${figures.join("\n")}
${report.tables.map(htmlTable).join("\n")}
<p class="about">${escaped(aboutSentence(report))}</p>
</body>
</html>
`;
}

/** Which configurations cannot be judged; empty when all can. */
export function shortSentence({ tooShort }: Pick<StudyReport, "tooShort">): string {
  if (tooShort.length === 0) return "";
  const shown = tooShort.map(({ label, tokensPerParameter }) => `${label} (${tokensPerParameter.toFixed(1)})`);
  return `Too short to judge, with under 20 training tokens per parameter: ${shown.join("; ")}.`;
}

/** Source, size, seeds, date, commit, machine. */
export function aboutSentence(report: Pick<StudyReport, "source" | "size" | "seeds"> & Circumstances): string {
  const { processor, simd, threads, memoryBytes, node } = report.machine;
  const memory = `${Math.round(memoryBytes / 2 ** 30)} GiB`;
  return [
    `Source: ${report.source}.`,
    `${report.size} form, ${report.seeds} ${report.seeds === 1 ? "seed" : "seeds"},`,
    `${report.date.slice(0, 10)}, foretoken ${report.version}${report.commit === null ? "" : ` at ${report.commit}`},`,
    `${processor} (${simd}, ${threads} ${threads === 1 ? "thread" : "threads"}, ${memory}), Node ${node}.`,
  ].join(" ");
}

type Circumstances = Pick<StudyReport, "date" | "commit" | "version" | "machine">;

function htmlTable({ title, columns, rows }: Table): string {
  const kind = columns.map((_, i) => (rows.every((row) => typeof row[i] !== "string") ? ' class="number"' : ""));
  const line = (tag: string, cells: readonly (string | number | null)[]): string =>
    `<tr>${cells.map((cell, i) => `<${tag}${kind[i]}>${escaped(readable(cell))}</${tag}>`).join("")}</tr>`;
  return `<h2>${escaped(title)}</h2>
<div class="scroll"><table>
<thead>${line("th", columns)}</thead>
<tbody>
${rows.map((row) => line("td", row)).join("\n")}
</tbody></table></div>`;
}

/** A number as people read it: four digits. */
export function readable(cell: string | number | null): string {
  if (cell === null) return "–";
  if (typeof cell === "string") return cell;
  if (Number.isInteger(cell)) return cell.toLocaleString("en");
  return String(Number(cell.toPrecision(4)));
}

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

/** All studies with their pictures, for a forge or an editor to show. */
export function galleryMarkdown(entries: readonly GalleryEntry[]): string {
  const studies = entries.map(({ folder, report }) => {
    const pictures = report.figures.map(
      ({ name, title, caption }) => `![${title}](${folder}/figures/${name}.png)\n\n_${title}._ ${caption}`,
    );
    const parts = [
      `## ${report.title}`,
      report.question,
      ...(shortSentence(report) ? [`**${shortSentence(report)}**`] : []),
      `**${report.verdict}**`,
      ...report.findings,
      ...pictures,
      ...report.tables.map(markdownTable),
      aboutSentence(report),
      `Numbers: [results.json](${folder}/results.json). All on one page: [index.html](${folder}/index.html).`,
    ];
    return parts.join("\n\n");
  });
  const head = `# Studies

What \`npx foretoken study <name>\` measured, as it wrote it: nothing here is taken from a paper. Intervals are of 95 %
over seeds (Student's t).`;
  return `${[head, ...studies].join("\n\n")}\n`;
}

function markdownTable({ title, columns, rows }: Table): string {
  const line = (cells: readonly (string | number | null)[]): string =>
    `| ${cells.map((cell) => readable(cell).replaceAll("|", "\\|")).join(" | ")} |`;
  const rule = columns.map((_, i) => (rows.every((row) => typeof row[i] !== "string") ? "--:" : ":--"));
  return [`**${title}**`, "", line(columns), `| ${rule.join(" | ")} |`, ...rows.map(line)].join("\n");
}
