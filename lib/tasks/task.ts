// What every task is: sequences drawn from a seed, in two splits that share none, and what is known of them exactly.
import { ForetokenError } from "../errors.js";
import { SequenceDataset } from "../io/sequence-dataset.js";
import { hash32 } from "../io/shuffle.js";
import { Random } from "./random.js";

export type Split = "train" | "eval";

export interface TaskSequence {
  /** (S). */
  readonly tokens: Int32Array;
  /** (S): 0 where a token is no target. Absent: all are. */
  readonly lossMask?: Uint8Array | undefined;
  /** (S): 1 where a token is what the task asks for, and accuracy is measured. */
  readonly judged: Uint8Array;
}

/** A question and its answer. */
export interface PromptedSequence extends TaskSequence {
  /** Tokens of the question: the answer is the rest. */
  readonly promptLength: number;
}

export interface DrawOptions {
  /** Default 0. */
  readonly seed?: number | undefined;
  /** Default: all sequences of a task that has finitely many, else no end. */
  readonly count?: number | undefined;
}

/**
 * What a predictor that knows the generator pays and gets, per head, head 1 first: means over the head's targets, NaN
 * where they are not known.
 */
export interface Bayes {
  /** Nats. */
  readonly losses: readonly number[];
  readonly accuracies: readonly number[];
}

export interface Task<Sequence extends TaskSequence = TaskSequence> {
  readonly name: string;
  /** Where it comes from: arXiv id and section. */
  readonly source: string;
  readonly vocabSize: number;
  /** (V): how each token is shown. */
  readonly tokenNames: readonly string[];
  /** Tokens of the longest sequence; a context of one less shows all of its targets. */
  readonly maxLength: number;
  /** How many sequences there are, where they can all be listed. */
  readonly sizes?: Readonly<Record<Split, number>> | undefined;
  /** Sequence i is a function of (split, seed, i); no sequence is in both splits. */
  sequences(split: Split, options?: DrawOptions): Generator<Sequence, void, undefined>;
  /** Exact, where that is known: of the process, or of the split where the two differ. */
  bayes?(futureTokens: number, split?: Split): Bayes;
}

export interface TaskDatasetOptions extends DrawOptions {
  /** What losses and accuracies are means over: the task's own targets, or what it judges only. Default: "task". */
  readonly targets?: "task" | "judged" | undefined;
  /** As of `SequenceDataset`. */
  readonly cropped?: boolean | undefined;
  readonly packed?: boolean | undefined;
}

/**
 * A task's sequences as a dataset for the trainer, each a row of its own.
 *
 * @example
 * const task = induction();
 * const trainer = new Trainer(model, { data: taskDataset(task, "train", { count: 10_000 }) });
 * const judged = await evaluate(model, taskDataset(task, "eval", { count: 500, targets: "judged" }));
 */
export function taskDataset(task: Task, split: Split, options: TaskDatasetOptions = {}): SequenceDataset {
  const { seed, count = task.sizes?.[split], targets = "task", cropped, packed } = options;
  if (count === undefined) {
    const wanted = "a number: the task has no end";
    throw new ForetokenError("BAD_OPTION", { op: task.name, argument: "count", wanted, got: "none" });
  }
  const items = Array.from(task.sequences(split, { seed, count }), ({ tokens, lossMask, judged }) => ({
    tokens,
    lossMask: targets === "judged" ? judged : lossMask,
  }));
  return new SequenceDataset(items, { vocabSize: task.vocabSize, cropped, packed });
}

export interface Grade {
  /** The first judged token is right. */
  readonly first: boolean;
  /** All judged tokens are. */
  readonly whole: boolean;
}

/** Of an answer as a model wrote it behind the prompt: judged tokens that are missing are wrong. */
export function gradeAnswer({ tokens, judged, promptLength }: PromptedSequence, answer: ArrayLike<number>): Grade {
  const marked = Array.from(tokens.keys()).filter((t) => judged[t] === 1);
  const right = marked.map((t) => answer[t - promptLength] === tokens[t]);
  return { first: right[0] === true, whole: right.every(Boolean) };
}

/** One sequence in so many is held out. */
export const heldOutShare = 8;
const mostAttempts = 10_000;

/**
 * Draws sequences of one split: a hash of what identifies a sequence decides on which side it lies, and what lies on the
 * other is drawn again. So both splits are the process itself, cut at random: knowing the cut is worth at most the entropy
 * of one draw of 1 in 8, 0.377 nats a sequence. Errors: BAD_CONFIG when nothing falls on this side.
 */
export function* drawSequences<Sequence>(
  task: string,
  split: Split,
  { seed = 0, count = Infinity }: DrawOptions,
  draw: (random: Random) => Sequence,
  identify: (sequence: Sequence) => ArrayLike<number>,
): Generator<Sequence, void, undefined> {
  for (let index = 0; index < count; index++) yield drawOne(index);

  function drawOne(index: number): Sequence {
    for (let attempt = 0; attempt < mostAttempts; attempt++) {
      const sequence = draw(new Random([seed, split === "train" ? 0 : 1, index, attempt]));
      if (splitOf(identify(sequence)) === split) return sequence;
    }
    throw new ForetokenError("BAD_CONFIG", `no sequence for the ${split} split in ${mostAttempts} draws`, {
      op: task,
      remedy: "Settings of more variety leave some on either side.",
    });
  }
}

/** The side on which what these numbers identify lies, in every run. */
export function splitOf(identity: ArrayLike<number>): Split {
  return hash32(identity.length, ...Array.from(identity)) % heldOutShare === 0 ? "eval" : "train";
}

/** Throws BAD_OPTION unless `value` is an integer in least..most. */
export function checkSize(task: string, argument: string, value: number, least: number, most = 2 ** 31 - 1): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return;
  const wanted = most === 2 ** 31 - 1 ? `an integer ≥ ${least}` : `an integer from ${least} to ${most}`;
  throw new ForetokenError("BAD_OPTION", { op: task, argument, wanted, got: String(value) });
}
