// Who may import whom in lib/: the picture at the top of CONTRIBUTING.md, held.
import { dirname, join } from "node:path";
import ts from "typescript";
import { expect, test } from "vitest";
import { read, sources } from "./sources.js";

// Each layer with those it may import besides itself. `base` has no layer below it; mtp uses io to save and load a model.
const mayImport: Record<string, readonly string[]> = {
  base: [],
  native: ["base"],
  tensor: ["native", "base"],
  ops: ["tensor", "native", "base"],
  nn: ["ops", "tensor", "native", "base"],
  mtp: ["nn", "ops", "io", "tensor", "native", "base"],
  io: ["tensor", "native", "base"],
  train: ["mtp", "nn", "ops", "io", "tensor", "native", "base"],
  decode: ["mtp", "nn", "ops", "io", "tensor", "native", "base"],
  tasks: ["io", "tensor", "native", "base"],
  studies: ["train", "decode", "tasks", "mtp", "nn", "ops", "io", "tensor", "native", "base"],
  index: ["studies", "train", "decode", "tasks", "mtp", "nn", "ops", "io", "tensor", "native", "base"],
  cli: ["index", "studies", "train", "decode", "tasks", "mtp", "nn", "ops", "io", "tensor", "native", "base"],
};

// Files at the top of lib belong to `tensor` unless they are named here.
const layerOfFile: Record<string, string> = {
  "lib/index.ts": "index",
  "lib/errors.ts": "base",
  "lib/env.ts": "base",
  "lib/lazy.ts": "base",
  "lib/validation.ts": "base",
  "lib/bf16.ts": "base",
  "lib/native.ts": "native",
  "lib/native.generated.d.ts": "native",
};

const files = sources("lib", ".ts");

function layer(file: string): string {
  const [, folder, below] = file.split("/");
  return below === undefined ? (layerOfFile[file] ?? "tensor") : String(folder);
}

interface Import {
  readonly file: string;
  readonly typeOnly: boolean;
}

function importsOf(file: string): Import[] {
  const found: Import[] = [];
  const add = (specifier: ts.Node | undefined, typeOnly: boolean): void => {
    if (!specifier || !ts.isStringLiteral(specifier) || !specifier.text.startsWith(".")) return;
    const path = join(dirname(file), specifier.text.replace(/\.js$/, ""));
    found.push({ file: files.includes(`${path}.ts`) ? `${path}.ts` : `${path}.d.ts`, typeOnly });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      add(node.moduleSpecifier, node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword);
    } else if (ts.isExportDeclaration(node)) {
      add(node.moduleSpecifier, node.isTypeOnly);
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      add(node.argument.literal, true);
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      add(node.arguments[0], false);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, read(file), ts.ScriptTarget.ES2022, false));
  return found;
}

/** The first circle of run-time imports, as a chain of files; empty when there is none. */
function circle(importsOf: (file: string) => readonly string[], files: readonly string[]): string[] {
  const done = new Set<string>();
  const chain: string[] = [];
  const walk = (file: string): string[] => {
    if (chain.includes(file)) return [...chain.slice(chain.indexOf(file)), file];
    if (done.has(file)) return [];
    chain.push(file);
    for (const next of importsOf(file)) {
      const found = walk(next);
      if (found.length > 0) return found;
    }
    chain.pop();
    done.add(file);
    return [];
  };
  for (const file of files) {
    const found = walk(file);
    if (found.length > 0) return found;
  }
  return [];
}

test("every file of lib belongs to a layer", () => {
  expect(files.length).toBeGreaterThan(0);
  expect(files.filter((file) => !(layer(file) in mayImport))).toEqual([]);
});

test("a layer imports only the layers below it", () => {
  const wrong = files.flatMap((file) =>
    importsOf(file)
      .filter(({ file: to }) => layer(to) !== layer(file) && !mayImport[layer(file)]?.includes(layer(to)))
      .map(({ file: to }) => `${file} (${layer(file)}) imports ${to} (${layer(to)})`),
  );
  expect(wrong).toEqual([]);
});

test("every relative import names a file of lib", () => {
  const missing = files.flatMap((file) => importsOf(file).filter(({ file: to }) => !files.includes(to)));
  expect(missing).toEqual([]);
});

test("run-time imports go in no circle", () => {
  expect(circle((file) => (file === "a" ? ["b"] : file === "b" ? ["c"] : ["b"]), ["a"])).toEqual(["b", "c", "b"]);
  const runTime = (file: string): string[] =>
    importsOf(file)
      .filter(({ typeOnly }) => !typeOnly)
      .map(({ file: to }) => to)
      .filter((to) => files.includes(to));
  expect(circle(runTime, files)).toEqual([]);
});
