// Learning-rate schedules.
import { ForetokenError } from "../errors.js";

/** A schedule's shape after warm-up: cosine to 3 % of the peak (as in arXiv 2404.19737), linear to 0, constant, or any function of the step (from 1) giving a factor on the peak. */
export type Schedule = "cosine" | "linear" | "constant" | ((step: number) => number);

export interface ScheduleSettings {
  readonly learningRate: number;
  readonly schedule: Schedule;
  readonly warmupSteps: number;
  readonly steps: number;
}

const FINAL_SHARE = 0.03;

/** The learning rate of a step, counted from 1: rises linearly over the warm-up, then follows the schedule. */
export function learningRateAt(step: number, { learningRate, schedule, warmupSteps, steps }: ScheduleSettings): number {
  if (typeof schedule === "function") return learningRate * checkedFactor(schedule(step), step);
  if (step <= warmupSteps) return (learningRate * step) / warmupSteps;
  const progress = (step - 1 - warmupSteps) / Math.max(1, steps - warmupSteps);
  switch (schedule) {
    case "cosine":
      return learningRate * (FINAL_SHARE + ((1 - FINAL_SHARE) * (1 + Math.cos(Math.PI * progress))) / 2);
    case "linear":
      return learningRate * (1 - progress);
    case "constant":
      return learningRate;
    default:
      return schedule satisfies never;
  }
}

function checkedFactor(factor: number, step: number): number {
  if (Number.isFinite(factor) && factor >= 0) return factor;
  const details = {
    op: "train",
    argument: "schedule",
    wanted: "a finite factor ≥ 0",
    got: `${factor} at step ${step}`,
  };
  throw new ForetokenError("BAD_OPTION", details);
}
