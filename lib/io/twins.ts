// Twins: files that share over half of their lines with another. Two copies of one source on both sides of a split let
// a model recite what it is scored on.

/** Shorter lines (brackets, `else {`, `return x;`) are alike in all code. In bytes, without indentation. */
const kTrivialBytes = 12;

/**
 * Which files to keep: a file is dropped when over half of its distinct non-trivial lines are lines of one kept file,
 * or all its bytes are. The larger file (in such lines, then by place) is kept, so that a part falls to its whole.
 *
 * Time grows with the lines and, for a line that k kept files share, with k per occurrence.
 */
export function keepWithoutTwins(
  files: readonly { readonly content: Uint8Array; readonly sha256: string }[],
): boolean[] {
  const ids = new LineIds();
  const lines = files.map((file) => linesOf(file.content, ids));
  const order = files
    .map((_, index) => index)
    .sort((a, b) => (lines[b]?.length ?? 0) - (lines[a]?.length ?? 0) || a - b);
  const holders = new Holders(ids.count);
  const shared = new Int32Array(files.length);
  const contents = new Set<string>();
  const keep = new Array<boolean>(files.length).fill(false);
  for (const index of order) {
    const own = lines[index] ?? new Int32Array(0);
    const sha256 = files[index]?.sha256 ?? "";
    if (contents.has(sha256) || holders.mostShared(own, shared) * 2 > own.length) continue;
    keep[index] = true;
    contents.add(sha256);
    holders.add(own, index);
  }
  return keep;
}

/** Distinct non-trivial lines as integers. */
function linesOf(content: Uint8Array, ids: LineIds): Int32Array {
  const lines = new Set<number>();
  for (let start = 0; start < content.length;) {
    let end = content.indexOf(0x0a, start);
    if (end < 0) end = content.length;
    let [from, to] = [start, end];
    while (from < to && isBlank(content[from])) from++;
    while (to > from && isBlank(content[to - 1])) to--;
    if (to - from >= kTrivialBytes) lines.add(ids.of(content, from, to));
    start = end + 1;
  }
  return Int32Array.from(lines);
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

/** Which kept files hold a line: a linked list per line. */
class Holders {
  private readonly head: Int32Array;
  private readonly next: number[] = [];
  private readonly file: number[] = [];

  constructor(lines: number) {
    this.head = new Int32Array(lines).fill(-1);
  }

  add(lines: Int32Array, file: number): void {
    for (const line of lines) {
      this.next.push(this.head[line] ?? -1);
      this.file.push(file);
      this.head[line] = this.file.length - 1;
    }
  }

  /** The most lines that any one kept file shares. `shared`: zeros, one per file; zeros again afterwards. */
  mostShared(lines: Int32Array, shared: Int32Array): number {
    let most = 0;
    const touched: number[] = [];
    for (const line of lines) {
      for (let link = this.head[line] ?? -1; link >= 0; link = this.next[link] ?? -1) {
        const file = this.file[link] ?? 0;
        const count = (shared[file] ?? 0) + 1;
        if (count === 1) touched.push(file);
        shared[file] = count;
        if (count > most) most = count;
      }
    }
    for (const file of touched) shared[file] = 0;
    return most;
  }
}
