// Philox4x32-10 (Salmon et al. 2011), the kernels' counter-based generator, for what is drawn on the host.
import type { Draw } from "./inputs.js";

/** What a number is for: each has numbers of its own, none of them the kernels' noise. */
const purposes = { keep: 1, draw: 2 } as const;

/** A number in [0, 1), a function of the draw's seed, request and position and of what it is for. */
export function uniform({ seed, request, position }: Draw, purpose: keyof typeof purposes): number {
  const key = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0] as const;
  const [a, b] = philox([request, position, 0, purposes[purpose] << 28], key);
  return ((a >>> 5) * 2 ** 26 + (b >>> 6)) / 2 ** 53;
}

type Words4 = readonly [number, number, number, number];

/** The generator's ten rounds: four words that depend on counter and key. */
export function philox(counter: Words4, key: readonly [number, number]): Words4 {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = multiply(0xd2511f53, c0);
    const [high1, low1] = multiply(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    [k0, k1] = [(k0 + 0x9e3779b9) >>> 0, (k1 + 0xbb67ae85) >>> 0];
  }
  return [c0, c1, c2, c3];
}

/** High and low word of a product of two words. */
function multiply(a: number, b: number): readonly [number, number] {
  const product = BigInt(a) * BigInt(b >>> 0);
  return [Number(product >> 32n), Number(product & 0xffffffffn)];
}
