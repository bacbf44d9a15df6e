// The safetensors format: 8 bytes header length (little-endian), a JSON header, the tensors' bytes without holes.
// Everything in the header is checked before any data is touched, as the reference implementation does
// (https://github.com/huggingface/safetensors, Format), and every error names the rule that was broken.
import { ForetokenError } from "../errors.js";
import { type Chunks, diskFileSystem, type FileSystem, type OpenFile, reading, reason } from "./files.js";
import { duplicateKey } from "./json-keys.js";

/** Bytes per element, in the reference's order, which rises with alignment. Little-endian. */
const dtypeBytes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;

export type SafetensorsDType = keyof typeof dtypeBytes;

export interface TensorInfo {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
}

/** A tensor to be written; its bytes (little-endian, row-major) are asked for when their turn comes. */
export interface SavedTensor extends TensorInfo {
  readonly name: string;
  readonly data: () => Uint8Array | Promise<Uint8Array>;
}

/** An opened file: the header is read and checked, the data stays on the disk. */
export interface SafetensorsFile extends AsyncDisposable {
  readonly path: string;
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** A tensor's bytes in memory of their own, aligned for any typed array. Errors: BAD_CHECKPOINT. */
  read(name: string): Promise<Uint8Array>;
  close(): Promise<void>;
}

interface Entry extends TensorInfo {
  readonly begin: number;
  readonly end: number;
}

interface Header {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, Entry>;
}

/** As in the reference: a longer header is an attack. */
const maxHeaderBytes = 100_000_000;
const lengthBytes = 8;
const metadataKey = "__metadata__";

/** Bytes of a tensor of this dtype and shape. */
export function tensorBytes({ dtype, shape }: TensorInfo): number {
  return shape.reduce((product, size) => product * size, dtypeBytes[dtype]);
}

/**
 * The file's bytes, one tensor at a time, ordered by falling alignment, then name: equal tensors give equal files.
 * Errors: SHAPE_MISMATCH where a callback returns another number of bytes than dtype and shape say.
 */
export async function* safetensorsChunks(
  tensors: readonly SavedTensor[],
  metadata: Readonly<Record<string, string>> = {},
): AsyncGenerator<Uint8Array> {
  const ordered = [...tensors].sort(compareTensors);
  yield encodeHeader(ordered, metadata);
  for (const tensor of ordered) {
    const bytes = await tensor.data();
    if (bytes.length !== tensorBytes(tensor)) {
      throw new ForetokenError("SHAPE_MISMATCH", {
        op: "safetensors",
        argument: tensor.name,
        wanted: `${tensorBytes(tensor)} bytes for ${tensor.dtype} (${tensor.shape.join(", ")})`,
        got: `${bytes.length}`,
      });
    }
    yield bytes;
  }
}

/** Writes a file through `fs`; see safetensorsChunks. */
export async function writeSafetensors(
  path: string,
  tensors: readonly SavedTensor[],
  metadata: Readonly<Record<string, string>> = {},
  fs: FileSystem = diskFileSystem,
): Promise<void> {
  const chunks: Chunks = safetensorsChunks(tensors, metadata);
  await fs.write(path, chunks);
}

/**
 * Opens a file and checks its whole header.
 *
 * @example
 * await using file = await openSafetensors("model.safetensors");
 * const bytes = await file.read("lm_head.weight");
 */
export async function openSafetensors(path: string, fs: FileSystem = diskFileSystem): Promise<SafetensorsFile> {
  const file = await reading(path, () => fs.open(path));
  try {
    const headerBytes = await reading(path, () => readHeaderBytes(file, path));
    const header = parseHeader(headerBytes, file.size - lengthBytes - headerBytes.length, path);
    return asSafetensorsFile(file, path, header, lengthBytes + headerBytes.length);
  } catch (error) {
    await file.close();
    throw error;
  }
}

function asSafetensorsFile(file: OpenFile, path: string, header: Header, dataStart: number): SafetensorsFile {
  return {
    path,
    metadata: header.metadata,
    tensors: header.tensors,
    async read(name) {
      const entry = header.tensors.get(name);
      if (entry === undefined) throw broken(path, name, "a tensor of this name", "none in the file");
      const length = entry.end - entry.begin;
      const bytes = await reading(path, () => file.read(dataStart + entry.begin, length));
      if (bytes.length !== length) throw broken(path, name, `${length} bytes`, `${bytes.length}: the file was cut`);
      return bytes;
    },
    close: () => file.close(),
    [Symbol.asyncDispose]: () => file.close(),
  };
}

function compareTensors(a: SavedTensor, b: SavedTensor): number {
  const order = Object.keys(dtypeBytes);
  const byDType = order.indexOf(b.dtype) - order.indexOf(a.dtype);
  if (byDType !== 0) return byDType;
  return Buffer.compare(Buffer.from(a.name), Buffer.from(b.name));
}

function encodeHeader(ordered: readonly SavedTensor[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const fields: string[] = [];
  const names = Object.keys(metadata).sort();
  if (names.length > 0) {
    fields.push(`"${metadataKey}":{${names.map((name) => pair(name, metadata[name])).join(",")}}`);
  }
  const seen = new Set([metadataKey]);
  let offset = 0;
  for (const { name, dtype, shape } of ordered) {
    if (seen.has(name)) {
      const wanted = "a name of its own for each tensor";
      throw new ForetokenError("BAD_ARGUMENT", { op: "safetensors", argument: name, wanted, got: "it is taken" });
    }
    seen.add(name);
    const end = offset + tensorBytes({ dtype, shape });
    fields.push(pair(name, { dtype, shape, data_offsets: [offset, end] }));
    offset = end;
  }
  const json = new TextEncoder().encode(`{${fields.join(",")}}`);
  const length = Math.ceil(json.length / 8) * 8; // the data starts aligned
  const bytes = new Uint8Array(lengthBytes + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, lengthBytes);
  return bytes;
}

function pair(name: string, value: unknown): string {
  return `${JSON.stringify(name)}:${JSON.stringify(value)}`;
}

async function readHeaderBytes(file: OpenFile, path: string): Promise<Uint8Array> {
  const prefix = await file.read(0, lengthBytes);
  if (prefix.length < lengthBytes) throw broken(path, null, "8 bytes of header length", `${file.size} bytes in all`);
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  if (length > maxHeaderBytes) {
    throw broken(path, null, `a header of at most ${maxHeaderBytes} bytes`, `header length ${length}`);
  }
  const available = file.size - lengthBytes;
  if (Number(length) > available) {
    throw broken(path, null, `a header within the file (${available} bytes left)`, `header length ${length}`);
  }
  return await file.read(lengthBytes, Number(length));
}

function parseHeader(bytes: Uint8Array, dataBytes: number, path: string): Header {
  if (bytes[0] !== 0x7b) throw broken(path, null, "a header that starts with {", `byte ${bytes[0] ?? "none"}`);
  const json = parseObject(bytes, path);
  const metadata = parseMetadata(json[metadataKey], path);
  const tensors = new Map<string, Entry>();
  for (const [name, value] of Object.entries(json)) {
    if (name !== metadataKey) tensors.set(name, parseEntry(value, path, name));
  }
  checkLayout(tensors, dataBytes, path);
  return { metadata, tensors };
}

function parseObject(bytes: Uint8Array, path: string): Record<string, unknown> {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
  } catch (cause) {
    throw broken(path, null, "a header of UTF-8 JSON", reason(cause));
  }
  const duplicate = duplicateKey(text);
  if (duplicate !== null) throw broken(path, duplicate, "each key once", "the key twice");
  if (!isObject(value)) throw broken(path, null, "a JSON object as header", "another value");
  return value;
}

function parseMetadata(value: unknown, path: string): ReadonlyMap<string, string> {
  if (value === undefined) return new Map();
  if (!isObject(value)) throw broken(path, metadataKey, "an object of strings", JSON.stringify(value).slice(0, 40));
  const metadata = new Map<string, string>();
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") throw broken(path, metadataKey, `a string for ${JSON.stringify(key)}`, typeof text);
    metadata.set(key, text);
  }
  return metadata;
}

function parseEntry(value: unknown, path: string, name: string): Entry {
  if (!isObject(value)) throw broken(path, name, "an object with dtype, shape and data_offsets", typeof value);
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isDType(dtype)) {
    throw broken(path, name, `a dtype of ${Object.keys(dtypeBytes).join(", ")}`, show(dtype));
  }
  if (!isSizes(shape)) throw broken(path, name, "a shape of non-negative integers", show(shape));
  if (!isSizes(offsets) || offsets.length !== 2) {
    throw broken(path, name, "data_offsets of two non-negative integers", show(offsets));
  }
  const [begin = 0, end = 0] = offsets;
  if (begin > end) throw broken(path, name, "data_offsets that do not fall", show(offsets));
  const bytes = checkedBytes(dtype, shape, path, name);
  if (end - begin !== bytes) {
    throw broken(path, name, `data_offsets ${bytes} bytes apart for ${dtype} (${shape.join(", ")})`, show(offsets));
  }
  return { dtype, shape, begin, end };
}

/** No intermediate product may pass 2^53, even when a later size is 0. */
function checkedBytes(dtype: SafetensorsDType, shape: readonly number[], path: string, name: string): number {
  let bytes: number = dtypeBytes[dtype];
  for (const size of shape) {
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) throw broken(path, name, "a shape whose bytes can be counted", show(shape));
  }
  return bytes;
}

/** The tensors cover the data exactly: no hole, no overlap, nothing behind the last, nothing missing. */
function checkLayout(tensors: ReadonlyMap<string, Entry>, dataBytes: number, path: string): void {
  const ordered = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let expected = 0;
  for (const [name, { begin, end }] of ordered) {
    if (begin !== expected) {
      const problem = begin > expected ? "a hole before it" : "an overlap with another tensor";
      throw broken(path, name, `data_offsets that start at ${expected}`, `${begin}: ${problem}`);
    }
    if (end > dataBytes) {
      throw broken(path, name, `data within the file (${dataBytes} bytes of data)`, `data_offsets [${begin}, ${end}]`);
    }
    expected = end;
  }
  if (expected !== dataBytes) {
    throw broken(path, null, `${expected} bytes of data as the header says`, `${dataBytes}: trailing bytes`);
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isDType(value: unknown): value is SafetensorsDType {
  return typeof value === "string" && Object.hasOwn(dtypeBytes, value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

function show(value: unknown): string {
  return (JSON.stringify(value) ?? "nothing").slice(0, 80);
}

function broken(path: string, tensor: string | null, wanted: string, got: string): ForetokenError {
  const argument = tensor === null ? path : `${path}, tensor ${JSON.stringify(tensor)}`;
  return new ForetokenError("BAD_CHECKPOINT", { op: "openSafetensors", argument, wanted, got });
}
