// Causal attention in blocks (arXiv 2307.08691), rotary positions (arXiv 2104.09864), and the key/value cache.
import { native } from "../native.js";
import { activeTape } from "../tape.js";
import { empty, type Tensor } from "../tensor.js";
import { checkDType, checkFloat, checkNumber, checkSameShape, checkShape, dimension } from "./check.js";

export interface RopeOptions {
  theta: number;
  /** (R) i32, one per row of x; absent: the row's place in its sequence of `period` rows. */
  positions?: Tensor | undefined;
  /** T: rows per sequence, where positions is absent. */
  period?: number | undefined;
}

/** Rotates halves of each D-vector of x (…, H, D) by its position, in place; the result shares x's memory. */
export function rope_(x: Tensor, options: RopeOptions): Tensor {
  checkFloat("rope", "x", x);
  const width = dimension("rope", "x", x, 1);
  checkNumber("rope", "x", width, width % 2 === 0, "an even width per attention head");
  const rows = x.size / (width * dimension("rope", "x", x, 2));
  const { positions, theta } = options;
  if (positions) {
    checkDType("rope", "positions", positions, "i32");
    checkShape("rope", "positions", positions, [rows]);
  }
  const period = options.period ?? rows;
  const rotate = (t: Tensor, inverse: boolean): void => {
    const flat = t.view([rows, t.shape.at(-2) ?? 1, width]);
    native().rope(flat.handle, positions?.handle ?? 0, period, theta, inverse);
    flat.dispose();
  };
  rotate(x, false);
  const y = x.view(x.shape);
  const tape = activeTape();
  if (tape?.wants(x)) {
    tape.record(y, [], (dy) => {
      const dx = dy.take();
      rotate(dx, true);
      tape.give(x, dx);
    });
  }
  return y;
}

export interface AttentionOptions {
  /** (B, T) i32: the first key that a query sees, to keep documents apart; absent: 0. */
  firstKey?: Tensor | undefined;
  /** Default 1/sqrt(D). */
  scale?: number | undefined;
}

/** Causal attention with grouped heads. q (B, T, H, D), k and v (B, T, G, D), G divides H; result (B, T, H, D). */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  checkFloat("attention", "q", q);
  checkShape("attention", "q", q, ["B", "T", "H", "D"]);
  const [batch = 0, length = 0, heads = 0, width = 0] = q.shape;
  checkShape("attention", "k", k, [batch, length, "G", width]);
  checkSameShape("attention", "v", v, k);
  checkDType("attention", "k", k, q.dtype);
  checkDType("attention", "v", v, q.dtype);
  const groups = dimension("attention", "k", k, 2);
  checkNumber(
    "attention",
    "k",
    groups,
    groups > 0 && heads % groups === 0,
    `a number of key/value heads that divides ${heads}`,
  );
  const { firstKey, scale = 1 / Math.sqrt(width) } = options;
  if (firstKey) {
    checkDType("attention", "firstKey", firstKey, "i32");
    checkShape("attention", "firstKey", firstKey, [batch, length]);
  }
  const out = empty(q.shape, { dtype: q.dtype, device: q.device });
  const lse = empty([batch, heads, length], { dtype: q.dtype === "f64" ? "f64" : "f32", device: q.device });
  native().attention(q.handle, k.handle, v.handle, firstKey?.handle ?? 0, out.handle, lse.handle, scale);
  const tape = activeTape();
  if (tape && (tape.wants(q) || tape.wants(k) || tape.wants(v))) {
    const [sq, sk, sv, so, sl] = [tape.save(q), tape.save(k), tape.save(v), tape.save(out), tape.save(lse)] as const;
    const mask = firstKey && tape.save(firstKey);
    tape.record(out, [sq, sk, sv, so, sl, ...(mask ? [mask] : [])], (dy) => {
      const like = (x: Tensor): Tensor => empty(x.shape, { dtype: x.dtype, device: x.device });
      const [dq, dk, dv] = [like(q), like(k), like(v)] as const;
      const saved = [sq, sk, sv].map((s) => s.tensor.handle) as [number, number, number];
      native().attentionBackward(
        ...saved,
        mask?.tensor.handle ?? 0,
        so.tensor.handle,
        sl.tensor.handle,
        dy.tensor.handle,
        dq.handle,
        dk.handle,
        dv.handle,
        scale,
      );
      if (tape.wants(q)) tape.give(q, dq);
      if (tape.wants(k)) tape.give(k, dk);
      if (tape.wants(v)) tape.give(v, dv);
    });
  }
  lse.dispose();
  return out;
}

/** Which cache slot and which position each row of a decoding step belongs to; both (R) i32. */
export interface CacheRows {
  readonly sequence: Tensor;
  readonly position: Tensor;
  /** Where the rows of a tree have their keys and values; absent: each at its position. */
  readonly branch?: CacheBranch | undefined;
}

/** The places of rows of which several share a position, in the slot of their sequence. (arXiv 2401.10774) */
export interface CacheBranch {
  /** (R) i32: the place in its slot where a row's own key and value go. */
  readonly own: Tensor;
  /** (R, A) i32: the places of its last A positions, its own last. */
  readonly last: Tensor;
}

/** Writes k and v (R, G, D) into the caches (slots, G, capacity, D) at each row's sequence and position, or place. */
export function cacheAppend(k: Tensor, v: Tensor, rows: CacheRows, keyCache: Tensor, valueCache: Tensor): void {
  const [count = 0, groups = 0, width = 0] = k.shape;
  checkShape("cache_append", "k", k, ["R", "G", "D"]);
  checkSameShape("cache_append", "v", v, k);
  checkShape("cache_append", "keyCache", keyCache, ["slots", groups, "capacity", width]);
  checkSameShape("cache_append", "valueCache", valueCache, keyCache);
  checkShape("cache_append", "sequence", rows.sequence, [count]);
  checkShape("cache_append", "position", rows.position, [count]);
  if (rows.branch) {
    checkShape("cache_append", "branch.own", rows.branch.own, [count]);
    checkDType("cache_append", "branch.own", rows.branch.own, "i32");
  }
  native().cacheAppend(
    k.handle,
    v.handle,
    rows.sequence.handle,
    (rows.branch?.own ?? rows.position).handle,
    keyCache.handle,
    valueCache.handle,
  );
}

/**
 * Of each row of qkv (R, (H + 2G)·D), its queries, keys and values side by side: queries and keys, rotated by the row's
 * position, and values. Keys and values go to the caches as with `cacheAppend`; returns the queries (R, H, D).
 */
export function ropeAppend(qkv: Tensor, theta: number, rows: CacheRows, keyCache: Tensor, valueCache: Tensor): Tensor {
  const [count = 0, columns = 0] = qkv.shape;
  const [groups = 0, width = 0] = [keyCache.shape[1], keyCache.shape[3]];
  checkFloat("rope_append", "qkv", qkv);
  checkShape("rope_append", "qkv", qkv, ["R", "(H + 2G)·D"]);
  checkShape("rope_append", "keyCache", keyCache, ["slots", "G", "capacity", "D"]);
  checkSameShape("rope_append", "valueCache", valueCache, keyCache);
  for (const cache of [keyCache, valueCache]) checkDType("rope_append", "keyCache, valueCache", cache, qkv.dtype);
  checkNumber("rope_append", "keyCache", width, width % 2 === 0, "an even width per attention head");
  const heads = columns / width - 2 * groups;
  checkNumber("rope_append", "qkv", columns, Number.isInteger(heads) && heads > 0, "columns of H + 2G heads");
  checkShape("rope_append", "sequence", rows.sequence, [count]);
  checkShape("rope_append", "position", rows.position, [count]);
  const place = rows.branch?.own ?? rows.position;
  checkShape("rope_append", "branch.own", place, [count]);
  checkDType("rope_append", "branch.own", place, "i32");
  const q = empty([count, heads, width], { dtype: qkv.dtype, device: qkv.device });
  native().ropeAppend(
    qkv.handle,
    rows.sequence.handle,
    rows.position.handle,
    place.handle,
    q.handle,
    keyCache.handle,
    valueCache.handle,
    theta,
  );
  return q;
}

/** Attention of each row of q (R, H, D) over its own sequence's cache, up to and including its position. */
export function attentionCached(q: Tensor, keyCache: Tensor, valueCache: Tensor, rows: CacheRows): Tensor {
  const [count = 0, , width = 0] = q.shape;
  checkShape("attention_cached", "q", q, ["R", "H", "D"]);
  checkShape("attention_cached", "keyCache", keyCache, ["slots", "G", "capacity", width]);
  checkSameShape("attention_cached", "valueCache", valueCache, keyCache);
  checkShape("attention_cached", "sequence", rows.sequence, [count]);
  checkShape("attention_cached", "position", rows.position, [count]);
  if (rows.branch) {
    checkShape("attention_cached", "branch.last", rows.branch.last, [count, "A"]);
    checkDType("attention_cached", "branch.last", rows.branch.last, "i32");
  }
  const out = empty(q.shape, { dtype: q.dtype, device: q.device });
  native().attentionCached(
    q.handle,
    keyCache.handle,
    valueCache.handle,
    rows.sequence.handle,
    rows.position.handle,
    0,
    rows.branch?.last.handle ?? 0,
    out.handle,
    1 / Math.sqrt(width),
  );
  return out;
}
