// Saves checkpoints without end into the folder given, going on from the last one, and prints each step once it is saved.
import { diskFileSystem, saveCheckpoint } from "../../lib/io/index.js";
import { checkpointFiles, checkpointName, loadCheckpoint } from "./io-checkpoint.js";

const run = process.argv[2] ?? "";
let step = (await diskFileSystem.exists(`${run}/latest`)) ? (await loadCheckpoint(diskFileSystem, run)).step : 0;
for (;;) {
  step++;
  await saveCheckpoint(diskFileSystem, run, checkpointName(step), checkpointFiles(step, step, 20_000), { keep: 2 });
  process.stdout.write(`${step}\n`);
}
