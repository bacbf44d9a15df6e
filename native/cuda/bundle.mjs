// npm run gpu:bundle: one archive, build/foretoken-gpu.tar.xz, with everything that proves the CUDA backend on a machine
// that has a GPU and its driver, and neither network nor Node: node itself, the addon, the C++ kernel tests, the test
// suite and the benches. There:
//   tar xf foretoken-gpu.tar.xz && foretoken-gpu/run.sh
// which runs bundle-run.mjs and leaves foretoken-gpu/results/*.json: a summary, doctor, kernels, suite, benches.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { tsImport } from "tsx/esm/api";

const most = 60 << 20; // bytes of the archive
const root = resolve(import.meta.dirname, "../..");
const folder = join(root, "build/foretoken-gpu");
const archive = `${folder}.tar.xz`;
const addon = "build/Release/foretoken.node";
const kernelTests = "build/ptx/kernel_tests_cuda";

for (const needed of [addon, kernelTests]) {
  if (existsSync(join(root, needed))) continue;
  console.error(`${needed} is missing: run \`npm run build:cuda:tests\` first.`);
  process.exit(1);
}

const take = (path, options = {}) => cpSync(join(root, path), join(folder, path), { recursive: true, ...options });

// A package, where it lies, with all that it depends on; optional ones as far as they are installed.
function takePackage(name, from, taken) {
  let at = from;
  while (!existsSync(join(at, "node_modules", name, "package.json"))) {
    if (at === root) return;
    at = dirname(at);
  }
  const path = join(at, "node_modules", name);
  if (taken.has(path)) return;
  taken.add(path);
  const {
    dependencies = {},
    optionalDependencies = {},
    peerDependencies = {},
  } = JSON.parse(readFileSync(join(path, "package.json"), "utf8"));
  for (const each of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies }))
    takePackage(each, path, taken);
}

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const packages = new Set();
for (const name of [...Object.keys(manifest.dependencies), "vitest", "tsx", "tinybench", "fast-check"])
  takePackage(name, root, packages);
// Needed by neither tests nor benches, and large.
const unused = /\.(map|md|markdown|d\.[cm]?ts)$|\/(typescript|@types)(\/|$)|-(musl|darwin|win32|android|freebsd|arm64)/;
for (const path of packages) {
  const relative = path.slice(root.length + 1);
  if (!unused.test(relative)) take(relative, { filter: (file) => !unused.test(file) });
}
// What a bench reads as text, rather than runs.
const { trained, unseen } = await tsImport("../../bench/trained.ts", import.meta.url);
for (const name of [...trained, ...unseen]) take(`node_modules/${name}`, { filter: (file) => !unused.test(file) });
const files = ["package.json", "tsconfig.json", "vitest.config.ts", "lib", "bench", "test", "dist", addon, kernelTests];
for (const path of files) take(path, { filter: (file) => !file.includes("/test/ptx") });
cpSync(realpathSync(process.execPath), join(folder, "node"));
const commit = execFileSync("git", ["describe", "--always", "--dirty"], { cwd: root, encoding: "utf8" }).trim();
writeFileSync(join(folder, "commit"), `${commit}\n`);
cpSync(join(import.meta.dirname, "bundle-run.mjs"), join(folder, "run.mjs"));
writeFileSync(
  join(folder, "run.sh"),
  `#!/bin/sh
# Proves the CUDA backend of foretoken ${commit} on this machine's GPU: ./run.sh [--smoke] [part…], see run.mjs.
cd "$(dirname "$0")" && exec ./node run.mjs "$@"
`,
);
chmodSync(join(folder, "run.sh"), 0o755);
rmSync(join(folder, "bench/results"), { recursive: true, force: true });
rmSync(archive, { force: true });
execFileSync("tar", ["-C", dirname(folder), "-cf", archive, "-I", "xz -T0 -9", "foretoken-gpu"], { stdio: "inherit" });
const bytes = statSync(archive).size;
console.log(`${archive}: ${(bytes / 2 ** 20).toFixed(1)} MB, commit ${commit}`);
if (bytes > most) {
  console.error(`The archive is larger than ${most >> 20} MB.`);
  process.exit(1);
}
