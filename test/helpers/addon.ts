// The addon under test, and the most that it may take on a disk.
import { join, resolve } from "node:path";
import { native } from "../../lib/native.js";
import { root } from "../structure/sources.js";

export const addonPath = resolve(process.env["FORETOKEN_ADDON"] ?? join(root, "build/Release/foretoken.node"));

/** Bytes: 8 MB with the CUDA backend, 3 MB without. */
export const mostAddonBytes = (): number => (native().gpus().built ? 8_000_000 : 3_000_000);
