// How text is drawn, and what is refused.
import type { z } from "zod";
import { lazySchema, parseOptions } from "../validation.js";

export interface GenerateOptions {
  /** Default 200. */
  maxNewTokens?: number | undefined;
  /** 0: always the likeliest token. Default 0. */
  temperature?: number | undefined;
  /** Only the k likeliest tokens; 0: all. Default 0. */
  topK?: number | undefined;
  /** Only the likeliest tokens that together have this probability. Default 1. */
  topP?: number | undefined;
  /** The same seed draws the same text. Default 0. */
  seed?: number | undefined;
  /** Ends the text before any of these. */
  stop?: string | readonly string[] | undefined;
  /** "auto": the fastest way to the same text that this version has, which is head 1 alone, as "off". Default "auto". */
  speculate?: "off" | "auto" | undefined;
  signal?: AbortSignal | undefined;
  /** How many tokens of the prompt are read at once; the text does not depend on it. Default 64. */
  promptChunk?: number | undefined;
}

const schema = lazySchema((z) =>
  z.strictObject({
    maxNewTokens: z.int().nonnegative().default(200),
    temperature: z.number().nonnegative().default(0),
    topK: z.int().nonnegative().default(0),
    topP: z.number().positive().max(1).default(1),
    seed: z.int().default(0),
    stop: z.union([z.string().min(1), z.array(z.string().min(1))]).default([]),
    speculate: z.enum(["off", "auto"]).default("auto"),
    signal: z.instanceof(AbortSignal).optional(),
    promptChunk: z.int().positive().default(64),
  }),
);

export type GenerateSettings = z.output<ReturnType<typeof schema>>;

/** Fills in defaults. Throws BAD_OPTION naming the option and what was given. */
export function resolveGenerateOptions(options: GenerateOptions): GenerateSettings {
  return parseOptions(schema(), options, "BAD_OPTION", "generate");
}
