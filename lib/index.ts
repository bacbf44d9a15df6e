// The public names, and nothing else.
export {
  openDevice,
  type Device,
  type DeviceKind,
  type DeviceModel,
  type DeviceOptions,
  type DType,
  type Memory,
  type Recording,
} from "./device.js";
export { ForetokenError, type ErrorCode } from "./errors.js";
export { randn, tensor, Tensor, zeros } from "./tensor.js";
export { keep, scope } from "./scope.js";
export { checkpoint, gradientBuffer, Parameter, Tape, tape, type GradientBuffer, type Weight } from "./tape.js";
export { grad, type ValueAndGradients } from "./ops/grad.js";
export {
  linearCrossEntropy,
  tokenLosses,
  type LinearCrossEntropyOptions,
  type LossSettings,
  type Targets,
  type TokenLosses,
} from "./ops/cross-entropy.js";
export { accumulate_, add, cast, scale } from "./ops/elementwise.js";
export { crossEntropy, type CrossEntropyOutputs } from "./ops/plain-cross-entropy.js";
export { attention, rope_, type AttentionOptions, type RopeOptions } from "./ops/attention.js";
export { embedding } from "./ops/embedding.js";
export { linear, packWeight, type LinearOptions } from "./ops/linear.js";
export { rmsNorm } from "./ops/rms-norm.js";
export { rnn } from "./ops/rnn.js";
export { swiglu } from "./ops/swiglu.js";
export { multiTokenCrossEntropy, type MultiTokenCrossEntropyOptions, type MultiTokenLoss } from "./mtp/loss.js";
export { sequentialHeadBackward, type Head, type Topology } from "./mtp/heads.js";
export { type HeadWeights } from "./mtp/head-weights.js";
export { sameSize, type HeadFamily, type ModelConfig, type ModelOptions } from "./mtp/config.js";
export { LanguageModel, type ModelSettings } from "./mtp/model.js";
export { byteTokenizer, textDataset, type TextDataset, type TextDatasetOptions, type Tokenizer } from "./io/index.js";
export { tokenDataset, type Dataset, type DatasetItem } from "./io/dataset.js";
export { AdamW, clipGradNorm, type AdamWOptions } from "./train/optimizer.js";
export { evaluate, score, type EvaluateOptions, type Evaluation } from "./train/evaluate.js";
export { estimateMemory, type MemoryEstimate, type MemoryOptions } from "./train/memory.js";
export { Trainer } from "./train/trainer.js";
export type { TrainerOptions } from "./train/settings.js";
export type { EvalMetrics, StepMetrics } from "./train/metrics.js";
export type { Schedule } from "./train/schedule.js";
export { generate, generateTokens } from "./decode/generate.js";
export {
  generateBatch,
  type BatchOptions,
  type BatchPiece,
  type BatchPrompt,
  type BatchRequest,
} from "./decode/batch.js";
export type { GenerateOptions } from "./decode/options.js";
export type { DraftTree } from "./decode/tree.js";
export { fitTree, type FitTreeOptions, type FittedTree } from "./decode/fit.js";
export { beamSearch, type BeamSearchOptions, type BeamSearchResult, type Hypothesis } from "./decode/beam.js";
export type { DecodeStep, Ending, GeneratedToken } from "./decode/sequence.js";
export { DecodeStatistics, type PlaceStatistics } from "./decode/statistics.js";
export {
  draftModel,
  promptLookup,
  type DraftPredictor,
  type DraftRequest,
  type DraftSession,
  type PromptLookupOptions,
} from "./decode/drafts.js";
