// The demo from first to last, with few steps: what it prints is measured, and its folder is a run like any other.
import { relative } from "node:path";
import { afterAll, expect, test } from "vitest";
import { events, foretoken, succeeds, workFolder } from "./command.js";

const work = workFolder();
afterAll(work.remove);
const script = "dist/cli/demo.js";

test("trains, measures itself beside the trigram model, writes, and leaves a run to go on with", async () => {
  const { stdout } = await succeeds(["--steps", "3", "--out", work.path("demo")], { script });
  expect(stdout).toMatch(/On packages it has not seen/);
  const [own, seen, all] = [...stdout.matchAll(/^ {2}(\d\.\d{3}) {2}(?:head 1|trigram counts)/gm)].map(([, bits]) =>
    Number(bits),
  );
  expect(own).toBeGreaterThan(seen ?? NaN);
  expect(seen).toBeGreaterThan(all ?? NaN);
  expect(stdout).toContain("Head 1 does not beat the trigram model of the same bytes");
  expect(stdout).toContain("as predicted to the byte");
  expect(stdout).toMatch(/A sample[^\n]*\nexport function /);
  const evaluated = await succeeds(["eval", work.path("demo"), "--quiet"]);
  expect(stdout).toContain(evaluated.stdout.trimEnd());
});

test("ends with the statistics of a text by drafts, which plain decoding writes too, and the command for them", async () => {
  const out = work.path("drafts");
  const { stdout, stderr } = await succeeds(["--steps", "3", "--out", out], { script });
  // The folder as it is shortest from here, as the demo names it.
  const folder = [relative(process.cwd(), out), out].reduce((a, b) => (a.length < b.length ? a : b));
  const command = `npx foretoken generate ${folder} --prompt "export function " --speculate auto --stats`;
  const prompt = ["--prompt", "export function "];
  const plain = await succeeds(["generate", out, ...prompt, "--speculate", "off"]);
  const [, text] = stdout.split(`  ${command}\n\n`);
  expect(text?.slice(0, plain.stdout.length)).toBe(plain.stdout);
  expect(text?.slice(plain.stdout.length)).toMatch(/^\n[^\n]+ in all; the model is in \S+\n\nNext:/);
  expect(stderr).toMatch(/^200 tokens; the first after [\d.]+ ms, \d+ tokens\/s after it$/m);
  expect(stderr).toMatch(/^\d+ forwards: \d\.\d\d tokens per forward$/m);
  expect(stderr).toMatch(/^once more: .* times as fast; the same text$/m);
});

test("Ctrl-C saves, and the command that it names goes on", async () => {
  let sent = false;
  const cut = await foretoken(["--steps", "500", "--out", work.path("cut"), "--json"], {
    script,
    onOutput(stdout, child) {
      if (!sent && stdout.includes('"step":2')) sent = child.kill("SIGINT");
    },
  });
  expect(cut.code, cut.stderr).toBe(130);
  const [, args = ""] = /npx foretoken (train --resume --out \S+)/.exec(cut.stderr) ?? [];
  const { step } = events(cut.stdout).at(-1) as unknown as { step: number };
  const resumed = await succeeds([...args.split(" "), "--steps", String(step + 1), "--json"]);
  expect(events(resumed.stdout).at(-1)).toMatchObject({ event: "done", step: step + 1 });
});
