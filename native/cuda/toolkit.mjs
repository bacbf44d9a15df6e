// npm run cuda:toolkit: brings what the CUDA build needs into build/cuda-toolkit, from PyPI, where it is missing.
// A toolkit that is on the machine already wins: CUDAToolkit_ROOT, else nvcc on the PATH; CUTLASS_ROOT for CUTLASS.
//   node native/cuda/toolkit.mjs           installs
//   node native/cuda/toolkit.mjs --where   prints CMake options that point at it
import { spawnSync } from "node:child_process";
import { existsSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";

// One toolkit version, 13.0: what the PTX device and the recorded resource figures were made with.
const packages = [
  "nvidia-cuda-nvcc==13.0.88",
  "nvidia-cuda-crt==13.0.88",
  "nvidia-nvvm==13.0.88",
  "nvidia-cuda-runtime==13.0.96",
  "nvidia-cuda-cccl==13.0.85",
  "nvidia-cuda-cuobjdump==13.2.51",
  "nvidia-cuda-nvdisasm==13.2.51",
];
const cutlass = "nvidia-cutlass==4.2.0.0";

const folder = resolve(import.meta.dirname, "../../build/cuda-toolkit");
const ours = { toolkit: join(folder, "nvidia/cu13"), cutlass: join(folder, "cutlass_library/source") };

function nvccOnPath() {
  for (const entry of (process.env.PATH ?? "").split(delimiter)) {
    const nvcc = join(entry, "nvcc");
    if (entry && existsSync(nvcc)) return dirname(dirname(realpathSync(nvcc)));
  }
  return undefined;
}

const hasNvcc = (root) => root !== undefined && existsSync(join(root, "bin/nvcc"));
const toolkitRoot = () => [process.env.CUDAToolkit_ROOT, nvccOnPath(), ours.toolkit].find(hasNvcc);
const cutlassRoot = () =>
  [process.env.CUTLASS_ROOT, ours.cutlass].find((root) => root && existsSync(join(root, "include/cutlass/cutlass.h")));

function install(wanted) {
  console.log(`Installing ${wanted.join(", ")} into ${folder}`);
  const pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--root-user-action", "ignore"];
  const child = spawnSync("python3", [...pip, "--target", folder, ...wanted], { stdio: "inherit" });
  if (child.status !== 0) {
    console.error("pip could not install the CUDA toolkit. Install CUDA 13 yourself and set CUDAToolkit_ROOT to it.");
    process.exit(1);
  }
}

// Wheels have no symbolic links; nvcc and CMake look for these names.
function link(target, path) {
  if (existsSync(path)) return;
  rmSync(path, { force: true });
  symlinkSync(target, path);
}

if (process.argv.includes("--where")) {
  const [toolkit, headers] = [toolkitRoot(), cutlassRoot()];
  if (!toolkit || !headers) {
    console.error("The CUDA build needs nvcc 13 and CUTLASS: run `npm run cuda:toolkit` first.");
    process.exit(1);
  }
  const options = { FORETOKEN_CUDA: "ON", CUDAToolkit_ROOT: toolkit, FORETOKEN_CUTLASS: headers };
  console.log(Object.entries(options).map(([name, value]) => `--CD${name}=${value}`).join(" ")); // prettier-ignore
} else {
  const missing = [...(toolkitRoot() ? [] : packages), ...(cutlassRoot() ? [] : [cutlass])];
  if (missing.length > 0) install(missing);
  if (existsSync(ours.toolkit)) {
    link("lib", join(ours.toolkit, "lib64"));
    link("libcudart.so.13", join(ours.toolkit, "lib/libcudart.so"));
  }
  console.log(`CUDA toolkit: ${toolkitRoot()}\nCUTLASS: ${cutlassRoot()}`);
}
