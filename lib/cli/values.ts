// What is written behind an option, as a value; commander puts the option's name in front of what is refused.
import { InvalidArgumentError } from "commander";

/** A whole number, `least` or more. */
export function wholeNumber(least: number): (text: string) => number {
  return (text) => {
    const value = /^[+-]?\d+$/.test(text) ? Number(text) : NaN;
    if (Number.isSafeInteger(value) && value >= least) return value;
    throw new InvalidArgumentError(`Expected a whole number ≥ ${least}.`);
  };
}

/** Any number that satisfies the condition which `wanted` describes. */
export function number(wanted: string, holds: (value: number) => boolean): (text: string) => number {
  return (text) => {
    const value = text.trim() === "" ? NaN : Number(text);
    if (Number.isFinite(value) && holds(value)) return value;
    throw new InvalidArgumentError(`Expected ${wanted}.`);
  };
}

export const positive = number("a number above 0", (value) => value > 0);
export const notNegative = number("a number, 0 or more", (value) => value >= 0);
export const share = number("a number from 0 to below 1", (value) => value >= 0 && value < 1);

const units: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/** Bytes: `2GB`, `512MiB`, `1.5e9`. */
export function byteSize(text: string): number {
  const [, amount = "", unit = ""] = /^\s*([\d.]+(?:e\d+)?)\s*([a-z]*)\s*$/i.exec(text) ?? [];
  const bytes = Math.floor(Number(amount || NaN) * (units[unit.toLowerCase() || "b"] ?? NaN));
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  throw new InvalidArgumentError("Expected bytes, as 2GB, 512MiB or 1500000000.");
}

/** Adds to what an option that may be given several times has collected. */
export const collect = (text: string, before: readonly string[] = []): string[] => [...before, text];
