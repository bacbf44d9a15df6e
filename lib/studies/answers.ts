// What a model answers: prompts of a task, head 1 writing on alone, each answer graded against the task's own.
import { generateBatch, type BatchPrompt } from "../decode/batch.js";
import type { LanguageModel } from "../mtp/model.js";
import { gradeAnswer, type PromptedSequence } from "../tasks/task.js";
import { meanOf } from "./statistics.js";

/** Shares of right answers. */
export interface AnswerShares {
  /** Whose first judged token is right. */
  readonly first: number;
  /** All of whose judged tokens are. */
  readonly whole: number;
  /** Of judged tokens. */
  readonly tokens: number;
}

/** Greedy answers of head 1, which reads what it wrote. Rejects with ABORTED when the signal comes. */
export async function gradeAnswers(
  model: LanguageModel,
  questions: readonly PromptedSequence[],
  signal?: AbortSignal,
): Promise<AnswerShares> {
  const prompts = questions.map(({ tokens, promptLength }): BatchPrompt => ({
    prompt: tokens.subarray(0, promptLength),
    maxNewTokens: tokens.length - promptLength,
  }));
  const answers = questions.map((): number[] => []);
  const settings = { slots: 64, speculate: "off", signal } as const;
  for await (const { request, tokens } of generateBatch(model, prompts, settings)) {
    answers[request]?.push(...tokens.map(({ token }) => token));
  }
  return sharesOf(questions, answers);
}

/** Of answers as they were written behind the prompts. */
export function sharesOf(
  questions: readonly PromptedSequence[],
  answers: readonly (readonly number[])[],
): AnswerShares {
  const grades = questions.map((question, i) => gradeAnswer(question, answers[i] ?? []));
  const right = questions.flatMap(({ tokens, judged, promptLength }, i) =>
    Array.from(tokens.keys())
      .filter((t) => judged[t] === 1)
      .map((t) => Number(answers[i]?.[t - promptLength] === tokens[t])),
  );
  return {
    first: meanOf(grades.map(({ first }) => Number(first))),
    whole: meanOf(grades.map(({ whole }) => Number(whole))),
    tokens: meanOf(right),
  };
}
