// Environment variables that TypeScript reads, all of them. Those of the native side (FORETOKEN_THREADS, FORETOKEN_SIMD,
// FORETOKEN_SYNC, FORETOKEN_CACHE) are read in native/core/env.cpp.

export const environment = {
  /** FORETOKEN_DEBUG: 0 quiet (default), 1 details of warnings. */
  get debug(): number {
    return Number(process.env["FORETOKEN_DEBUG"] ?? 0) || 0;
  },
  /** FORETOKEN_ADDON: path of the addon to load in place of the one that belongs to the package. */
  get addon(): string | undefined {
    return process.env["FORETOKEN_ADDON"] || undefined;
  },
  /** FORETOKEN_DEVICE: the kind that openDevice("auto") takes, "cpu" or "cuda", in place of its own choice. */
  get device(): string | undefined {
    return process.env["FORETOKEN_DEVICE"] || undefined;
  },
};
