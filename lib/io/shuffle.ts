// Order without state: every choice is a hash of (seed, counters), so that a position is all that resuming needs.

/** 32 bits from any integers, each mixed in by MurmurHash3's finalizer. */
export function hash32(...words: readonly number[]): number {
  let hash = 0x9e3779b9;
  for (const word of words) {
    hash = mix(hash ^ word);
    hash = mix(hash ^ Math.floor(word / 2 ** 32)); // seeds and counters beyond 32 bits
  }
  return hash >>> 0;
}

function mix(word: number): number {
  let hash = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) + 0x9e3779b9;
}

const rounds = 6;

/**
 * The place of `index` in a permutation of 0..count−1 that (seed, epoch) choose: a Feistel network over the next power
 * of four, walked until it falls within count (Black and Rogaway 2002, cycle walking). count ≤ 2^32.
 */
export function permute(index: number, count: number, seed: number, epoch: number): number {
  const halfBits = Math.max(2, Math.ceil(Math.log2(count) / 2));
  const half = 2 ** halfBits;
  let value = index;
  do {
    let left = Math.floor(value / half);
    let right = value % half;
    for (let round = 0; round < rounds; round++) {
      const mixed = (left ^ hash32(seed, epoch, round, right)) & (half - 1);
      left = right;
      right = mixed;
    }
    value = left * half + right;
  } while (value >= count);
  return value;
}
