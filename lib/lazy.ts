// Packages that are loaded at their first use, so that importing foretoken stays quick.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

/**
 * A function that gives the package. Its type is the caller's to name.
 *
 * @example
 * const globs = lazyPackage<typeof import("tinyglobby")>("tinyglobby");
 */
export function lazyPackage<Package>(name: string): () => Package {
  let loaded: Package | undefined;
  return () => (loaded ??= require(name) as Package);
}
