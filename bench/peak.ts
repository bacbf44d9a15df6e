// What can this machine do at most? Every other figure is shown as a share of these.
import type { Bench } from "./bench.js";
import { peaks } from "./peaks.js";

export const peak: Bench = {
  question: "What can this machine do at most: multiply-adds from registers, and reading memory?",
  *run({ smoke }) {
    const rows = peaks(smoke ? 1 : undefined).map((each) => ({ ...each }));
    yield { title: "Peaks, all threads", rows };
  },
};
