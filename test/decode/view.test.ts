import { describe, expect, it } from "vitest";
import { DecodeStatistics } from "../../lib/decode/statistics.js";
import { colourForTerminal, legendForTerminal, viewPage } from "../../lib/decode/view.js";

describe("viewPage", () => {
  const statistics = new DecodeStatistics();
  const token = { token: 1, head: 1, logProbability: 0 };
  statistics.add({ position: 1, proposed: 2, tried: 2, accepted: 1, tokens: [token, token] });
  statistics.add({ position: 3, proposed: 2, tried: 1, accepted: 0, tokens: [token] });
  const pieces = [
    { text: "<b>", head: 2 },
    { text: '"&', head: 1 },
    { text: "c", head: 1 },
  ];
  const page = viewPage("a < b", pieces, statistics);

  it("shows each token in its head's colour, and text as text", () => {
    expect(page).toContain(
      '<span class="prompt">a &lt; b</span><span class="h2">&lt;b&gt;</span><span class="h1">&quot;&amp;</span>',
    );
    expect(page).toMatch(/\.h2 \{ background: #[0-9a-f]{6}/);
    expect(page).not.toMatch(/\.h1 \{/);
  });

  it("says how often each head was right", () => {
    expect(page).toContain("3 tokens in 2 forwards: 1.50 tokens per forward");
    expect(page).toContain('<span class="h2">head 2</span></td><td>1</td><td>1 of 2</td>');
  });

  it("loads nothing from elsewhere", () => {
    expect(page).not.toMatch(/https?:|src=|@import/);
  });
});

it("terminal colours differ by head; head 1 has none", () => {
  expect(colourForTerminal({ text: "x", head: 1 })).toBe("x");
  const coloured = [0, 2, 3, 4].map((head) => colourForTerminal({ text: "x", head }));
  expect(new Set(coloured.slice(1)).size).toBe(3);
  expect(legendForTerminal([1, 2])).toMatch(/^head 1 {2}\S+head 2/);
});
