// What a training run needs, known before it starts: a dry run of the same code on a device that allocates and computes
// nothing.
import { openDevice, type Device, type Memory } from "../device.js";
import { emptyBatch } from "../io/batch.js";
import type { ModelOptions } from "../mtp/config.js";
import { LanguageModel } from "../mtp/model.js";
import type { AdamWOptions } from "./optimizer.js";
import { TrainingState } from "./step.js";

export interface MemoryOptions extends AdamWOptions {
  /** Default 8. */
  readonly batchSize?: number | undefined;
  /** Default: the model's maxPositions. */
  readonly contextLength?: number | undefined;
  /** Micro-batches per optimizer step. Default 1. */
  readonly accumulate?: number | undefined;
  /** Default "f32". */
  readonly dtype?: "f32" | "bf16" | undefined;
  /** The device whose kernels are meant. Default: openDevice(). */
  readonly device?: Device | undefined;
}

export interface MemoryEstimate {
  /** Bytes at the highest point of a training step, everything included. */
  readonly peakBytes: number;
  /** Of these: parameters and their bf16 copies, gradients, the optimizer's moments. */
  readonly parameterBytes: number;
  readonly gradientBytes: number;
  readonly optimizerBytes: number;
  /** The rest: activations, workspaces, batches. */
  readonly activationBytes: number;
  /** Numbers that are trained. */
  readonly parameters: number;
}

/**
 * Bytes that training this model takes, exactly, before anything is allocated.
 *
 * @example
 * estimateMemory({ vocabSize: 256, hiddenSize: 256, futureTokens: 4 }, { batchSize: 8, dtype: "bf16" }).peakBytes;
 */
export function estimateMemory(config: ModelOptions, options: MemoryOptions = {}): MemoryEstimate {
  const { batchSize = 8, accumulate = 1, dtype = "f32" } = options;
  using device = openDevice("dry", { like: options.device ?? openDevice() });
  const model = LanguageModel.create(config, { device, dtype });
  const shape = {
    batchSize,
    contextLength: options.contextLength ?? model.config.maxPositions,
    lookahead: model.config.futureTokens,
  };
  const state = new TrainingState(model, shape, options);
  const batch = emptyBatch(shape, 0);
  const weights = model.heads.map(() => 1);
  for (let step = 0; step < 2; step++)
    state.enqueue(
      Array.from({ length: accumulate }, () => batch),
      weights,
      0,
    );
  return asEstimate(device.memory(), model.parameters.count);
}

function asEstimate({ peak, byTag }: Memory, parameters: number): MemoryEstimate {
  const { parameter, gradient, optimizer } = byTag;
  return {
    peakBytes: peak,
    parameterBytes: parameter.live,
    gradientBytes: gradient.live,
    optimizerBytes: optimizer.live,
    activationBytes: peak - parameter.live - gradient.live - optimizer.live,
    parameters,
  };
}
