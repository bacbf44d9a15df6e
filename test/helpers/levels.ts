// Where the tests compute: the CPU at each of its SIMD levels or, with FORETOKEN_DEVICE=cuda, the GPU in its place.
import { openDevice, type Device } from "../../lib/device.js";
import { native } from "../../lib/native.js";

export const onGpu = process.env["FORETOKEN_DEVICE"] === "cuda";

/** The levels that this machine can run ("generic", "avx2", …), or the GPU's only one ("sm_80", "sm_90"). */
export const levels = (): readonly string[] => (onGpu ? [openDevice("cuda").simd] : native().machine().levels);

export const openLevel = (level: string): Device =>
  level.startsWith("sm_") ? openDevice("cuda") : openDevice("cpu", { simd: level });

/** Whether that GPU is the software one of test/ptx, whose card can be set by variables. */
export const onSoftwareGpu = onGpu && /\bptx\b/.test(process.env["FORETOKEN_ADDON"] ?? "");

/** What a test computes in that is not about rounding. A software GPU takes f32 products one multiply-add at a time. */
export const quickDtype = onSoftwareGpu ? "bf16" : "f32";
/** Likewise where both are to be tried. */
export const quickDtypes: readonly ("f32" | "bf16")[] = onSoftwareGpu ? ["bf16"] : ["f32", "bf16"];
