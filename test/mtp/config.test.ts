import { describe, expect, it } from "vitest";
import { ForetokenError } from "../../lib/errors.js";
import { resolveConfig, sameSize, type ModelOptions } from "../../lib/mtp/config.js";
import { headWeightsAt } from "../../lib/mtp/head-weights.js";
import { LanguageModel } from "../../lib/mtp/model.js";
import { openDevice } from "../../lib/device.js";

const config = { vocabSize: 256, hiddenSize: 64, trunkLayers: 3, numAttentionHeads: 4 };

const codeOf = (fn: () => unknown): ForetokenError => {
  try {
    fn();
  } catch (error) {
    if (error instanceof ForetokenError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
};

describe("settings that are refused", () => {
  const cases: [string, object, RegExp][] = [
    ["a negative size", { hiddenSize: -64 }, /hiddenSize: expected a number > 0, got -64/],
    ["a fraction", { trunkLayers: 2.5 }, /trunkLayers: expected a whole number, got 2.5/],
    ["a string", { hiddenSize: "64" }, /hiddenSize: expected a number, got "64"/],
    ["an unknown family", { headFamily: "serial" }, /headFamily: expected one of parallel, .*got "serial"/],
    ["an unknown setting", { hidenSize: 64 }, /hidenSize: .*Did you mean "hiddenSize"/],
    [
      "a hidden size that heads do not divide",
      { numAttentionHeads: 5 },
      /numAttentionHeads: expected a divisor of hiddenSize 64, got 5/,
    ],
    ["an odd width per head", { numAttentionHeads: 64 }, /even width/],
    [
      "key/value heads that do not divide",
      { numKeyValueHeads: 3 },
      /numKeyValueHeads: expected a divisor of numAttentionHeads 4, got 3/,
    ],
    [
      "equal predictions",
      { headFamily: "none", unembedding: "shared", futureTokens: 2 },
      /unembedding: expected "replicated"/,
    ],
    [
      "layers on an RNN",
      { trunk: "rnn", trunkLayers: 1, headFamily: "parallel" },
      /headFamily: expected none or linear/,
    ],
    ["no heads at all", { futureTokens: 0 }, /futureTokens: expected a number > 0, got 0/],
  ];
  it.each(cases)("%s", (_name, change, message) => {
    const error = codeOf(() => resolveConfig({ ...config, ...change }));
    expect(error.code).toBe("BAD_CONFIG");
    expect(error.message).toMatch(message);
  });

  it("no vocabulary and no tokenizer", () => {
    expect(codeOf(() => LanguageModel.create({ hiddenSize: 64 })).message).toMatch(/vocabSize: expected .*got nothing/);
  });
});

describe("sameSize", () => {
  it.each([1, 2, 4, 7])("n = %d keeps the number of parameters", (n) => {
    using device = openDevice("dry");
    const count = (options: ModelOptions): number => LanguageModel.create(options, { device }).parameters.count;
    const whole = { ...config, trunkLayers: 6, futureTokens: 1 };
    expect(count(sameSize(whole, n))).toBe(count(whole));
    expect(sameSize(whole, n)).toMatchObject({ futureTokens: n, trunkLayers: 7 - n });
  });

  it("refuses more heads than layers", () => {
    expect(codeOf(() => sameSize({ ...config, futureTokens: 1 }, 5)).message).toMatch(
      /futureTokens: expected 1 to 4, got 5/,
    );
  });
});

describe("head weights", () => {
  it.each([
    ["equal", [1, 1, 1]],
    ["mean", [1 / 3, 1 / 3, 1 / 3]],
    [{ geometric: 0.5 }, [1, 0.5, 0.25]],
    [
      [3, 2, 1],
      [3, 2, 1],
    ],
    [(step: number) => [step, 0, 1], [7, 0, 1]],
  ] as const)("%o", (weights, expected) => {
    expect(headWeightsAt(weights, 3, 7)).toEqual(expected);
  });

  it.each([[[1, 2]], [[1, -1, 0]], [[1, NaN, 1]]])("refuses %o", (weights) => {
    expect(codeOf(() => headWeightsAt(weights, 3, 1)).code).toBe("BAD_OPTION");
  });
});
