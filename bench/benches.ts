// All benches, in the order in which "all" runs them.
import type { Bench } from "./bench.js";
import { decode } from "./decode.js";
import { loss } from "./loss.js";
import { overhead } from "./overhead.js";
import { peak } from "./peak.js";
import { step } from "./step.js";

export const benches: Readonly<Record<string, Bench>> = { peak, loss, step, overhead, decode };
