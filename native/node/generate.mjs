// Writes lib/native.generated.d.ts from the addon, which has it from native/kernels.h; --check only compares.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const target = fileURLToPath(new URL("../../lib/native.generated.d.ts", import.meta.url));
const require = createRequire(import.meta.url);
const addon = process.env.FORETOKEN_ADDON ? require(process.env.FORETOKEN_ADDON) : require("node-gyp-build")(root);
const text = addon.declarations();

if (process.argv.includes("--check")) {
  if (readFileSync(target, "utf8") !== text) {
    console.error("lib/native.generated.d.ts is not what native/kernels.h says: run `npm run generate`.");
    process.exit(1);
  }
} else {
  writeFileSync(target, text);
}
