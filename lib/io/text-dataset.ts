// Text as a dataset: each file is a document that ends with the tokenizer's eos.
import { createHash } from "node:crypto";
import { checkOptions, ForetokenError } from "../errors.js";
import type { TokenStream } from "./batch.js";
import { type DatasetItem, joinDocuments, StreamDataset } from "./dataset.js";
import { checkedFraction, chooseGroups, countGroups, type Group, type SplitOptions } from "./split.js";
import { groupsOf, loadText, type LoadedFile } from "./text-files.js";
import type { Tokenizer } from "./tokenizer.js";
import { keepWithoutTwins } from "./twins.js";

export interface TextDatasetOptions {
  /** Files that share over half of their lines with another one. Default: "drop". */
  readonly twins?: "drop" | "keep" | undefined;
  /** Whether attention and targets cross from one file to the next. Default: false. */
  readonly crossDocuments?: boolean | undefined;
}

export interface TextFile {
  /** Path below the deepest folder that holds all files, with forward slashes. */
  readonly name: string;
  /** Its npm package or top folder: what a split must not tear apart. */
  readonly group: string;
  readonly bytes: number;
  /** SHA-256 of the content. */
  readonly sha256: string;
}

/** What became of the files that were found. */
export interface TextSource {
  readonly files: readonly TextFile[];
  /** Names of the files that were dropped as twins. */
  readonly twins: readonly string[];
  /** Number of binary files passed over in folders and globs. */
  readonly binaries: number;
}

/**
 * The text of files, folders and globs (`!` in front leaves out). Sorted by name; byte 0 marks a binary. Errors:
 * BAD_DATA as `loadText` says.
 *
 * @example
 * const { train, eval: heldOut } = textDataset(["src", "!**\/*.min.js"], byteTokenizer()).split({ fraction: 0.1 });
 */
export function textDataset(
  paths: string | readonly string[],
  tokenizer: Tokenizer,
  options: TextDatasetOptions = {},
): TextDataset {
  checkOptions("textDataset", options, ["twins", "crossDocuments"]);
  const { twins = "drop", crossDocuments = false } = options;
  const { base, files, binaries } = loadText(typeof paths === "string" ? [paths] : paths);
  const keep = twins === "drop" ? keepWithoutTwins(files) : files.map(() => true);
  const kept = files.filter((_, index) => keep[index]);
  const dropped = files.filter((_, index) => !keep[index]).map((file) => file.name);
  const items = kept.map((file) => ({ tokens: encodeDocument(file, tokenizer) }));
  const stream = joinDocuments(items, tokenizer.vocabSize, crossDocuments);
  return new TextDataset(stream, tokenizer, { files: describeFiles(kept, base), twins: dropped, binaries });
}

/** A dataset that knows the files its documents came from, and can be split by them. */
export class TextDataset extends StreamDataset {
  override readonly tokenizer: Tokenizer;
  /** One file per document, in order. */
  readonly files: readonly TextFile[];
  readonly twins: readonly string[];
  readonly binaries: number;

  constructor(stream: TokenStream, tokenizer: Tokenizer, source: TextSource) {
    super(stream, tokenizer.vocabSize, tokenizer, fingerprintOf(source.files, stream));
    this.tokenizer = tokenizer;
    this.files = source.files;
    this.twins = source.twins;
    this.binaries = source.binaries;
  }

  /** Packages or top folders with their sizes, by name. */
  get groups(): Group[] {
    return countGroups(this.files);
  }

  /**
   * Holds out whole groups; whole files where all are one group; the end of the file where it is alone. Errors: BAD_DATA for an unknown group, a
   * fraction outside 0 to 1, nothing left to train on.
   */
  split(options: SplitOptions = {}): { train: TextDataset; eval: TextDataset } {
    checkOptions("split", options, ["fraction", "groups", "seed"]);
    if (this.files.length === 1) return this.cut(checkedFraction(options));
    const isOneGroup = this.groups.length === 1;
    const groupOf = (file: TextFile) => (isOneGroup ? file.name : file.group);
    const groups = countGroups(this.files.map((file) => ({ group: groupOf(file), bytes: file.bytes })));
    const heldOut = chooseGroups(groups, options);
    return {
      train: this.pick((file) => !heldOut.has(groupOf(file))),
      eval: this.pick((file) => heldOut.has(groupOf(file))),
    };
  }

  private pick(isPicked: (file: TextFile) => boolean): TextDataset {
    const picked = this.files.map(isPicked);
    const items = [...this.documents()].filter((_, index) => picked[index]).map((tokens) => ({ tokens }));
    return this.part(items, this.files.filter(isPicked));
  }

  private cut(fraction: number): { train: TextDataset; eval: TextDataset } {
    const { tokens } = this.stream;
    const at = Math.round(tokens.length * (1 - fraction));
    if (at < 1 || at >= tokens.length) {
      const got = `${tokens.length} tokens in one file`;
      throw new ForetokenError("BAD_DATA", { op: "split", argument: "data", wanted: "text for both sides", got });
    }
    const [head, tail] = [tokens.subarray(0, at), tokens.subarray(at)];
    return { train: this.part([{ tokens: head }], this.files), eval: this.part([{ tokens: tail }], this.files) };
  }

  private part(items: readonly DatasetItem[], files: readonly TextFile[]): TextDataset {
    const stream = joinDocuments(items, this.vocabSize, this.stream.crossDocuments);
    return new TextDataset(stream, this.tokenizer, { files, twins: this.twins, binaries: this.binaries });
  }
}

function describeFiles(files: readonly LoadedFile[], base: string): TextFile[] {
  const names = files.map((file) => file.name);
  const groups = groupsOf(names, base);
  return files.map(({ name, content, sha256 }, i) => ({
    name,
    group: groups[i] ?? name,
    bytes: content.length,
    sha256,
  }));
}

/** A file's tokens and eos. One byte a token where that is enough, so that text in memory is no larger than on disk. */
function encodeDocument(file: LoadedFile, tokenizer: Tokenizer): Uint8Array | Int32Array {
  const encoded = tokenizer.encode(file.content);
  const length = encoded.length + (tokenizer.eosToken === null ? 0 : 1);
  const tokens = tokenizer.vocabSize <= 256 ? new Uint8Array(length) : new Int32Array(length);
  tokens.set(encoded);
  if (tokenizer.eosToken !== null) tokens[encoded.length] = tokenizer.eosToken;
  checkTokens(encoded, file, tokenizer.vocabSize);
  return tokens;
}

function checkTokens(tokens: Int32Array, file: LoadedFile, vocabSize: number): void {
  const at = tokens.findIndex((token) => token < 0 || token >= vocabSize);
  if (at < 0) return;
  const wanted = `tokens from 0 to ${vocabSize - 1}`;
  const got = `${tokens[at]} at ${at}`;
  throw new ForetokenError("BAD_DATA", { op: "textDataset", argument: file.name, wanted, got });
}

/** SHA-256 over names, sizes and contents, and over what a cut or another tokenizer makes of them. */
function fingerprintOf(files: readonly TextFile[], { tokens, crossDocuments }: TokenStream): string {
  const hash = createHash("sha256");
  for (const { name, bytes, sha256 } of files) hash.update(`${sha256} ${bytes} ${JSON.stringify(name)}\n`);
  hash.update(`${tokens.BYTES_PER_ELEMENT} ${crossDocuments}\n`);
  hash.update(tokens);
  return hash.digest("hex");
}
