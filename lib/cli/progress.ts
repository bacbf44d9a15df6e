// How a training run is watched: a bar that is drawn over in a terminal, a line now and then in a file, JSON lines.
import { SingleBar } from "cli-progress";
import type { EvalMetrics, StepMetrics } from "../train/metrics.js";
import { formatBytes, formatCount, formatDuration } from "./format.js";
import type { Output } from "./output.js";

export interface Progress {
  onStep(metrics: StepMetrics): void;
  onEval(metrics: EvalMetrics): void;
  stop(): void;
}

/** Lines over a whole run where no bar can be drawn. */
const linesPerRun = 40;
const barWidth = 8;

export function trainingProgress(output: Output, steps: number): Progress {
  const time = new TimeLeft(steps);
  if (output.json) return jsonProgress(output);
  if (output.quiet) return { onStep: () => undefined, onEval: () => undefined, stop: () => undefined };
  return output.live ? barProgress(output, steps, time) : lineProgress(output, steps, time);
}

function jsonProgress(output: Output): Progress {
  return {
    onStep: (metrics) => {
      if (!output.quiet) output.event("step", metrics);
    },
    onEval: (metrics) => output.event("eval", metrics),
    stop: () => undefined,
  };
}

function lineProgress(output: Output, steps: number, time: TimeLeft): Progress {
  const every = Math.ceil(steps / linesPerRun);
  return {
    onStep(metrics) {
      time.tick(metrics);
      const { step } = metrics;
      if (step === 1 || step % every === 0 || step === steps)
        output.line(`step ${step}/${steps}  ${describe(metrics, time)}`);
    },
    onEval(metrics) {
      if (metrics.step < steps) output.line(evalLine(metrics));
    },
    stop: () => undefined,
  };
}

function barProgress(output: Output, steps: number, time: TimeLeft): Progress {
  const bar = new SingleBar({
    format: "{bar} {value}/{total}  {text}",
    barsize: barWidth,
    barCompleteChar: "━",
    barIncompleteChar: "╌",
    stream: process.stdout,
    hideCursor: true,
    linewrap: false,
    fps: 5,
    gracefulExit: false,
  });
  let started = false;
  const stop = (): void => {
    if (started) bar.stop();
    started = false;
  };
  process.once("exit", stop); // or a second Ctrl-C would leave the terminal without a cursor
  return {
    onStep(metrics) {
      time.tick(metrics);
      const text = describe(metrics, time);
      if (started) bar.update(metrics.step, { text });
      else bar.start(steps, metrics.step, { text });
      started = true;
    },
    onEval(metrics) {
      stop();
      if (metrics.step < steps) output.line(evalLine(metrics));
    },
    stop,
  };
}

function describe(metrics: StepMetrics, time: TimeLeft): string {
  const losses = metrics.losses.map((loss) => loss.toFixed(2)).join(" ");
  const parts = [`loss ${losses}`, `${formatCount(metrics.tokensPerSecond)} tok/s`, formatBytes(metrics.peakBytes)];
  return [...parts, time.left].join("  ");
}

function evalLine({ step, losses }: EvalMetrics): string {
  return `held out after step ${step}: loss ${losses.map((loss) => loss.toFixed(3)).join(" ")}`;
}

/** From the mean time per step since the first one, evaluations and saves included. */
class TimeLeft {
  private first: { readonly step: number; readonly at: number; readonly stepMs: number } | undefined;
  private perStep = 0;
  private step = 0;

  constructor(private readonly steps: number) {}

  tick({ step, stepMs }: StepMetrics): void {
    const now = performance.now();
    this.step = step;
    this.first ??= { step, at: now, stepMs };
    this.perStep = step === this.first.step ? stepMs : (now - this.first.at) / (step - this.first.step);
  }

  get left(): string {
    if (this.step === this.steps) return "finishing …";
    return `${formatDuration(((this.steps - this.step) * this.perStep) / 1000)} left`;
  }
}
