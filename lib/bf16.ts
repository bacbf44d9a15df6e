// bfloat16 on the JavaScript side: bits in a Uint16Array, the upper half of a Float32.

/** Rounds to nearest even; NaN stays NaN. */
export function toBf16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const from = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const to = new Uint16Array(values.length);
  for (let i = 0; i < to.length; i++) {
    const bits = from[i] ?? 0;
    const nan = (bits & 0x7fffffff) > 0x7f800000;
    to[i] = nan ? (bits >>> 16) | 0x40 : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
  }
  return to;
}

export function fromBf16(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const widened = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) widened[i] = (bits[i] ?? 0) << 16;
  return new Float32Array(widened.buffer);
}
