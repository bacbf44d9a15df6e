// What the rest of the library and its users take from lib/io.
export { type Batch, type BatchShape, validTargets } from "./batch.js";
export {
  type BatchOptions,
  type Dataset,
  type DatasetItem,
  tokenDataset,
  type TokenDatasetOptions,
} from "./dataset.js";
export { diskFileSystem, type FileSystem, readJson } from "./files.js";
export { openSafetensors, safetensorsChunks, type SafetensorsDType, type SafetensorsFile } from "./safetensors.js";
export { type SavedTensor, type TensorInfo, writeSafetensors } from "./safetensors.js";
export { findCheckpoint, saveCheckpoint, savedFile, type SavedFile, savedJson, verifyChecksums } from "./save.js";
export { saveFileAtomically, saveFolderAtomically } from "./save.js";
export type { Group, SplitOptions } from "./split.js";
export { TextDataset, textDataset, type TextDatasetOptions, type TextFile } from "./text-dataset.js";
export { byteTokenizer, type TextStream, type Tokenizer, tokenizerFromJson } from "./tokenizer.js";
