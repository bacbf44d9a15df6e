// The training loop: batches in, metrics out, checkpoints on the way.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ForetokenError } from "../errors.js";
import type { Batch } from "../io/batch.js";
import { headWeightsAt } from "../mtp/head-weights.js";
import { checkVocabulary, type LanguageModel } from "../mtp/model.js";
import { loadTraining, saveTraining, type RunState } from "./checkpoint.js";
import { evaluate } from "./evaluate.js";
import { estimateMemory } from "./memory.js";
import { headMetrics, type EvalMetrics, type StepMetrics } from "./metrics.js";
import { RunLog } from "./run-log.js";
import { learningRateAt } from "./schedule.js";
import { resolveTrainerOptions, type TrainerOptions, type TrainerSettings } from "./settings.js";
import { TrainingState, type StepReport } from "./step.js";

/**
 * Trains a model.
 *
 * @example
 * const trainer = new Trainer(model, { data, steps: 2000, learningRate: 1e-3, out: "runs/code" });
 * for await (const metrics of trainer) console.log(metrics.step, metrics.losses);
 */
export class Trainer implements AsyncIterable<StepMetrics> {
  readonly settings: TrainerSettings;
  /** Bytes on the device at the highest point of a step, from a dry run. */
  readonly predictedPeakBytes: number;
  /** The last evaluation, if there was one. */
  evaluation: EvalMetrics | undefined;
  /** Where the last checkpoint went. */
  checkpoint: string | undefined;
  /** What a person should know although the run goes on. */
  readonly warnings: string[] = [];
  private running = false;
  private position = 0;
  private tokens = 0;
  private step = 0;

  constructor(
    readonly model: LanguageModel,
    options: TrainerOptions,
  ) {
    this.settings = resolveTrainerOptions(model, options);
    checkVocabulary(model, this.settings.data);
    model.tokenizer ??= this.settings.data.tokenizer ?? undefined;
    this.predictedPeakBytes = this.predictPeak();
    this.checkBudget();
  }

  /** Trains to the end and returns the last step's metrics. Rejects as the iterator does. */
  async run(): Promise<StepMetrics> {
    let last: StepMetrics | undefined;
    for await (const metrics of this) last = metrics;
    if (!last)
      throw new ForetokenError("BAD_OPTION", {
        op: "train",
        argument: "steps",
        wanted: `more than the ${this.step} steps already taken`,
        got: String(this.settings.steps),
      });
    return last;
  }

  /**
   * Yields each step's metrics, once. Leaving the loop early ends the run without saving. Throws NOT_FINITE (weights stay
   * those of the last good step), ABORTED (after saving), SAVE_FAILED, OUT_OF_MEMORY.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<StepMetrics, void, undefined> {
    if (this.running || this.step > 0) {
      const remedy = "Make a new one; with `resume` it goes on from the last checkpoint.";
      throw new ForetokenError("BAD_ARGUMENT", "this trainer has run already", { op: "train", remedy });
    }
    const { model, settings } = this;
    model.device.resetPeak();
    const state = new TrainingState(model, settings.shape, settings);
    this.running = true;
    try {
      await this.begin(state);
      const log = settings.out === undefined ? undefined : await RunLog.open(settings.out, this.describe(), this.step);
      const { shape, seed, epochs, accumulate } = settings;
      const source = settings.data.batches({ ...shape, seed, position: this.position, ...(epochs && { epochs }) });
      let next = take(source, accumulate);
      while (this.step < settings.steps && next.length > 0) {
        const metrics = await this.takeStep(state, next);
        await log?.append(metrics);
        settings.onStep?.(metrics);
        yield metrics;
        next = take(source, accumulate);
        await this.afterStep(state, log, this.step === settings.steps || next.length === 0);
      }
    } finally {
      await model.device.sync().catch(() => undefined);
      state.dispose();
      this.running = false;
    }
  }

  private async begin(state: TrainingState): Promise<void> {
    const { settings, model } = this;
    const { out } = settings;
    if (out === undefined) return;
    const exists = existsSync(join(out, "latest"));
    if (!settings.resume) {
      if (exists) {
        throw new ForetokenError("BAD_OPTION", {
          op: "train",
          argument: "out",
          wanted: "a folder without a run",
          got: out,
          remedy: "Resume that run, or give another folder.",
        });
      }
      return;
    }
    const check = (saved: RunState): void => {
      this.checkSame(saved);
    };
    const from = await loadTraining(out, model, state.optimizer, check, settings.fileSystem);
    [this.step, this.tokens, this.position] = [from.step, from.tokens, from.dataPosition];
  }

  private checkSame(from: RunState): void {
    const { settings, model } = this;
    if (from.seed !== settings.seed) {
      throw new ForetokenError("BAD_CHECKPOINT", {
        op: "resume",
        argument: "seed",
        wanted: `${from.seed} as in the checkpoint`,
        got: String(settings.seed),
      });
    }
    if (from.contextLength !== settings.shape.contextLength) {
      throw new ForetokenError("BAD_CHECKPOINT", {
        op: "resume",
        argument: "contextLength",
        wanted: `${from.contextLength} as in the checkpoint`,
        got: String(settings.shape.contextLength),
      });
    }
    if (from.data !== settings.data.fingerprint && !settings.allowChangedData) {
      throw new ForetokenError("BAD_DATA", "the data changed since the checkpoint", {
        op: "resume",
        argument: "data",
        remedy: "Give the same files, or set allowChangedData.",
      });
    }
    if (from.simd !== model.device.simd) {
      this.warnings.push(
        `The checkpoint was made at SIMD level ${from.simd}, this machine runs ${model.device.simd}: resuming is not bit-exact.`,
      );
    }
  }

  private async takeStep(state: TrainingState, batches: readonly Batch[]): Promise<StepMetrics> {
    const { settings, model } = this;
    const step = this.step + 1;
    const started = performance.now();
    const weights = headWeightsAt(settings.headWeights, model.heads.length, step);
    const learningRate = learningRateAt(step, settings);
    state.enqueue(batches, weights, learningRate);
    const report = await state.report();
    checkFinite(report, step);
    const positions = batches.length * settings.shape.batchSize * settings.shape.contextLength;
    this.step = step;
    this.tokens += positions;
    this.position = batches.at(-1)?.position ?? this.position;
    const stepMs = performance.now() - started;
    const { live, peak } = model.device.memory();
    return {
      step,
      tokens: this.tokens,
      ...headMetrics(report.sums, weights),
      gradientNorm: report.gradientNorm,
      learningRate,
      tokensPerSecond: (positions / stepMs) * 1000,
      stepMs,
      liveBytes: live,
      peakBytes: peak,
      predictedPeakBytes: this.predictedPeakBytes,
    };
  }

  private async afterStep(state: TrainingState, log: RunLog | undefined, last: boolean): Promise<void> {
    const { settings, step } = this;
    const due = (every: number | undefined): boolean => every !== undefined && step % every === 0;
    if (last || due(settings.evalEvery)) await this.evaluateHeldOut(log);
    const aborted = settings.signal?.aborted ?? false;
    if (settings.out !== undefined && (last || aborted || due(settings.saveEvery))) {
      this.checkpoint = await saveTraining(
        settings.out,
        this.model,
        state.optimizer,
        this.runState(),
        settings.keep,
        settings.fileSystem,
      );
    }
    if (aborted && !last) {
      const remedy = this.checkpoint && "Everything is saved: resume to go on.";
      throw new ForetokenError("ABORTED", `training was stopped after step ${step}`, { op: "train", remedy });
    }
  }

  /** Evaluates, where there is held-out data; a signal cuts it short. */
  private async evaluateHeldOut(log: RunLog | undefined): Promise<void> {
    const { evalData, shape, evalBatches, signal, onEval } = this.settings;
    if (!evalData || signal?.aborted) return;
    try {
      const metrics = await evaluate(this.model, evalData, { ...shape, maxBatches: evalBatches, signal });
      this.evaluation = { split: "eval", step: this.step, ...metrics };
    } catch (error) {
      if (error instanceof ForetokenError && error.code === "ABORTED") return;
      throw error;
    }
    await log?.append(this.evaluation);
    onEval?.(this.evaluation);
  }

  private runState(): RunState {
    const { settings, model } = this;
    return {
      step: this.step,
      tokens: this.tokens,
      dataPosition: this.position,
      seed: settings.seed,
      contextLength: settings.shape.contextLength,
      simd: model.device.simd,
      data: settings.data.fingerprint,
      dtype: model.dtype,
    };
  }

  /** What trainer.json keeps: every setting that can be written down. */
  private describe(): object {
    const { data, evalData, fileSystem: _f, signal: _, onStep: _s, onEval: _e, shape, ...plain } = this.settings;
    const about = (set: typeof data): object => ({
      fingerprint: set.fingerprint,
      tokens: set.tokenCount,
      documents: set.documentCount,
    });
    return {
      ...plain,
      ...shape,
      data: about(data),
      evalData: evalData && about(evalData),
      model: this.model.config,
      dtype: this.model.dtype,
      simd: this.model.device.simd,
    };
  }

  private predictPeak(): number {
    const { model, settings } = this;
    const { shape, accumulate, betas, clipNorm, weightDecay } = settings;
    const dtype = model.dtype === "bf16" ? "bf16" : "f32";
    const { peakBytes, parameterBytes } = estimateMemory(model.config, {
      ...shape,
      accumulate,
      dtype,
      betas,
      clipNorm,
      weightDecay,
      device: model.device,
    });
    return peakBytes + model.device.memory().live - parameterBytes;
  }

  private checkBudget(): void {
    const { memoryBudget, shape, accumulate } = this.settings;
    if (memoryBudget === undefined || this.predictedPeakBytes <= memoryBudget) return;
    const fewer =
      shape.batchSize > 1 ? `a smaller batchSize (with accumulate ${accumulate * 2})` : "a shorter contextLength";
    throw new ForetokenError("MEMORY_BUDGET", {
      op: "train",
      argument: "memoryBudget",
      wanted: `at most ${memoryBudget} bytes`,
      got: `${this.predictedPeakBytes} bytes predicted`,
      remedy: `Try ${fewer}, fewer layers or a smaller hiddenSize.`,
    });
  }
}

/** Up to `count` batches; fewer, or none, at the end of the data. */
function take(source: Iterator<Batch, void, undefined>, count: number): Batch[] {
  const batches: Batch[] = [];
  while (batches.length < count) {
    const next = source.next();
    if (next.done) break;
    batches.push(next.value);
  }
  return batches;
}

function checkFinite({ sums, gradientNorm, badToken }: StepReport, step: number): void {
  if (badToken) {
    throw new ForetokenError("BAD_DATA", {
      op: "train",
      argument: `step ${step}`,
      wanted: "tokens inside the vocabulary",
      got: "one outside",
      remedy: "The weights are those of the step before.",
    });
  }
  if (Number.isFinite(gradientNorm) && Array.from(sums).every(Number.isFinite)) return;
  throw new ForetokenError("NOT_FINITE", `loss or gradient is not a finite number at step ${step}`, {
    op: "train",
    remedy: `${Number.isFinite(gradientNorm) ? "" : "The weights are those of the step before. "}Try a lower learningRate or more warmupSteps.`,
  });
}
