// What the choices weigh in the loss of n heads, measured from its gradients.
import type { Device } from "../device.js";
import { linearCrossEntropy } from "../ops/cross-entropy.js";
import { embedding } from "../ops/embedding.js";
import { scope } from "../scope.js";
import { tape } from "../tape.js";
import type { ChoicePointsTask } from "../tasks/choice-points.js";
import { randn, tensor, type Tensor } from "../tensor.js";
import { termsOf, type Term } from "./choice-points-chain.js";

/** A logit of what cannot come, beside 0 for what must. */
const impossible = -40;

/**
 * (segments): by what factor n heads' loss moves the odds of a segment's choice more than one head's. The predictor is the
 * process itself with odds of its own, drawn from the seed: θ (b) for each segment, softmax(θ) the probability of its
 * ways, and every head says what follows from that. ‖∂L_n/∂θ‖ / ‖∂L_1/∂θ‖, the gradient being that of the loss kernels.
 */
export async function exactWeights(
  task: ChoicePointsTask,
  futureTokens: number,
  { device, seed }: { device: Device; seed: number },
): Promise<number[]> {
  const odds = await drawOdds(task, device, seed);
  const norms = async (n: number): Promise<number[]> =>
    (await oddsGradient(task, termsOf(task, n), odds, device)).map((gradient) => Math.hypot(...gradient));
  const [many, one] = [await norms(futureTokens), await norms(1)];
  return many.map((norm, segment) => norm / (one[segment] ?? NaN));
}

/** (segments,b) */
async function drawOdds({ segments }: ChoicePointsTask, device: Device, seed: number): Promise<number[][]> {
  const branches = segments[0]?.choices.length ?? 0;
  using drawn = randn([segments.length, branches], { device, seed });
  const values = await drawn.toFloats();
  return segments.map((_, k) => Array.from(values.slice(k * branches, (k + 1) * branches)));
}

/**
 * (segments,b): ∂L/∂θ of L = Σ share · −log P(target), the sum over these terms and, with equal odds, the targets that the
 * process has. Logits are read from tables (V,V) of each head, whose gradients are gathered where θ stands in them.
 */
export async function oddsGradient(
  task: ChoicePointsTask,
  terms: readonly Term[],
  odds: readonly (readonly number[])[],
  device: Device,
): Promise<number[][]> {
  const gradient = odds.map((each) => each.map(() => 0));
  for (const head of new Set(terms.map((term) => term.head))) {
    const own = terms.filter((term) => term.head === head);
    const table = await tableGradient(task.vocabSize, own, odds, device);
    for (const { token, segment, targets } of own) {
      const into = gradient[segment];
      if (!into || new Set(targets).size === 1) continue; // where one target is certain, θ is in no logit
      for (const [j, target] of targets.entries())
        into[j] = (into[j] ?? 0) + (table[token * task.vocabSize + target] ?? 0);
    }
  }
  return gradient;
}

/** (V·V): ∂L/∂logits of one head, a row for each last token of a context. */
async function tableGradient(
  vocabSize: number,
  terms: readonly Term[],
  odds: readonly (readonly number[])[],
  device: Device,
): Promise<ArrayLike<number>> {
  const logits = new Float32Array(vocabSize * vocabSize).fill(impossible);
  const rows: { token: number; target: number; weight: number }[] = [];
  for (const { token, segment, targets, share } of terms) {
    const certain = new Set(targets).size === 1;
    for (const [j, target] of targets.entries()) {
      logits[token * vocabSize + target] = certain ? 0 : (odds[segment]?.[j] ?? 0);
      rows.push({ token, target, weight: share / targets.length });
    }
  }
  const gradient = scope(() => {
    const whole = (values: number[]): Tensor => tensor(Int32Array.from(values), { device, shape: [1, values.length] });
    const identity = Float32Array.from({ length: vocabSize ** 2 }, (_, i) => (i % (vocabSize + 1) === 0 ? 1 : 0));
    const square = (values: Float32Array): Tensor => tensor(values, { device, shape: [vocabSize, vocabSize] });
    return tape((t) => {
      const table = t.leaf(square(logits));
      const hidden = embedding(whole(rows.map(({ token }) => token)), table);
      const loss = linearCrossEntropy(hidden, square(identity), whole(rows.map(({ target }) => target)), {
        reduction: "sum",
        weight: tensor(
          rows.map(({ weight }) => weight),
          { device },
        ),
      });
      t.backward([[loss, tensor([1], { device })]]);
      return t.gradient(table);
    });
  });
  try {
    return (await gradient?.toFloats()) ?? [];
  } finally {
    gradient?.dispose();
  }
}

/** Weights of one segment's choice in what trained heads say. */
export interface TrainedWeight {
  /** ‖∂L/∂θ‖ for a choice that was made, θ being odds that all its terms share, in units of one open term: √(1−1/b). */
  readonly gradient: number;
  /** What the terms of one choice pay together, in units of ln b. */
  readonly loss: number;
}

/** What trained heads say behind a context that ends in `token`, means over such contexts. */
export interface Said {
  /** log P(v), nats. */
  logProbability(token: number, head: number, v: number): number;
  probability(token: number, head: number, v: number): number;
}

/**
 * (segments). A model of no error has n(n+1)/2 in both where the choice has consequences, n where it has none: it says a
 * certain target with certainty and gives each way of an open choice 1/b.
 */
export function trainedWeights(task: ChoicePointsTask, futureTokens: number, said: Said): TrainedWeight[] {
  const terms = termsOf(task, futureTokens);
  return task.segments.map(({ choices }, segment) => {
    const own = terms.filter((term) => term.segment === segment);
    const paid = own.reduce((sum, { token, head, targets, share }) => {
      const nats = targets.reduce((all, v) => all - said.logProbability(token, head, v), 0) / targets.length;
      return sum + share * nats;
    }, 0);
    const squares = choices.map((_, made) => {
      const gradient = choices.map(() => 0);
      for (const { token, head, targets, share } of own) {
        if (new Set(targets).size === 1) continue;
        for (const [j, v] of targets.entries())
          gradient[j] = (gradient[j] ?? 0) + share * (said.probability(token, head, v) - (j === made ? 1 : 0));
      }
      return gradient.reduce((sum, each) => sum + each ** 2, 0);
    });
    const mean = squares.reduce((sum, each) => sum + each, 0) / choices.length;
    return { gradient: Math.sqrt(mean / (1 - 1 / choices.length)), loss: paid / Math.log(choices.length) };
  });
}
