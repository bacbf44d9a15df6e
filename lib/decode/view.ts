// A text with each token in the colour of the head that proposed it, for the terminal and as a page.
import type { DecodeStatistics } from "./statistics.js";

/** A piece of text and who proposed it: 1 head 1, i a draft by head i, 0 a draft by another predictor. */
export interface ProposedText {
  readonly text: string;
  readonly head: number;
}

// Okabe and Ito's colours, which people with any colour vision can tell apart, from head 2 on; head 1 is plain.
const palette = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"] as const;
/** The same in the 256 colours of terminals. */
const terminalPalette = [214, 74, 36, 227, 25, 166, 175] as const;

const placeOf = (head: number): number => (head === 0 ? 0 : (head - 2) % palette.length);

/** The text with terminal colours. */
export function colourForTerminal({ text, head }: ProposedText): string {
  return head === 1 ? text : `\u001b[38;5;${terminalPalette[placeOf(head)] ?? 214}m${text}\u001b[39m`;
}

/** Who the colours stand for, one line. */
export function legendForTerminal(heads: readonly number[]): string {
  return heads.map((head) => colourForTerminal({ text: nameOf(head), head })).join("  ");
}

const nameOf = (head: number): string => (head === 0 ? "draft" : `head ${head}`);

/** One self-contained page: what the colours mean, how often each head was right, the text. */
export function viewPage(prompt: string, pieces: readonly ProposedText[], statistics: DecodeStatistics): string {
  const { tokens, forwards, tokensPerForward } = statistics;
  const heads = [...new Set(pieces.map(({ head }) => head))].sort((a, b) => a - b);
  const rows = heads.map((head) => {
    const place = head === 0 ? undefined : statistics.places[head - 2];
    const count = pieces.filter((piece) => piece.head === head).length;
    const right = head > 1 && place ? `${place.accepted} of ${place.proposed}` : "";
    return `<tr><td><span class="h${head}">${nameOf(head)}</span></td><td>${count}</td><td>${right}</td></tr>`;
  });
  const colours = heads
    .filter((head) => head !== 1)
    .map((head) => `.h${head} { background: ${palette[placeOf(head)] ?? "none"}; color: #000; }`);
  const spans = pieces.map(({ text, head }) => `<span class="h${head}">${escapeHtml(text)}</span>`);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Who proposed what</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222; background: #fff; }
pre { font: 15px/1.6 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #ddd; padding: 1rem; }
table { border-collapse: collapse; }
td, th { padding: 0.2rem 1rem 0.2rem 0; text-align: left; }
.prompt { color: #888; }
span[class^="h"] { border-radius: 2px; }
${colours.join("\n")}
</style>
<h1>Who proposed what</h1>
<p>${tokens} tokens in ${forwards} forwards: ${tokensPerForward.toFixed(2)} tokens per forward. A token without a colour is
head 1's own; the others were proposed by the head of their colour, and head 1 agreed.</p>
<table>
<tr><th>proposed by</th><th>tokens</th><th>right, after right ones</th></tr>
${rows.join("\n")}
</table>
<pre><span class="prompt">${escapeHtml(prompt)}</span>${spans.join("")}</pre>
</html>
`;
}

const escapeHtml = (text: string): string =>
  text.replace(/[&<>"]/g, (letter) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[letter] ?? letter);
