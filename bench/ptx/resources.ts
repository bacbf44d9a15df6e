// What the compiler said of each kernel (native/cuda/compile.mjs keeps it beside the objects).
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

export interface Resource {
  /** The source that the kernel is from, without .cu. */
  readonly file: string;
  /** sm_80 or sm_90a. */
  readonly architecture: string;
  readonly registers: number;
  /** Static, bytes. */
  readonly shared: number;
  /** Bytes. */
  readonly spillStores: number;
  readonly spillLoads: number;
}

/** By mangled name; of one architecture. */
export type Resources = ReadonlyMap<string, Resource>;

/** The addon lies in <build>/ptx; the objects' reports in <build>/CMakeFiles. */
export function readResources(addon: string, architecture: string): Resources {
  const build = dirname(dirname(addon));
  const found = new Map<string, Resource>();
  for (const target of ["foretoken_cuda", "foretoken_cuda_sm90"]) {
    const folder = join(build, "CMakeFiles", `${target}.dir`, "native", "cuda");
    if (!existsSync(folder)) throw new Error(`${folder} is missing: bench:ptx needs the build that the addon is from`);
    for (const file of readdirSync(folder).filter((name) => name.endsWith(".resources.json"))) {
      const kernels = JSON.parse(readFileSync(join(folder, file), "utf8")) as (Resource & { kernel: string })[];
      for (const { kernel, ...resource } of kernels)
        if (resource.architecture === architecture)
          found.set(kernel, { ...resource, file: basename(file, ".cu.o.resources.json") });
    }
  }
  return found;
}
