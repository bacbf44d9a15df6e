// Environment variables that TypeScript reads, all of them. Those of the native side (FORETOKEN_THREADS, FORETOKEN_SIMD,
// FORETOKEN_SYNC) are read in native/core/env.cpp.

export const environment = {
  /** FORETOKEN_DEBUG: 0 quiet (default), 1 details of warnings. */
  get debug(): number {
    return Number(process.env["FORETOKEN_DEBUG"] ?? 0) || 0;
  },
  /** FORETOKEN_ADDON: path of the addon to load in place of the one that belongs to the package. */
  get addon(): string | undefined {
    return process.env["FORETOKEN_ADDON"] || undefined;
  },
};
