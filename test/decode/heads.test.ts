// What heads 2 to k propose: the likeliest tokens of their own logits after the positions that were accepted.
import { describe, expect, it } from "vitest";
import type { Draw } from "../../lib/decode/inputs.js";
import { DecodeSession } from "../../lib/decode/session.js";
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
    }
    session.dispose();
  });
});
