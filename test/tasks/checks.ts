// What holds for every task.
import { expect } from "vitest";
import type { Split, Task, TaskSequence } from "../../lib/tasks/task.js";

const show = ({ tokens }: TaskSequence): string => tokens.join(" ");

/** Sequences are well formed, come again from their seed, differ with it, and no split has one of the other's. */
export function checkTask(task: Task, count: number): void {
  expect(task.tokenNames).toHaveLength(task.vocabSize);
  expect(new Set(task.tokenNames).size).toBe(task.vocabSize);
  const drawn = (split: Split, seed: number, most = count): TaskSequence[] => [
    ...task.sequences(split, { seed, count: most }),
  ];
  const [train, evaluated] = [drawn("train", 1), drawn("eval", 1)];
  for (const sequence of [...train, ...evaluated]) checkSequence(task, sequence);
  expect(train).toHaveLength(count);
  expect(drawn("train", 1)).toEqual(train);
  expect(drawn("train", 1, 3)).toEqual(train.slice(0, 3));
  expect(drawn("train", 2).map(show)).not.toEqual(train.map(show));
  const seen = new Set([...train, ...drawn("train", 2)].map(show));
  expect([...evaluated, ...drawn("eval", 2)].filter((sequence) => seen.has(show(sequence)))).toEqual([]);
}

function checkSequence(task: Task, { tokens, judged, lossMask }: TaskSequence): void {
  expect(tokens.length).toBeLessThanOrEqual(task.maxLength);
  expect(judged).toHaveLength(tokens.length);
  expect(tokens.every((token) => token >= 0 && token < task.vocabSize)).toBe(true);
  expect(judged.every((mark) => mark === 0 || mark === 1)).toBe(true);
  if (!lossMask) return;
  expect(lossMask).toHaveLength(tokens.length);
  expect(judged.every((mark, i) => mark <= (lossMask[i] ?? 0))).toBe(true);
}
