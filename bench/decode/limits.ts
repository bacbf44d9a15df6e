// What the machine allows: a forward takes at least as long as reading its weights, or multiplying with them, takes.
import type { GenerateOptions } from "../../lib/decode/options.js";
import type { LanguageModel } from "../../lib/mtp/model.js";
import { instructionOf, peaks, readGigabytes } from "../peaks.js";
import type { Figure, Finding, Verdict } from "../report.js";
import type { ComputeDType } from "../workload.js";

/** What was measured of one way to decode. */
export interface Measured {
  readonly name: string;
  readonly options: GenerateOptions;
  readonly msPerToken: number;
  readonly tokensPerForward: number;
}

/** Plain decoding (the first) and every fixed k beside the roofline of their forwards; undefined where no limits are known. */
export function limits(
  title: string,
  model: LanguageModel,
  [plain, ...others]: readonly Measured[],
): Finding | undefined {
  const floor = forwardMs(model, 1, 1);
  if (!plain || Number.isNaN(floor)) return undefined;
  const fixed = others.filter(({ options }) => typeof options.speculate === "number" && !options.draft);
  const rows = [plain, ...fixed].map(({ name, options, msPerToken, tokensPerForward }): Figure => {
    const k = typeof options.speculate === "number" ? options.speculate : 1;
    const roofline = forwardMs(model, k, tokensPerForward);
    const measured = msPerToken * tokensPerForward;
    const allowed = (tokensPerForward * floor) / roofline;
    const speedUp = plain.msPerToken / msPerToken;
    return {
      variant: name,
      "roofline, ms per forward": roofline,
      "measured, ms per forward": measured,
      "of the roofline, %": (100 * roofline) / measured,
      "tokens/forward": tokensPerForward,
      ...(k > 1 && { "speed-up": speedUp, allowed, "of the allowed, %": (100 * speedUp) / allowed }),
    };
  });
  return { title, rows, verdicts: judge(rows) };
}

function judge([plain, ...fixed]: readonly Figure[]): Verdict[] {
  const percent = (row: Figure | undefined, column: string): number => Number(row?.[column] ?? NaN);
  const atLeast = (claim: string, share: number, least: number): Verdict => ({
    claim,
    holds: share >= least,
    measured: `${share.toFixed(0)} %`,
  });
  return [
    atLeast("plain decoding runs at 70 % or more of the floor", percent(plain, "of the roofline, %"), 70),
    ...fixed
      .filter(({ variant }) => variant === "k = 4" || variant === "k = 8")
      .map((row) =>
        atLeast(
          `${String(row["variant"])}: the speed-up is 85 % or more of tokens/forward × the rooflines' ratio`,
          percent(row, "of the allowed, %"),
          85,
        ),
      ),
  ];
}

/** ms: trunk and head 1 with k rows, heads 2 to k with the accepted ones, of which each reads out one. */
function forwardMs(model: LanguageModel, k: number, accepted: number): number {
  const { trunkLayers, vocabSize: V, hiddenSize: d } = model.config;
  const layer = layerProducts(model);
  const ofLayer = (M: number) => layer.map(([N, K]) => [M, N, K] as const);
  const trunk = Array.from({ length: trunkLayers + 1 }, () => ofLayer(k)).flat();
  const heads = Array.from({ length: k - 1 }, () => ofLayer(accepted)).flat();
  const unembedding = [[k, V, d] as const, ...(k > 1 ? [[k - 1, V, d] as const] : [])];
  return rooflineMs(model, [...trunk, ...heads, ...unembedding]);
}

/** Products (N, K) of a transformer layer. */
function layerProducts({ config }: LanguageModel): [number, number][] {
  const { hiddenSize: d, numAttentionHeads, numKeyValueHeads, intermediateSize: f } = config;
  const kv = (d / numAttentionHeads) * numKeyValueHeads;
  return [[d, d], [kv, d], [kv, d], [d, d], [f, d], [f, d], [d, f]]; // prettier-ignore
}

/** ms of the products, each M rows: the longer of reading its weights and computing. */
function rooflineMs(model: LanguageModel, products: readonly (readonly [M: number, N: number, K: number])[]): number {
  const { dtype, device } = model;
  const bytesPerWeight = dtype === "bf16" ? 2 : 4;
  const footprint = products.reduce((sum, [, N, K]) => sum + N * K * bytesPerWeight, 0);
  const bandwidth = readGigabytes(footprint) * 1e6; // bytes per ms
  const instruction = instructionOf(device.simd, dtype as ComputeDType);
  const peak = (peaks().find(({ what }) => what === instruction)?.best ?? NaN) * 1e6; // FLOP per ms
  return products.reduce(
    (ms, [M, N, K]) => ms + Math.max((N * K * bytesPerWeight) / bandwidth, (2 * M * N * K) / peak),
    0,
  );
}
