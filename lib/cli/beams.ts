// generate --num-beams: the likeliest text that a beam search finds.
import { beamSearch, type BeamSearchOptions, type BeamSearchResult } from "../decode/beam.js";
import { ForetokenError } from "../errors.js";
import type { LanguageModel } from "../mtp/model.js";
import { formatTable } from "./format.js";
import { Interrupt, interruptedCode } from "./interrupt.js";
import type { Output } from "./output.js";

export interface BeamCommand {
  readonly prompt: string;
  readonly numBeams: number;
  readonly maxNewTokens: number;
  readonly tree: BeamSearchOptions["tree"];
  readonly stats: boolean;
}

/** Throws BAD_OPTION for what a beam search does not know. */
export function refuseBeside(given: Readonly<Record<string, boolean>>): void {
  const [option] = Object.keys(given).filter((name) => given[name]);
  if (option === undefined) return;
  const details = { op: "generate", argument: option, wanted: "no such option beside --num-beams", got: option };
  throw new ForetokenError("BAD_OPTION", details);
}

/** Resolves to the exit code. */
export async function generateByBeams(output: Output, model: LanguageModel, command: BeamCommand): Promise<number> {
  const { prompt, numBeams, maxNewTokens, tree, stats } = command;
  using interrupt = new Interrupt(() => undefined);
  let result: BeamSearchResult;
  try {
    result = await beamSearch(model, prompt, { numBeams, maxNewTokens, tree, signal: interrupt.signal });
  } catch (error) {
    if (error instanceof ForetokenError && error.code === "ABORTED") return interruptedCode;
    throw error;
  }
  const [best] = result.hypotheses;
  output.piece(output.live ? `${prompt}${best?.text ?? ""}\n` : (best?.text ?? ""));
  output.event("done", { ...result });
  if (!stats) return 0;
  const length = Math.max(...result.hypotheses.map(({ tokens }) => tokens.length));
  output.note(`${length} tokens in ${result.forwards} forwards; the ${result.hypotheses.length} likeliest texts:`);
  const rows = result.hypotheses.map(({ logProbability, tokens, finished, text = "" }) => [
    logProbability.toFixed(3),
    String(tokens.length),
    finished,
    JSON.stringify(text.length > 60 ? `…${text.slice(-60)}` : text),
  ]);
  output.note(formatTable([["log probability", "tokens", "ended by", "text"], ...rows]));
  return 0;
}
