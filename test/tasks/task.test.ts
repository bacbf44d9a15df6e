// What tasks are drawn with, and how they reach the trainer.
import { describe, expect, test } from "vitest";
import { openDevice } from "../../lib/device.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { evaluate } from "../../lib/train/evaluate.js";
import { Trainer } from "../../lib/train/trainer.js";
import {
  choicePoints,
  gradeAnswer,
  induction,
  polynomialArithmetic,
  Random,
  taskDataset,
} from "../../lib/tasks/index.js";
import { drawSequences, splitOf } from "../../lib/tasks/task.js";

describe("Random", () => {
  test.each([2, 6, 7, 50])("below(%i) has every number alike", (limit) => {
    const random = new Random([5, 1]);
    const counts = new Array<number>(limit).fill(0);
    const draws = 2000 * limit;
    for (let i = 0; i < draws; i++) {
      const drawn = random.below(limit);
      counts[drawn] = (counts[drawn] ?? 0) + 1;
    }
    expect(counts).toHaveLength(limit);
    const chi2 = counts.reduce((sum, count) => sum + (count - 2000) ** 2 / 2000, 0);
    const k = limit - 1;
    expect(chi2).toBeLessThan(k + 4 * Math.sqrt(2 * k) + 6);
    expect(chi2).toBeGreaterThan(0);
  });

  test("shuffle gives every order alike, and leaves its argument as it was", () => {
    const random = new Random([9]);
    const values = [0, 1, 2];
    const counts = new Map<string, number>();
    for (let i = 0; i < 6000; i++) {
      const order = random.shuffle(values).join("");
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(values).toEqual([0, 1, 2]);
    expect(counts.size).toBe(6);
    const chi2 = [...counts.values()].reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
    expect(chi2).toBeLessThan(20.5); // χ²₅, p = 0.001
  });

  test("is its key's: the same again, others with another", () => {
    const drawn = (...key: number[]): number[] => {
      const random = new Random(key);
      return Array.from({ length: 8 }, () => random.below(1000));
    };
    expect(drawn(1, 2)).toEqual(drawn(1, 2));
    expect(new Set([drawn(1, 2), drawn(2, 1), drawn(1, 3), drawn(1 + 2 ** 32, 2)].map(String)).size).toBe(4);
    expect(() => new Random([0]).pick([])).toThrow(expect.objectContaining({ code: "BAD_ARGUMENT" }));
  });
});

describe("splits", () => {
  test("hold one in eight out", () => {
    const held = Array.from({ length: 8000 }, (_, i) => splitOf([i, 3])).filter((split) => split === "eval");
    expect(Math.abs(held.length - 1000)).toBeLessThan(4 * Math.sqrt(8000 * (1 / 8) * (7 / 8)));
  });

  test("a task all of whose sequences lie on one side says so", () => {
    const draw = (): number[] => [1];
    const other = splitOf([1]) === "train" ? "eval" : "train";
    const drawn = drawSequences("one", other, { count: 1 }, draw, (sequence) => sequence);
    expect(() => drawn.next()).toThrow(expect.objectContaining({ code: "BAD_CONFIG", op: "one" }));
  });
});

describe("taskDataset", () => {
  const task = polynomialArithmetic({ operations: [1, 2], pauseTokens: 1 });
  const shape = { batchSize: 4, contextLength: task.maxLength - 1, lookahead: 2 };

  test("asks for a count where a task has no end", () => {
    expect(() => taskDataset(task, "train")).toThrow(
      expect.objectContaining({ code: "BAD_OPTION", argument: "count" }),
    );
  });

  test("takes all sequences of a task that has finitely many", () => {
    const finite = { ...task, sizes: { train: 7, eval: 3 } };
    expect(taskDataset(finite, "eval").documentCount).toBe(3);
    expect(taskDataset(finite, "train", { count: 2 }).documentCount).toBe(2);
  });

  test("targets are the task's, or what it judges", () => {
    const stories = induction({ length: 12 });
    const options = { count: 6, seed: 4 } as const;
    const [all] = taskDataset(stories, "eval", options).evalBatches({ ...shape, batchSize: 6 });
    const [judged] = taskDataset(stories, "eval", { ...options, targets: "judged" }).evalBatches({
      ...shape,
      batchSize: 6,
    });
    const columns = shape.contextLength + 2;
    for (const [row, sequence] of [...stories.sequences("eval", options)].entries()) {
      for (const [t, token] of sequence.tokens.entries()) {
        expect(all?.targets[row * columns + t]).toBe(token);
        expect(judged?.targets[row * columns + t]).toBe(sequence.judged[t] ? token : -100);
      }
    }
  });
});

describe("gradeAnswer", () => {
  // start 4, goal 9; the path's first node is a copy of the question and not judged
  const sequence = {
    tokens: Int32Array.of(7, 4, 9, 4, 5, 6, 9),
    judged: Uint8Array.of(0, 0, 0, 0, 1, 1, 1),
    promptLength: 3,
  };
  test.each<[string, number[], boolean, boolean]>([
    ["all right", [4, 5, 6, 9], true, true],
    ["right with more behind it", [4, 5, 6, 9, 1], true, true],
    ["wrong where nothing is judged", [0, 5, 6, 9], true, true],
    ["wrong at the first step", [4, 1, 6, 9], false, false],
    ["wrong at the end", [4, 5, 6, 1], true, false],
    ["too short", [4, 5, 6], true, false],
    ["nothing", [], false, false],
  ])("%s", (_, answer, first, whole) => {
    expect(gradeAnswer(sequence, answer)).toEqual({ first, whole });
  });
});

describe("the trainer", () => {
  test("learns choice points down to near the Bayes loss of every head, and never below", async () => {
    const task = choicePoints({ branches: 3, tailLength: 2, length: 24 });
    const config = { vocabSize: task.vocabSize, hiddenSize: 32, intermediateSize: 64, trunkLayers: 1 };
    using model = LanguageModel.create(
      { ...config, numAttentionHeads: 2, maxPositions: 23, futureTokens: 3 },
      { device: openDevice("cpu"), dtype: "f32", seed: 1 },
    );
    const data = taskDataset(task, "train", { count: 4000 });
    await new Trainer(model, { data, steps: 120, batchSize: 16, learningRate: 1e-2, weightDecay: 0 }).run();
    const { losses } = await evaluate(model, taskDataset(task, "eval", { count: 300 }));
    const floors = task.bayes(3).losses;
    for (const [i, floor] of floors.entries()) {
      expect((losses[i] ?? NaN) - floor).toBeGreaterThan(-0.005); // of 300 sequences no two ways need be as frequent
      expect((losses[i] ?? NaN) - floor).toBeLessThan(0.02);
    }
  });
});
