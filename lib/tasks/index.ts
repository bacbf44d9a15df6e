// foretoken/tasks: data whose answers are known, and the code, the prose and the count model that a byte model is measured with.
export { Random } from "./random.js";
export {
  gradeAnswer,
  taskDataset,
  type Bayes,
  type DrawOptions,
  type Grade,
  type PromptedSequence,
  type Split,
  type Task,
  type TaskDatasetOptions,
  type TaskSequence,
} from "./task.js";
export { SequenceDataset } from "../io/sequence-dataset.js";
export { induction, type InductionOptions, type InductionTask } from "./induction.js";
export {
  evaluateExpression,
  polynomialArithmetic,
  type Expression,
  type Polynomial,
  type PolynomialOptions,
  type PolynomialSequence,
  type PolynomialTask,
} from "./polynomial.js";
export { starGraph, type StarGraphOptions, type StarGraphTask } from "./star-graph.js";
export {
  choicePoints,
  type ChoicePointsOptions,
  type ChoicePointsTask,
  type ChoiceTerms,
  type Segment,
} from "./choice-points.js";
export {
  bestPredictor,
  progressions,
  type BestPredictorOptions,
  type ProgressionOptions,
  type ProgressionSequence,
} from "./progressions.js";
export { entropy, twoTokenEntropies, type TwoTokenEntropies } from "./entropy.js";
export { codePackages, realCode, realProse, type RealCodeOptions } from "./bytes.js";
export { TrigramModel } from "./ngram.js";
