// What a choice sends to the trunk of a trained model: the gradient of its terms alone.
import type { BatchShape } from "../io/batch.js";
import { SequenceDataset } from "../io/sequence-dataset.js";
import { DeviceBatch } from "../mtp/batch.js";
import type { LanguageModel } from "../mtp/model.js";
import { PassState, trainPass } from "../mtp/pass.js";
import { owning } from "../scope.js";
import type { Parameter } from "../tape.js";
import type { ChoicePointsTask } from "../tasks/choice-points.js";
import { meanOf } from "./statistics.js";

/** ‖∂L/∂trunk‖ of one choice that was made, root mean square over its ways. */
export interface TrunkGradient {
  /** Of the terms whose target is the choice. */
  readonly choice: number;
  /** Of those whose target is in its tail too. */
  readonly all: number;
}

/** (segments) */
export async function trunkGradients(
  model: LanguageModel,
  task: ChoicePointsTask,
  sequences: readonly Int32Array[],
  shape: BatchShape,
): Promise<TrunkGradient[]> {
  const passes = new TrunkPasses(model, shape);
  try {
    const gradients: TrunkGradient[] = [];
    for (const { choices, tails } of task.segments) {
      const tailLength = tails[0]?.length ?? 0;
      const norm = async (targets: number): Promise<number> => {
        const squares: number[] = [];
        for (const choice of choices)
          squares.push(await passes.squaredNorm(sequences, { choice, tailLength, targets }));
        return Math.sqrt(meanOf(squares));
      };
      gradients.push({ choice: await norm(1), all: await norm(1 + tailLength) });
    }
    return gradients;
  } finally {
    await passes.dispose();
  }
}

/** Of the tokens from a choice on, so many are targets. */
export interface Asked {
  readonly choice: number;
  readonly tailLength: number;
  readonly targets: number;
}

/** Training passes without steps. */
class TrunkPasses {
  private readonly batch: DeviceBatch;
  private readonly state: PassState;

  constructor(
    private readonly model: LanguageModel,
    private readonly shape: BatchShape,
  ) {
    [this.batch, this.state] = owning(() => [new DeviceBatch(model.device, shape), new PassState(model)]);
  }

  /** ‖∂L/∂trunk‖² of the mean over all times that the choice is made. */
  async squaredNorm(sequences: readonly Int32Array[], asked: Asked): Promise<number> {
    const { model, shape, batch, state } = this;
    const { items, count } = targetsBehind(sequences, asked, shape.lookahead);
    if (count === 0) return 0;
    model.parameters.clearGradients();
    state.scale.write(model.heads.map(() => 1 / count));
    for (const host of new SequenceDataset(items, { vocabSize: model.config.vocabSize }).evalBatches(shape)) {
      batch.write(host);
      trainPass(model, batch, state, true);
    }
    let sum = 0;
    for (const { grad } of trunkParameters(model))
      for (const value of (await grad?.toFloats()) ?? []) sum += value ** 2;
    return sum;
  }

  async dispose(): Promise<void> {
    await this.model.device.sync();
    this.batch.dispose();
    this.state.dispose();
    for (const parameter of this.model.parameters.all) parameter.releaseGradient();
  }
}

/** Sequences with their targets, where all of n heads ask for the choice and its tail is whole. */
export function targetsBehind(
  sequences: readonly Int32Array[],
  { choice, tailLength, targets }: Asked,
  futureTokens: number,
): { items: { tokens: Int32Array; lossMask: Uint8Array }[]; count: number } {
  let count = 0;
  const items = sequences.flatMap((tokens) => {
    const lossMask = new Uint8Array(tokens.length);
    for (let t = futureTokens; t + tailLength < tokens.length; t++) {
      if (tokens[t] !== choice) continue;
      lossMask.fill(1, t, t + targets);
      count++;
    }
    return lossMask.includes(1) ? [{ tokens, lossMask }] : [];
  });
  return { items, count };
}

/** What all heads share below them. */
function trunkParameters({ parameters, config }: LanguageModel): Parameter[] {
  const prefixes = [
    "model.embed_tokens.",
    ...Array.from({ length: config.trunkLayers }, (_, i) => `model.layers.${i}.`),
  ];
  return parameters.all.filter(({ name }) => prefixes.some((prefix) => name.startsWith(prefix)));
}
