import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { diskFileSystem } from "../../lib/io/files.js";
import {
  findCheckpoint,
  saveCheckpoint,
  savedFile,
  saveFileAtomically,
  saveFolderAtomically,
  verifyChecksums,
} from "../../lib/io/save.js";
import { checkpointFiles, checkpointName, loadCheckpoint } from "../helpers/io-checkpoint.js";
import { CrashFileSystem, PowerCut, survivors, systemError } from "../helpers/io-crash.js";

const run = "/home/runs/code";
const policies = ["none", "all", 1, 2, 3, 4, 5, 6] as const;

/** Each entry is saved in turn; the last one replaces a checkpoint of the same name that `latest` points to. */
const saves = [
  { step: 1, mark: 1 },
  { step: 2, mark: 2 },
  { step: 3, mark: 3 },
  { step: 4, mark: 4 },
  { step: 4, mark: 5 },
];

/** Saves until done or stopped; returns how many saves were finished. */
async function workload(fs: CrashFileSystem): Promise<number> {
  for (const [index, { step, mark }] of saves.entries()) {
    try {
      await saveCheckpoint(fs, run, checkpointName(step), checkpointFiles(step, mark), { keep: 2 });
    } catch (error) {
      if (error instanceof PowerCut) return index;
      throw error;
    }
  }
  return saves.length;
}

async function stepsOfWorkload(): Promise<number> {
  const fs = new CrashFileSystem();
  expect(await workload(fs)).toBe(saves.length);
  return fs.steps;
}

async function isLoadable(fs: CrashFileSystem): Promise<boolean> {
  return await findCheckpoint(fs, run).then(
    () => true,
    () => false,
  );
}

describe("stopped at every step, with every kind of loss", () => {
  test.each(policies)("un-synced data that survives: %s", async (policy) => {
    const steps = await stepsOfWorkload();
    expect(steps).toBeGreaterThan(100);
    for (let stopAt = 0; stopAt <= steps; stopAt++) {
      const fs = new CrashFileSystem();
      fs.stopAt = stopAt;
      const finished = await workload(fs);
      const found = fs.afterCrash(survivors(policy));
      if (finished === 0 && !(await isLoadable(found))) continue; // nothing was promised yet
      const { mark } = await loadCheckpoint(found, run);
      expect(mark, `stopped at step ${stopAt}: ${fs.log.at(-1)}`).toBeGreaterThanOrEqual(finished);
      expect(mark).toBeLessThanOrEqual(finished + 1);
    }
  });

  test.each(policies)("the next save cleans up and is loaded: %s", async (policy) => {
    const steps = await stepsOfWorkload();
    for (let stopAt = 0; stopAt <= steps; stopAt += 3) {
      const fs = new CrashFileSystem();
      fs.stopAt = stopAt;
      await workload(fs);
      const found = fs.afterCrash(survivors(policy));
      await saveCheckpoint(found, run, checkpointName(9), checkpointFiles(9), { keep: 1 });
      expect(await loadCheckpoint(found, run)).toEqual({ step: 9, mark: 9 });
      expect(await found.list(`${run}/checkpoints`)).toEqual([checkpointName(9)]);
      expect(await found.list(run)).toEqual(["checkpoints", "latest"]);
    }
  });

  test("a file system that forgets fsync would be caught", async () => {
    const fs = new CrashFileSystem();
    fs.fsync = () => Promise.resolve();
    expect(await workload(fs)).toBe(saves.length);
    await expect(loadCheckpoint(fs.afterCrash(survivors("none")), run)).rejects.toThrow();
  });
});

test("disk full at every step: SAVE_FAILED, the previous checkpoint loads, nothing temporary stays", async () => {
  const before = new CrashFileSystem();
  await saveCheckpoint(before, run, checkpointName(1), checkpointFiles(1));
  let failures = 0;
  for (let fullAt = 0; ; fullAt++) {
    const fs = before.afterCrash(survivors("all"));
    fs.fullAt = fullAt;
    const error: unknown = await saveCheckpoint(fs, run, checkpointName(2), checkpointFiles(2)).then(
      () => null,
      (reason: unknown) => reason,
    );
    if (error === null) break;
    failures++;
    expect(error).toMatchObject({
      code: "SAVE_FAILED",
      op: "save",
      remedy: expect.stringContaining("space") as string,
    });
    expect((await loadCheckpoint(fs, run)).step).toBe(1);
    expect(fs.paths().filter((path) => path.includes(".saving-"))).toEqual([]);
  }
  expect(failures).toBeGreaterThan(8);
});

test("one folder replaced again and again, stopped at every step twice: it is whole, and nothing stays beside it", async () => {
  const save = (fs: CrashFileSystem, mark: string) =>
    saveFolderAtomically(fs, "/m/x", [savedFile("config.json", mark), savedFile(`only-${mark}`, mark)]);
  const stopped = async (fs: CrashFileSystem, stopAt: number, marks: string[]) => {
    fs.stopAt = stopAt;
    for (const mark of marks) await save(fs, mark).catch((error: unknown) => expect(error).toBeInstanceOf(PowerCut));
    return fs.afterCrash(survivors("all"));
  };
  const whole = new CrashFileSystem();
  for (const mark of ["a", "b"]) await save(whole, mark);
  for (let first = 8; first < whole.steps; first++) {
    for (let second = 0; second < 24; second += 3) {
      const found = await stopped(await stopped(new CrashFileSystem(), first, ["a", "b"]), second, ["c"]);
      await save(found, "d");
      expect(found.paths()).toEqual(["/m/", "/m/x/", "/m/x/config.json", "/m/x/only-d", "/m/x/SHA256SUMS"]);
    }
  }
});

test("where the new folder cannot take its place, the old one goes back to it", async () => {
  const fs = new CrashFileSystem();
  await saveFolderAtomically(fs, "/m/x", [savedFile("config.json", "old")]);
  const rename = fs.rename.bind(fs);
  fs.rename = (from, to) =>
    from.includes(".saving-") ? Promise.reject(systemError("EACCES", "rename", to)) : rename(from, to);
  await expect(saveFolderAtomically(fs, "/m/x", [savedFile("config.json", "new")])).rejects.toMatchObject({
    code: "SAVE_FAILED",
  });
  expect(fs.paths()).toEqual(["/m/", "/m/x/", "/m/x/config.json", "/m/x/SHA256SUMS"]);
  expect(new TextDecoder().decode(await fs.read("/m/x/config.json"))).toBe("old");
});

test("a failing tensor callback keeps its own error, and the older folder", async () => {
  const fs = new CrashFileSystem();
  await saveFolderAtomically(fs, "/m", [savedFile("config.json", "{}")]);
  const broken = {
    name: "config.json",
    chunks: () => {
      throw new RangeError("no tensor");
    },
  };
  await expect(saveFolderAtomically(fs, "/m", [broken])).rejects.toThrow(RangeError);
  expect(new TextDecoder().decode(await fs.read("/m/config.json"))).toBe("{}");
  expect(fs.paths()).toEqual(["/m/", "/m/config.json", "/m/SHA256SUMS"]);
});

describe("on the disk", () => {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "foretoken-save-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test("saves, replaces, keeps the newest two and points to the last", async () => {
    const out = join(folder, "new", "run");
    for (const { step, mark } of saves) {
      await saveCheckpoint(diskFileSystem, out, checkpointName(step), checkpointFiles(step, mark), { keep: 2 });
    }
    expect(readdirSync(join(out, "checkpoints"))).toEqual([checkpointName(3), checkpointName(4)]);
    expect(readFileSync(join(out, "latest"), "utf8")).toBe("step-00000004\n");
    expect(await loadCheckpoint(diskFileSystem, out)).toEqual({ step: 4, mark: 5 });
    expect(await findCheckpoint(diskFileSystem, join(out, "checkpoints", checkpointName(3)))).toMatch(/step-00000003$/);
    const checked = execFileSync("sha256sum", ["--check", "SHA256SUMS"], {
      cwd: join(out, "checkpoints", checkpointName(4)),
    });
    expect(checked.toString()).toBe("config.json: OK\nmodel.safetensors: OK\nstate.json: OK\n");
  });

  test("steps are ordered as numbers, the newest save stays whatever its step, other folders too", async () => {
    const out = join(folder, "older");
    mkdirSync(join(out, "checkpoints", "best"), { recursive: true });
    for (const step of [50, 100_000_000, 99_999_999, 60]) {
      await saveCheckpoint(diskFileSystem, out, checkpointName(step), checkpointFiles(step), { keep: 2 });
    }
    expect(readdirSync(join(out, "checkpoints"))).toEqual(["best", checkpointName(60), checkpointName(100_000_000)]);
  });

  test("a changed byte is found, and where", async () => {
    const path = join(folder, "flipped");
    await saveFolderAtomically(diskFileSystem, path, checkpointFiles(1));
    const file = join(path, "model.safetensors");
    const bytes = readFileSync(file);
    bytes[bytes.length - 3] = (bytes[bytes.length - 3] ?? 0) ^ 4;
    writeFileSync(file, bytes);
    await expect(verifyChecksums(diskFileSystem, path, ["model.safetensors"])).rejects.toMatchObject({
      code: "BAD_CHECKPOINT",
      argument: file,
    });
    await verifyChecksums(diskFileSystem, path, ["config.json"]);
    await expect(verifyChecksums(diskFileSystem, path, ["optimizer.safetensors"])).rejects.toThrow(/no such file/);
  });

  test("a path through a file is SAVE_FAILED", async () => {
    writeFileSync(join(folder, "file"), "");
    const saved = saveCheckpoint(diskFileSystem, join(folder, "file", "run"), "step-1", []);
    await expect(saved).rejects.toMatchObject({ code: "SAVE_FAILED", got: expect.stringMatching(/ENOTDIR/) as string });
    await expect(saveFileAtomically(diskFileSystem, join(folder, "absent", "x"), "")).rejects.toMatchObject({
      code: "SAVE_FAILED",
    });
  });

  test.each([
    ["nothing", undefined, /no such folder/],
    ["neither file", "", /neither file/],
    ["a pointer to nothing", "step-7", /step-7/],
    ["a pointer out of the run", "../../etc", /etc/],
    ["a pointer to the folder itself", "..", /latest/],
  ])("%s is BAD_CHECKPOINT", async (name, pointer, message) => {
    const path = join(folder, name);
    if (pointer !== undefined) mkdirSync(path);
    if (pointer) writeFileSync(join(path, "latest"), pointer);
    await expect(findCheckpoint(diskFileSystem, path)).rejects.toThrow(message);
    await expect(findCheckpoint(diskFileSystem, path)).rejects.toMatchObject({ code: "BAD_CHECKPOINT" });
  });
});
