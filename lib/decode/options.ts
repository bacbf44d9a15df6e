// How text is drawn, and what is refused.
import type { z } from "zod";
import { ForetokenError } from "../errors.js";
import type { LanguageModel } from "../mtp/model.js";
import { lazySchema, parseOptions } from "../validation.js";
import type { DraftPredictor } from "./drafts.js";
import type { DecodeStep } from "./sequence.js";
import { checkTree, DraftShape, type DraftTree } from "./tree.js";

export interface GenerateOptions {
  /** Default 200. */
  maxNewTokens?: number | undefined;
  /** 0: always the likeliest token. Default 0. */
  temperature?: number | undefined;
  /** Only the k likeliest tokens; 0: all. Default 0. */
  topK?: number | undefined;
  /** Only the likeliest tokens that together have this probability. Default 1. */
  topP?: number | undefined;
  /** The same seed draws the same text, whatever else is decoded beside it and however it is speculated. Default 0. */
  seed?: number | undefined;
  /** Texts of one seed and different requests are independent. Default 0; in a batch the request's number in it. */
  request?: number | undefined;
  /** Ends the text before any of these. */
  stop?: string | readonly string[] | undefined;
  /**
   * How many tokens a forward may add: k of them, the first by head 1 and the others proposed by heads 2 to k and accepted
   * where head 1 agrees (arXiv 1811.03115); "off": one; "auto": as many as pay on this device and text. The text is the
   * same in each case. Default "auto".
   */
  speculate?: number | "off" | "auto" | undefined;
  /** Who proposes instead of the model's own heads. */
  draft?: DraftPredictor | undefined;
  /**
   * The heads propose several tokens for a place, and head 1 judges all of these continuations in one forward (Medusa,
   * arXiv 2401.10774); see {@link DraftTree}. A number for `speculate` cuts it at the depth k − 1; "auto" takes as many of its
   * nodes, from the first on, as pay. `fitTree` finds one. The text is the same. Default: the likeliest of each head alone.
   */
  tree?: DraftTree | undefined;
  /**
   * When a proposed token is kept, at temperatures above 0. "exact": when it is the one that head 1 draws: the text of plain
   * decoding, token for token. "rejection": with the probability that leaves head 1's distribution as it is: more are kept,
   * and another text comes out for a seed (arXiv 2211.17192). "typical": when head 1 finds it likely enough: lossy, the text
   * no longer follows the model's distribution (arXiv 2401.10774). With these two a seed repeats its text for a fixed
   * `speculate` alone. Default "exact".
   */
  verify?: Verification | undefined;
  /**
   * What happens at the end of the model's context. "stop": a longer prompt is an error, and the text ends there. "slide":
   * the later half of the context becomes the start of a new one, read afresh. Default "stop".
   */
  context?: "stop" | "slide" | undefined;
  signal?: AbortSignal | undefined;
  /** How many tokens of the prompt are read at once; the text does not depend on it. Default 64. */
  promptChunk?: number | undefined;
  /** Called after each forward that added tokens, before they are yielded. */
  onStep?: ((step: DecodeStep) => void) | undefined;
}

export type Verification = (typeof verifications)[number];
const verifications = ["exact", "rejection", "typical"] as const;

const schema = lazySchema((z) =>
  z.strictObject({
    maxNewTokens: z.int().nonnegative().default(200),
    temperature: z.number().nonnegative().default(0),
    topK: z.int().nonnegative().default(0),
    topP: z.number().positive().max(1).default(1),
    seed: z.int().default(0),
    request: z.int().nonnegative().max(0x7fffffff).default(0),
    stop: z.union([z.string().min(1), z.array(z.string().min(1))]).default([]),
    speculate: z.union([z.enum(["off", "auto"]), z.int().positive()]).default("auto"),
    draft: z.custom<DraftPredictor>(isPredictor, "a DraftPredictor").optional(),
    tree: z.array(z.array(z.number())).optional(),
    verify: z.enum(verifications).default("exact"),
    context: z.enum(["stop", "slide"]).default("stop"),
    signal: z.instanceof(AbortSignal).optional(),
    promptChunk: z.int().positive().default(64),
    onStep: z.custom<(step: DecodeStep) => void>((value) => typeof value === "function", "a function").optional(),
  }),
);

export type GenerateSettings = z.output<ReturnType<typeof schema>>;

/** Fills in defaults. Throws BAD_OPTION naming the option and what was given. */
export function resolveGenerateOptions(options: GenerateOptions): GenerateSettings {
  return parseOptions(schema(), options, "BAD_OPTION", "generate");
}

/** What is proposed per step at most. Throws BAD_OPTION for more than the model's heads, or `draft`, can. */
export function draftShape(model: LanguageModel, settings: GenerateSettings): DraftShape {
  const { speculate, draft, tree } = settings;
  const possible = draft ? draft.longest : model.heads.length - 1;
  if (typeof speculate === "number" && speculate > possible + 1) {
    const who = draft ? "what the draft predictor can propose, and head 1" : "the model's prediction heads";
    refuse("speculate", `"off", "auto" or 1 to ${possible + 1} (${who})`, String(speculate));
  }
  const longest = speculate === "off" ? 0 : speculate === "auto" ? possible : speculate - 1;
  if (!tree) return DraftShape.chain(longest);
  if (draft) refuse("tree", "no tree where `draft` proposes one token after the other", "both");
  if (model.config.trunk === "rnn")
    refuse("tree", "no tree with an RNN trunk, which reads one position after the other", "a tree");
  if (settings.verify !== "exact" && settings.temperature > 0) {
    refuse("tree", 'verify "exact", or temperature 0', `verify "${settings.verify}"`);
  }
  checkTree(tree, { heads: model.heads.length, vocabSize: model.config.vocabSize });
  return new DraftShape(tree).upTo(longest);
}

function refuse(argument: string, wanted: string, got: string): never {
  throw new ForetokenError("BAD_OPTION", { op: "generate", argument, wanted, got });
}

function isPredictor(value: unknown): boolean {
  return typeof value === "object" && value !== null && "open" in value && typeof value.open === "function";
}
