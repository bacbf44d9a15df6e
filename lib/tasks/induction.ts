// Stories in which names of two tokens come back: who has read a name once can complete it.
import { checkOptions } from "../errors.js";
import { entropy } from "./entropy.js";
import type { Random } from "./random.js";
import { type Bayes, checkSize, drawSequences, type Task, type TaskSequence } from "./task.js";

export interface InductionOptions {
  /** Tokens of a story. Default 48. */
  readonly length?: number | undefined;
  /** Kinds of tokens between names. Default 16. */
  readonly backgroundTokens?: number | undefined;
  /** Tokens that a name may begin with. Default 8. */
  readonly firstTokens?: number | undefined;
  /** Tokens that a name may end with. Default 24. */
  readonly secondTokens?: number | undefined;
  /** Names of a story, no two of which share a token. Default 3. */
  readonly names?: number | undefined;
  /** At each place a name is mentioned once in so many. Default 3. */
  readonly mentionEvery?: number | undefined;
}

export interface InductionTask extends Task {
  bayes(futureTokens: number): Bayes;
  /** Of the same predictor, on judged targets alone; 0 for head 1. Nats. */
  judgedLosses(futureTokens: number): number[];
}

type Settings = { readonly [Name in keyof InductionOptions]-?: number };

/**
 * Induction (arXiv 2404.19737, section 4.1): a story has a cast of names, each a first and a second token, drawn anew for
 * every story. At each place it says, with probability 1/mentionEvery, a name of the cast, each as likely, else a background
 * token; it is cut off at `length`. Judged is the second token of a name that was mentioned in full before.
 *
 * The Bayes losses are exact: all that a reader of the story can use is how many names are known and whether one is being
 * said, and the distribution of that at each position is a sum over few states.
 *
 * @example
 * const task = induction();
 * task.bayes(4).losses; // what a perfect reader pays, head by head
 */
export function induction(options: InductionOptions = {}): InductionTask {
  const name = "induction";
  const settings = checkedSettings(name, options);
  const { length, backgroundTokens, firstTokens, secondTokens } = settings;
  const reader = new Reader(settings);
  return {
    name,
    source: "arXiv 2404.19737, section 4.1",
    vocabSize: backgroundTokens + firstTokens + secondTokens,
    tokenNames: [
      ...Array.from({ length: backgroundTokens }, (_, i) => `w${i}`),
      ...Array.from({ length: firstTokens }, (_, i) => `A${i}`),
      ...Array.from({ length: secondTokens }, (_, i) => `B${i}`),
    ],
    maxLength: length,
    *sequences(split, draws = {}) {
      const draw = (random: Random): TaskSequence => drawStory(random, settings);
      yield* drawSequences(name, split, draws, draw, ({ tokens }) => tokens);
    },
    bayes: (futureTokens) => reader.bayes(futureTokens),
    judgedLosses: (futureTokens) => reader.judgedLosses(futureTokens),
  };
}

function checkedSettings(task: string, options: InductionOptions): Settings {
  const defaults = { length: 48, backgroundTokens: 16, firstTokens: 8, secondTokens: 24, names: 3, mentionEvery: 3 };
  checkOptions(task, options, Object.keys(defaults));
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const settings: Settings = { ...defaults, ...given };
  checkSize(task, "length", settings.length, 2);
  checkSize(task, "backgroundTokens", settings.backgroundTokens, 1);
  checkSize(task, "mentionEvery", settings.mentionEvery, 2);
  checkSize(task, "names", settings.names, 1);
  checkSize(task, "firstTokens", settings.firstTokens, settings.names);
  checkSize(task, "secondTokens", settings.secondTokens, settings.names);
  return settings;
}

function drawStory(random: Random, settings: Settings): TaskSequence {
  const { length, backgroundTokens, firstTokens, secondTokens, names, mentionEvery } = settings;
  const firsts = random.shuffle(range(backgroundTokens, firstTokens)).slice(0, names);
  const seconds = random.shuffle(range(backgroundTokens + firstTokens, secondTokens)).slice(0, names);
  const tokens: number[] = [];
  const judged: number[] = [];
  const known = new Set<number>();
  while (tokens.length < length) {
    if (random.below(mentionEvery) > 0) {
      tokens.push(random.below(backgroundTokens));
      judged.push(0);
      continue;
    }
    const name = random.below(names);
    tokens.push(firsts[name] ?? 0, seconds[name] ?? 0);
    judged.push(0, known.has(name) ? 1 : 0);
    known.add(name);
  }
  return { tokens: Int32Array.from(tokens.slice(0, length)), judged: Uint8Array.from(judged.slice(0, length)) };
}

const range = (start: number, count: number): number[] => Array.from({ length: count }, (_, i) => start + i);

/** What a reader knows at a position: names seen in full, and what the last token was part of. */
interface State {
  readonly known: number;
  readonly last: "whole" | "known name" | "new name";
}

/** So many tokens, each of this probability. */
type Class = readonly [count: number, probability: number];

/** Targets of one kind as the reader sees them before: how often they come, and the probability given to each. */
interface Judged {
  readonly share: number;
  readonly probability: number;
}

/** The predictor that knows how stories are made. */
class Reader {
  /** Probability that a place mentions a name. */
  private readonly mention: number;

  constructor(private readonly settings: Settings) {
    this.mention = 1 / settings.mentionEvery;
  }

  bayes(futureTokens: number): Bayes {
    const heads = range(1, futureTokens);
    const mean = (value: (classes: readonly Class[]) => number): number[] =>
      heads.map((head) => this.mean(head, (state) => value(this.classes(state, head))));
    return {
      losses: mean((classes) => classes.reduce((sum, [count, p]) => sum + count * entropy([p]), 0)),
      accuracies: mean((classes) => Math.max(...classes.map(([, p]) => p))),
    };
  }

  judgedLosses(futureTokens: number): number[] {
    return range(1, futureTokens).map((head) => {
      const sum = (value: (judged: Judged) => number): number =>
        this.mean(head, (state) => this.judged(state, head).reduce((total, each) => total + value(each), 0));
      const nats = sum(({ share, probability }) => (share > 0 ? -share * Math.log(probability) : 0));
      return nats / sum(({ share }) => share);
    });
  }

  /** The mean over the positions that head has targets at, of a value of the state there. */
  private mean(head: number, value: (state: State) => number): number {
    const positions = this.settings.length - head;
    let states = this.step([[{ known: 0, last: "whole" }, 1]]);
    let sum = 0;
    for (let t = 0; t < positions; t++) {
      for (const [state, p] of states) sum += (p * value(state)) / positions;
      states = this.step(states);
    }
    return sum;
  }

  /** States one token later; equal ones are one. */
  private step(states: readonly (readonly [State, number])[]): (readonly [State, number])[] {
    const { names } = this.settings;
    const later = new Map<string, readonly [State, number]>();
    const add = (state: State, p: number): void => {
      const key = `${state.last} ${state.known}`;
      if (p > 0) later.set(key, [state, p + (later.get(key)?.[1] ?? 0)]);
    };
    for (const [{ known, last }, p] of states) {
      if (last !== "whole") {
        add({ known: last === "new name" ? known + 1 : known, last: "whole" }, p);
        continue;
      }
      add({ known, last }, p * (1 - this.mention));
      add({ known, last: "known name" }, (p * this.mention * known) / names);
      add({ known, last: "new name" }, (p * this.mention * (names - known)) / names);
    }
    return [...later.values()];
  }

  /** The distribution of the token `head` places on. */
  private classes(state: State, head: number): Class[] {
    const { backgroundTokens, firstTokens, secondTokens, names } = this.settings;
    const { known, last } = state;
    if (head === 1 && last === "known name") return [[1, 1]];
    if (head === 1 && last === "new name") return [[secondTokens - known, 1 / (secondTokens - known)]];
    const [begins, ends] = this.places(state, head);
    const begun = known + (last === "new name" ? 1 : 0); // names whose first token is known
    return [
      [backgroundTokens, (begins * (1 - this.mention)) / backgroundTokens],
      [begun, (begins * this.mention) / names],
      ...shared(firstTokens - begun, (begins * this.mention * (names - begun)) / names),
      [known, ends / names],
      ...shared(secondTokens - known, (ends * (names - known)) / names),
    ].filter(([count, p]) => count > 0 && p > 0) as Class[];
  }

  /** Judged targets `head` places on: of names that are known now, and of such as will be by then. */
  private judged(state: State, head: number): Judged[] {
    const { secondTokens, names } = this.settings;
    const { known, last } = state;
    if (head === 1) return last === "known name" ? [{ share: 1, probability: 1 }] : [];
    const [, ends] = this.places(state, head);
    const ofOthers = (ends * (names - known)) / names;
    let states: (readonly [State, number])[] = [[state, 1]];
    for (let i = 1; i < head; i++) states = this.step(states);
    const firstMention = states.reduce((sum, [{ last }, p]) => sum + (last === "new name" ? p : 0), 0);
    return [
      { share: (ends * known) / names, probability: ends / names },
      // What sums of thirds leave of nothing is nothing.
      { share: Math.max(0, ofOthers - firstMention), probability: ofOthers / (secondTokens - known) },
    ];
  }

  /** Probabilities that the token `head` places on begins a place of the story, and that it ends a name begun later. */
  private places({ last }: State, head: number): readonly [begins: number, ends: number] {
    // A place begins where a background token or a name ended before: b(i) = (1−p)·b(i−1) + p·b(i−2).
    let [before, begins] = [0, last === "whole" ? 1 : 0];
    for (let i = 1; i < head; i++) {
      const certain = i === 1 && last !== "whole"; // the name that is being said ends
      [before, begins] = [begins, certain ? 1 : (1 - this.mention) * begins + this.mention * before];
    }
    return [begins, head === 1 ? 0 : this.mention * before];
  }
}

function shared(count: number, probability: number): Class[] {
  return count > 0 ? [[count, probability / count]] : [];
}
