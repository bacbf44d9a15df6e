// Twins: files that share over half of their lines with another. Two copies of one source on both sides of a split let
// a model recite what it is scored on.

/** Shorter lines (brackets, `else {`, `return x;`) are alike in all code. In bytes, without indentation. */
const trivialBytes = 12;

/**
 * Which files to keep: a file is dropped when over half of its distinct non-trivial lines are lines of one kept file,
 * or all its bytes are. The larger file (in such lines, then by place) is kept, so that a part falls to its whole.
 *
 * A file that shares over half of m lines holds one of any ⌈m/2⌉ of them, so candidates are looked up by the rarer half
 * alone: a licence text in ten thousand files costs nothing (prefix filtering, Chaudhuri et al. 2006).
 */
export function keepWithoutTwins(
  files: readonly { readonly content: Uint8Array; readonly sha256: string }[],
): boolean[] {
  const ids = new LineIds();
  const lines = files.map((file) => linesOf(file.content, ids));
  const order = lines.map((_, index) => index).sort((a, b) => lineCount(lines, b) - lineCount(lines, a) || a - b);
  const holders = new Holders(ids.count);
  const contents = new Set<string>();
  const keep = new Array<boolean>(files.length).fill(false);
  for (const index of order) {
    const own = lines[index] ?? new Int32Array(0);
    const sha256 = files[index]?.sha256 ?? "";
    if (contents.has(sha256) || holders.anyHoldsOverHalf(own)) continue;
    keep[index] = true;
    contents.add(sha256);
    holders.add(own);
  }
  return keep;
}

const lineCount = (lines: readonly Int32Array[], index: number) => lines[index]?.length ?? 0;

/** Distinct non-trivial lines as integers, rising. */
function linesOf(content: Uint8Array, ids: LineIds): Int32Array {
  const lines = new Set<number>();
  for (let start = 0; start < content.length;) {
    let end = content.indexOf(0x0a, start);
    if (end < 0) end = content.length;
    let [from, to] = [start, end];
    while (from < to && isBlank(content[from])) from++;
    while (to > from && isBlank(content[to - 1])) to--;
    if (to - from >= trivialBytes) lines.add(ids.of(content, from, to));
    start = end + 1;
  }
  return Int32Array.from(lines).sort();
}

function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x09 || byte === 0x0d;
}

/** Numbers lines 0, 1, 2 … by their content, known by 52 bits of hash: among 10^7 lines two collide once in 90 runs. */
class LineIds {
  private readonly known = new Map<number, number>();

  get count(): number {
    return this.known.size;
  }

  of(bytes: Uint8Array, from: number, to: number): number {
    let low = 0x811c9dc5;
    let high = to - from;
    for (let at = from; at < to; at++) {
      const byte = bytes[at] ?? 0;
      low = Math.imul(low ^ byte, 0x01000193); // FNV-1a
      high = Math.imul(high ^ byte, 0x85ebca6b) ^ (high >>> 15);
    }
    const hash = (low >>> 0) * 2 ** 20 + (high >>> 12);
    const id = this.known.get(hash) ?? this.known.size;
    if (id === this.known.size) this.known.set(hash, id);
    return id;
  }
}

/** The kept files, and for each line which of them hold it: a linked list per line. */
class Holders {
  private readonly files: Int32Array[] = [];
  private readonly head: Int32Array;
  private readonly count: Int32Array;
  private readonly next: number[] = [];
  private readonly file: number[] = [];

  constructor(lines: number) {
    this.head = new Int32Array(lines).fill(-1);
    this.count = new Int32Array(lines);
  }

  add(lines: Int32Array): void {
    const file = this.files.push(lines) - 1;
    for (const line of lines) {
      this.next.push(this.head[line] ?? -1);
      this.head[line] = this.file.push(file) - 1;
      this.count[line] = (this.count[line] ?? 0) + 1;
    }
  }

  anyHoldsOverHalf(lines: Int32Array): boolean {
    const byRarity = lines.slice().sort((a, b) => (this.count[a] ?? 0) - (this.count[b] ?? 0));
    const seen = new Set<number>();
    for (const line of byRarity.subarray(0, Math.ceil(lines.length / 2))) {
      for (let link = this.head[line] ?? -1; link >= 0; link = this.next[link] ?? -1) {
        const file = this.file[link] ?? 0;
        if (seen.has(file)) continue;
        seen.add(file);
        if (holdsOverHalf(this.files[file] ?? lines, lines)) return true;
      }
    }
    return false;
  }
}

function holdsOverHalf(file: Int32Array, lines: Int32Array): boolean {
  let misses = 0;
  let at = 0;
  for (const line of lines) {
    while (at < file.length && (file[at] ?? 0) < line) at++;
    if (file[at] === line) continue;
    misses++;
    if (misses * 2 >= lines.length) return false;
  }
  return true;
}
