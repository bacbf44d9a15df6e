// Steps that the host does not wait for, over forwards made up of tables: every draft is right up to a place that is known.
import { afterEach, describe, expect, it } from "vitest";
import { judgeExactly } from "../../lib/decode/acceptance.js";
import { RecordedSteps } from "../../lib/decode/steps.js";
import { greedy } from "../../lib/decode/inputs.js";
import { inTurn, SteadyLayout, SteadySteps, type Forwards } from "../../lib/decode/steady.js";
import { DraftShape } from "../../lib/decode/tree.js";
import { openDevice } from "../../lib/device.js";
import { cacheAppend } from "../../lib/ops/attention.js";
import { add, copyInto, gatherRows } from "../../lib/ops/elementwise.js";
import { tensor, zeros, type Tensor } from "../../lib/tensor.js";
import { uniform } from "../helpers/decoding.js";
import { onGpu } from "../helpers/levels.js";

const device = openDevice(onGpu ? "cuda" : "cpu");
const vocabSize = 11;
const capacity = 96;
const longest = 5;
const counts = new Map<number, Set<number>>();

/** Head 1's logits of a token at a position: a + b. */
interface Tables {
  readonly a: Float32Array;
  readonly b: Float32Array;
}

function tables(seed: number): Tables {
  const random = uniform(seed);
  const numbers = (count: number): Float32Array =>
    Float32Array.from({ length: count }, () => Math.fround(random() * 4));
  return { a: numbers(vocabSize * vocabSize), b: numbers(capacity * vocabSize) };
}

/** What greedy decoding writes from a token at a position on, up to the last place. */
function textFrom({ a, b }: Tables, token: number, position: number): number[] {
  const text = Array<number>(position).fill(0);
  for (let last = token, at = position; at < capacity; at++) {
    text.push(last);
    const logits = Array.from({ length: vocabSize }, (_, j) =>
      Math.fround((a[last * vocabSize + j] ?? 0) + (b[at * vocabSize + j] ?? 0)),
    );
    last = logits.indexOf(Math.max(...logits));
  }
  return text;
}

/** Of several texts whose heads are right with probability 1 − spoilt, each token by itself. */
class MadeUp {
  readonly texts: readonly number[][];
  readonly steady: SteadySteps;
  /** (slots, 1, capacity, 1): 1 where the heads have read. */
  readonly read: Tensor;
  readonly pool: Tensor;
  private readonly made: Tensor[];
  private readonly steps = new RecordedSteps(device);

  constructor(
    readonly starts: readonly { readonly token: number; readonly position: number }[],
    spoilt: number,
    seed: number,
  ) {
    const random = uniform(seed);
    const shown = tables(seed);
    const slots = starts.length;
    this.texts = starts.map(({ token, position }) => textFrom(shown, token, position));
    const a = tensor(shown.a, { shape: [vocabSize, vocabSize], device });
    const b = tensor(shown.b, { shape: [capacity, vocabSize], device });
    const pool = zeros([slots + 8 + slots * longest, 1], { dtype: "i32", device });
    this.pool = pool;
    this.read = zeros([slots, 1, capacity, 1], { device });
    // What head i + 2 proposes from each place.
    const heads = Array.from({ length: longest - 1 }, (_, i) => {
      const proposed = this.texts.flatMap((text) =>
        Array.from({ length: capacity }, (_, at) => {
          const right = text[at + i + 2] ?? 0;
          return random() < spoilt ? (right + 1 + Math.floor(random() * (vocabSize - 1))) % vocabSize : right;
        }),
      );
      return tensor(Int32Array.from(proposed), { shape: [slots * capacity, 1], device });
    });
    this.made = [a, b, pool, this.read, ...heads];
    const forwards: Forwards = {
      device,
      capacity,
      isRecurrent: false,
      headsRead: true,
      pool,
      proposals: slots + 8,
      prepare: () => undefined,
      headOneLogits: (tokens, { position }) => add(gatherRows(a, tokens), gatherRows(b, position)),
      propose: (rows, last, _draws, k) => {
        const ones = zeros([rows.place.size, 1, 1], { device });
        const one = add(ones, tensor(new Float32Array(rows.place.size).fill(1), { shape: ones.shape, device }));
        cacheAppend(one, one, rows, this.read, this.read);
        const places = gatherRows(rows.place.view([rows.place.size, 1]), last).view([last.size]);
        for (const [i, head] of heads.slice(0, k - 1).entries()) {
          copyInto(pool.view([last.size, 1], slots + 8 + i * last.size), gatherRows(head, places));
        }
      },
    };
    this.steady = new SteadySteps(forwards, this.steps, slots);
    pool.write(starts.map(({ token }) => token));
  }

  dispose(): void {
    this.steady.dispose();
    this.steps.dispose();
    for (const each of this.made) each.dispose();
  }
}

/** Takes `count` steps and follows them: where each text stands after them. */
async function follow(madeUp: MadeUp, layout: SteadyLayout, positions: number[], count: number): Promise<void> {
  const { steady, texts } = madeUp;
  steady.step(layout, count);
  for (const verdict of await steady.results(layout, count)) {
    let row = 0;
    let most = 0;
    for (const { slot, rows } of layout.texts) {
      const text = texts[slot] ?? [];
      const at = positions[slot] ?? 0;
      expect(verdict.read[row]).toBe(text[at]);
      const shape = DraftShape.chain(rows - 1);
      const { path, tokens } = judgeExactly(shape, verdict, { length: rows - 1, row, draw: row });
      expect(tokens.map(({ token }) => token)).toEqual(text.slice(at + 1, at + 2 + path.length));
      for (const { logProbability } of tokens) expect(logProbability).toBeLessThan(0);
      if (rows === longest) counts.set(path.length, (counts.get(path.length) ?? new Set()).add(at));
      positions[slot] = at + path.length + 1;
      most = Math.max(most, path.length);
      row += rows;
    }
    steady.kept(layout, most);
  }
}

const layoutOf = (rows: readonly number[]): SteadyLayout =>
  new SteadyLayout(rows.map((count, slot) => ({ slot, rows: count, draw: greedy })));

const starts = [
  { token: 3, position: 1 },
  { token: 7, position: 12 },
  { token: 0, position: 5 },
];
const standing = ({ position }: { position: number }, slot: number, kept = 0) => ({
  slot,
  position,
  kept,
  place: slot,
});

describe.each([0, 0.3, 0.7, 1])("drafts spoilt with probability %d", (spoilt) => {
  let madeUp: MadeUp | undefined;
  afterEach(() => madeUp?.dispose());

  it.each([[[longest]], [[1]], [[longest, 3, 1]], [[2, longest, 4]]])("texts of %j rows", async (rows) => {
    for (let seed = 1; seed <= (onGpu ? 1 : 6); seed++) {
      madeUp?.dispose();
      const given = starts.slice(0, rows.length);
      madeUp = new MadeUp(given, spoilt, seed);
      const layout = layoutOf(rows);
      const positions = given.map(({ position }) => position);
      madeUp.steady.settle(given.map((start, slot) => standing(start, slot)));
      // Flights of all sizes: their results lie around the end of the ring.
      for (let count = 1; Math.max(...positions) + count * longest < capacity - longest; count = (count % inTurn) + 1) {
        await follow(madeUp, layout, positions, count);
      }
      const read = (await madeUp.read.data()) as Float32Array;
      for (const [slot, { position }] of given.entries()) {
        const marks = Array.from(read.subarray(slot * capacity, (slot + 1) * capacity));
        const end = marks.lastIndexOf(1) + 1;
        if ((rows[slot] ?? 1) === 1) expect(end).toBe(0);
        // Each position once it is known to stay, and none but those: the last step began at the position behind them.
        else expect(marks).toEqual(Array.from(marks, (_, at) => Number(at >= position - 1 && at < end)));
        expect(end).toBeLessThan(positions[slot] ?? 0);
      }
    }
  });
});

it("every count of kept tokens occurred at many places", () => {
  const seen = [...counts].sort(([a], [b]) => a - b).map(([kept, places]) => `${kept} kept at ${places.size} places`);
  console.log(seen.join(", "));
  expect([...counts.keys()].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4]);
  for (const places of counts.values()) expect(places.size).toBeGreaterThan(onGpu ? 5 : 30);
});

it("other drafts follow without the host as long as the heads have read what they need", async () => {
  const madeUp = new MadeUp(starts, 0.4, 9);
  const { steady } = madeUp;
  const positions = starts.map(({ position }) => position);
  const [long, short, plain, one] = [
    [4, 4, 4],
    [2, 3, 2],
    [1, 1, 1],
    [1, 4, 1],
  ].map(layoutOf) as [SteadyLayout, SteadyLayout, SteadyLayout, SteadyLayout];
  expect(steady.follows(plain)).toBe(false); // nobody has said where the texts stand
  steady.settle(starts.map((start, slot) => standing(start, slot)));
  await follow(madeUp, long, positions, 3);
  expect([long, short, plain].map((layout) => steady.follows(layout))).toEqual([true, true, true]);
  await follow(madeUp, short, positions, 2);
  expect(steady.follows(long)).toBe(false); // head 4 has read too little
  expect(steady.follows(plain)).toBe(true);
  await follow(madeUp, plain, positions, 2);
  expect(steady.follows(one)).toBe(false);
  steady.settle(positions.map((position, slot) => ({ slot, position, kept: 1, place: slot })));
  await follow(madeUp, one, positions, 3);
  steady.interrupt();
  expect(steady.follows(one)).toBe(false);
  madeUp.dispose();
});

it("a text's last token may come from anywhere in the pool", async () => {
  const madeUp = new MadeUp(starts.slice(0, 2), 0.4, 11);
  const positions = [30, 40];
  const tokens = positions.map((at, slot) => madeUp.texts[slot]?.[at] ?? 0);
  madeUp.pool.write(tokens, 5);
  madeUp.steady.settle(positions.map((position, slot) => ({ slot, position, kept: 0, place: 5 + slot })));
  await follow(madeUp, layoutOf([3, 2]), positions, 4);
  madeUp.dispose();
});
