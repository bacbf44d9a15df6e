// Environment variables that the benches read and set, all of them.

export const environment = {
  /** FORETOKEN_PYTHON: a Python with PyTorch; absent: nothing is compared with PyTorch. */
  get python(): string | undefined {
    return process.env["FORETOKEN_PYTHON"] || undefined;
  },
  /** FORETOKEN_ADDON: the addon to load in place of the one in build/. */
  get addon(): string | undefined {
    return process.env["FORETOKEN_ADDON"] || undefined;
  },
};

/** For a process on the software GPU: a card, the file for its counters, and nothing checked that is not counted. */
export const softwareGpu = (set: {
  addon: string;
  card: string;
  report: string;
  multiprocessors: number;
}): NodeJS.ProcessEnv => ({
  ...process.env,
  FORETOKEN_ADDON: set.addon,
  FORETOKEN_DEVICE: "cuda",
  PTX_DEVICE: set.card,
  PTX_SMS: String(set.multiprocessors),
  PTX_REPORT: set.report,
  PTX_SANITIZE: "off",
});

/** Calls `open` so that every kernel call of the device it opens waits for its end. */
export function waitingForEachKernel<T>(open: () => T): T {
  const before = process.env["FORETOKEN_SYNC"];
  process.env["FORETOKEN_SYNC"] = "1";
  try {
    return open();
  } finally {
    if (before === undefined) delete process.env["FORETOKEN_SYNC"];
    else process.env["FORETOKEN_SYNC"] = before;
  }
}

/**
 * For PyTorch: the same number of threads, and an allocator that keeps memory and takes huge pages; with glibc's
 * defaults a step mostly measures page faults.
 */
export const pythonEnvironment = (threads: number): NodeJS.ProcessEnv => ({
  ...process.env,
  OMP_NUM_THREADS: String(threads),
  MKL_NUM_THREADS: String(threads),
  PYTHONUNBUFFERED: "1",
  GLIBC_TUNABLES: [
    "glibc.malloc.hugetlb=1",
    "glibc.malloc.mmap_threshold=4294967296",
    "glibc.malloc.trim_threshold=8589934592",
  ].join(":"),
});
