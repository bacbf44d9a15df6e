// Many texts at once: requests come and go between steps, and each gets the text that it would get alone.
import { ForetokenError } from "../errors.js";
import type { LanguageModel } from "../mtp/model.js";
import { DecodeEngine } from "./engine.js";
import { promptTokens, throwIfAborted } from "./generate.js";
import { draftShape, resolveGenerateOptions, type GenerateOptions, type GenerateSettings } from "./options.js";
import type { DecodeStep, Ending, GeneratedToken, Sequence } from "./sequence.js";
import { TextWriter } from "./text.js";

/** A prompt, or a prompt with settings of its own; the rest is as in the batch's options. */
export type BatchRequest = string | readonly number[] | Int32Array | BatchPrompt;

export interface BatchPrompt extends Pick<
  GenerateOptions,
  "maxNewTokens" | "temperature" | "topK" | "topP" | "seed" | "request" | "stop" | "context" | "signal"
> {
  readonly prompt: string | readonly number[] | Int32Array;
}

export interface BatchOptions extends GenerateOptions {
  /** Texts in the making at once; others wait, in order. Default 8. */
  slots?: number | undefined;
}

/** What one step added to one request's text. */
export interface BatchPiece {
  /** Which request: its place in the batch, from 0. */
  readonly request: number;
  readonly tokens: readonly GeneratedToken[];
  /** Whole characters; "" for a model without a tokenizer. */
  readonly text: string;
  /** Why the request's text ended, in its last piece. */
  readonly finished?: Ending | "stop" | "aborted" | undefined;
}

interface Running {
  readonly index: number;
  readonly settings: GenerateSettings;
  readonly sequence: Sequence;
  readonly writer: TextWriter | undefined;
}

/**
 * Texts of many requests, piece by piece as they grow. `requests` may be an async iterable: what arrives takes part from
 * the next step on, as soon as a slot is free. Request i's text is that of `generate` with `request: i`, whatever is decoded
 * beside it.
 * Throws as `generateTokens`; a request whose own signal is aborted ends alone, with `finished: "aborted"`.
 *
 * @example
 * for await (const { request, text } of generateBatch(model, ["function ", "class "], { maxNewTokens: 40 })) texts[request] += text;
 */
export async function* generateBatch(
  model: LanguageModel,
  requests: Iterable<BatchRequest> | AsyncIterable<BatchRequest>,
  options: BatchOptions = {},
): AsyncGenerator<BatchPiece, void, undefined> {
  const { slots = 8, ...shared } = options;
  if (!Number.isSafeInteger(slots) || slots < 1) {
    const details = { op: "generateBatch", argument: "slots", wanted: "a whole number above 0", got: String(slots) };
    throw new ForetokenError("BAD_OPTION", details);
  }
  const settings = resolveGenerateOptions(shared);
  const engine = new DecodeEngine(model, {
    slots,
    capacity: model.config.maxPositions,
    shape: draftShape(model, settings),
    adaptive: settings.speculate === "auto",
    draft: settings.draft,
    promptChunk: settings.promptChunk,
    verify: settings.verify,
  });
  const arrivals = new Arrivals(requests);
  const running = new Map<Sequence, Running>();
  try {
    for (;;) {
      throwIfAborted(settings.signal);
      while (engine.hasRoom) {
        const arrived = await arrivals.next(running.size === 0);
        if (!arrived) break;
        const started = start(model, engine, arrived, shared);
        running.set(started.sequence, started);
      }
      if (running.size === 0) return;
      for (const [sequence, { index, settings }] of running) {
        if (settings.signal?.aborted !== true) continue;
        engine.release(sequence);
        running.delete(sequence);
        yield { request: index, tokens: [], text: "", finished: "aborted" };
      }
      for (const piece of piecesOf(await engine.step(), engine, running)) yield piece;
    }
  } finally {
    await engine.close();
    await arrivals.close();
  }
}

function start(
  model: LanguageModel,
  engine: DecodeEngine,
  { index, request }: Arrived,
  shared: GenerateOptions,
): Running {
  const { prompt, ...own } = isBatchPrompt(request) ? request : { prompt: request };
  const settings = resolveGenerateOptions({ ...shared, signal: undefined, request: index, ...own });
  const tokens = promptTokens(model, prompt, settings);
  const writer = model.tokenizer && new TextWriter(model.tokenizer, settings.stop);
  return { index, settings, sequence: engine.start(tokens, settings), writer };
}

const isBatchPrompt = (request: BatchRequest): request is BatchPrompt =>
  typeof request === "object" && "prompt" in request;

/** What a step added; texts that end with it are released. */
function piecesOf(
  steps: ReadonlyMap<Sequence, DecodeStep>,
  engine: DecodeEngine,
  running: Map<Sequence, Running>,
): BatchPiece[] {
  const pieces: BatchPiece[] = [];
  for (const [sequence, { index, settings, writer }] of running) {
    const step = steps.get(sequence);
    if (step) settings.onStep?.(step);
    const piece = pieceOf(index, step?.tokens ?? [], writer, sequence.finished);
    if (piece.finished) {
      engine.release(sequence);
      running.delete(sequence);
    }
    if (piece.tokens.length > 0 || piece.text !== "" || piece.finished) pieces.push(piece);
  }
  return pieces;
}

function pieceOf(
  request: number,
  tokens: readonly GeneratedToken[],
  writer: TextWriter | undefined,
  ending: Ending | undefined,
): BatchPiece {
  if (!writer) return { request, tokens, text: "", finished: ending };
  let text = "";
  for (const [i, { token }] of tokens.entries()) {
    text += writer.push(token);
    if (writer.stopped) return { request, tokens: tokens.slice(0, i + 1), text, finished: "stop" };
  }
  return { request, tokens, text: ending ? text + writer.flush() : text, finished: ending };
}

interface Arrived {
  readonly index: number;
  readonly request: BatchRequest;
}

/** Requests in the order they come, without waiting for one while others are in the making. */
class Arrivals {
  private readonly iterator: Iterator<BatchRequest> | AsyncIterator<BatchRequest>;
  private pending: Promise<IteratorResult<BatchRequest>> | undefined;
  private settled = false;
  private ended = false;
  private count = 0;

  constructor(requests: Iterable<BatchRequest> | AsyncIterable<BatchRequest>) {
    this.iterator = Symbol.asyncIterator in requests ? requests[Symbol.asyncIterator]() : requests[Symbol.iterator]();
  }

  /** The next request that is here; with `wait`, the next that comes. Undefined: none, or none yet. */
  async next(wait: boolean): Promise<Arrived | undefined> {
    if (this.ended) return undefined;
    const pending = (this.pending ??= this.ask());
    if (!wait && !this.settled) await new Promise(setImmediate);
    if (!wait && !this.settled) return undefined;
    const result = await pending;
    [this.pending, this.settled] = [undefined, false];
    if (result.done !== true) return { index: this.count++, request: result.value };
    this.ended = true;
    return undefined;
  }

  private ask(): Promise<IteratorResult<BatchRequest>> {
    const asked = (async () => this.iterator.next())();
    const settle = (): void => {
      this.settled = true;
    };
    asked.then(settle, settle); // a failure is thrown where the request is awaited
    return asked;
  }

  /** Tells the source that no more is wanted, without waiting for one that is still to come. */
  async close(): Promise<void> {
    if (this.ended) return;
    const closed = Promise.resolve(this.iterator.return?.());
    if (this.pending === undefined || this.settled) await closed;
    else closed.catch(() => undefined);
  }
}
