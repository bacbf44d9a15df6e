// What heads 2 to k propose: the likeliest tokens of their own logits after the positions that were accepted.
import { describe, expect, it } from "vitest";
import type { Draw } from "../../lib/decode/inputs.js";
import { DecodeSession } from "../../lib/decode/session.js";
import { SteadyLayout } from "../../lib/decode/steady.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { families, randomTokens } from "../helpers/decoding.js";

const vocabSize = 61;
const heads = 4;
const draw: Draw = { temperature: 0, topK: 0, topP: 1, seed: 0, request: 0, position: 0 };

/** likeliest[head − 2][position]: after a whole-sequence forward. */
async function likeliest(model: LanguageModel, tokens: readonly number[]): Promise<number[][]> {
  const logits = model.forward([tokens]);
  const perHead: number[][] = [];
  for (const each of logits) {
    const values = await each.toFloats();
    each.dispose();
    const rows = tokens.map((_, t) => Array.from(values.subarray(t * vocabSize, (t + 1) * vocabSize)));
    perHead.push(rows.map((row) => row.indexOf(Math.max(...row))));
  }
  return perHead.slice(1);
}

describe.each(Object.entries(families({ vocabSize, heads, maxPositions: 64 })))("%s", (_name, config) => {
  it("proposes its likeliest tokens, whatever was rejected before and however far a head was behind", async () => {
    using model = LanguageModel.create(config, { dtype: "f32", seed: 7 });
    const texts = [randomTokens(60, vocabSize, 1), randomTokens(60, vocabSize, 2)];
    const expected = await Promise.all(texts.map((text) => likeliest(model, text)));
    const session = new DecodeSession(model, 2, 64, { drafts: true });
    const readsAll = session.unread(0, 1, 2) > 0;
    const read = async (sequence: number, from: number, tokens: readonly number[]): Promise<void> => {
      const rows = tokens.map((token, i) => ({ token, sequence, position: from + i }));
      await session.verify(rows, [...tokens.slice(1).map(() => undefined), draw]);
    };
    const known = [20, 7];
    for (const [sequence, text] of texts.entries()) await read(sequence, 0, text.slice(0, known[sequence]));
    // k rises, falls, and rises again after heads 3 and 4 have slept; each time some tokens are read that are then rejected.
    for (const [round, k] of [2, 4, 3, 2, 2, 2, 2, 2, 4, 4].entries()) {
      const requests = known.map((count, sequence) => ({
        sequence,
        to: count - 1,
        draws: Array<Draw>(k - 1).fill(draw),
      }));
      const asked = round % 3 === 2 ? requests.slice(1) : requests;
      void session.propose(asked, k);
      const proposals = (k - 1) * asked.length;
      const rows = Array.from({ length: proposals }, (_, i) => ({ token: -1 - i, sequence: -1, position: 0 }));
      const { read: proposed } = await session.verify(rows, Array<Draw>(proposals).fill(draw));
      for (let head = 2; head <= k; head++) {
        for (const [r, { sequence, to }] of asked.entries()) {
          const token = proposed[(head - 2) * asked.length + r];
          expect(token, `head ${head} after ${to}, round ${round}`).toBe(expected[sequence]?.[head - 2]?.[to]);
        }
      }
      for (const [sequence, text] of texts.entries()) {
        const start = known[sequence] ?? 0;
        const step = 1 + ((round + sequence) % 3);
        await read(sequence, start, [...text.slice(start, start + step), 5, 6].slice(0, 4));
        known[sequence] = start + step;
      }
      if (round === 6) {
        const behind = [2, 3, 4].map((most) => session.unread(0, known[0] ?? 0, most));
        // Heads 3 and 4 slept for some rounds, if they have anything to read.
        expect(behind[0]).toBeLessThan(4);
        expect(behind[2]).toBe(readsAll ? 2 * (behind[1] ?? 0) - (behind[0] ?? 0) : 0);
        expect((behind[1] ?? 0) > 8).toBe(readsAll);
        session.readAgain(0, 0, known[0] ?? 0, heads);
        expect(session.unread(0, known[0] ?? 0, heads)).toBe(0);
      }
    }
    session.dispose();
  });

  it("reads all of a short prompt before it proposes, when the draft before was wrong from its beginning", async () => {
    using model = LanguageModel.create(config, { dtype: "f32", seed: 7 });
    const session = new DecodeSession(model, 1, 64, { drafts: true });
    const layout = new SteadyLayout([{ slot: 0, rows: heads, draw }]);
    const begin = async (text: readonly number[]): Promise<void> => {
      const rows = text.slice(0, -1).map((token, position) => ({ token, sequence: 0, position }));
      await session.verify(rows, [...rows.slice(1).map(() => undefined), draw]);
      session.settle(layout, [{ position: text.length - 1, token: text.at(-1) ?? 0 }]);
    };
    let position = 19;
    await begin(randomTokens(position + 1, vocabSize, 1));
    for (let step = 0; step < 12; step++) {
      const [verdict] = await session.goOn(layout, 1);
      const { read = new Int32Array(), drawn = new Int32Array() } = verdict ?? {};
      let kept = 0;
      while (kept < heads - 1 && read[kept + 1] === drawn[kept]) kept++;
      session.landed(layout, [position], kept);
      position += 1 + kept;
    }
    session.release(0);
    const prompt = randomTokens(5, vocabSize, 2);
    const expected = await likeliest(model, prompt);
    await begin(prompt);
    const [verdict] = await session.goOn(layout, 1);
    expect(Array.from(verdict?.read ?? [])).toEqual([prompt[4], ...expected.map((each) => each[3])]);
    session.dispose();
  });
});
