// Environment variables that the benches read and set, all of them.

export const environment = {
  /** FORETOKEN_PYTHON: a Python with PyTorch; absent: nothing is compared with PyTorch. */
  get python(): string | undefined {
    return process.env["FORETOKEN_PYTHON"] || undefined;
  },
};

/** Lets every kernel call of the devices that are opened from now on wait for its end. */
export function waitForEachKernel(): void {
  process.env["FORETOKEN_SYNC"] = "1";
}

/** For a child that runs our own code on this many threads. */
export const ourEnvironment = (): NodeJS.ProcessEnv => ({ ...process.env });

/**
 * For PyTorch: the same number of threads, which sleep while the other side runs, and an allocator that keeps memory and
 * takes huge pages; with glibc's defaults a step mostly measures page faults.
 */
export const pythonEnvironment = (threads: number): NodeJS.ProcessEnv => ({
  ...process.env,
  OMP_NUM_THREADS: String(threads),
  MKL_NUM_THREADS: String(threads),
  OMP_WAIT_POLICY: "PASSIVE",
  GOMP_SPINCOUNT: "100000",
  KMP_BLOCKTIME: "1",
  PYTHONUNBUFFERED: "1",
  GLIBC_TUNABLES: [
    "glibc.malloc.hugetlb=1",
    "glibc.malloc.mmap_threshold=4294967296",
    "glibc.malloc.trim_threshold=8589934592",
  ].join(":"),
});
