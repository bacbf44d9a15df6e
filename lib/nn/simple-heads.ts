// Heads without memory: one matrix, or nothing at all.
import { gatherRows } from "../ops/elementwise.js";
import { linear, packWeight } from "../ops/linear.js";
import { reshape } from "../ops/reshape.js";
import type { Parameter } from "../tape.js";
import type { Tensor } from "../tensor.js";
import type { Module, ModuleCache } from "./module.js";
import type { ParameterStore } from "./parameters.js";

export class LinearHead implements Module {
  private readonly weight: Parameter;

  constructor(store: ParameterStore, name: string, hiddenSize: number) {
    this.weight = store.create(`${name}.weight`, [hiddenSize, hiddenSize], { std: 1 / Math.sqrt(hiddenSize) });
  }

  forward(x: Tensor): Tensor {
    return linear(x, this.weight);
  }

  newCache(): ModuleCache {
    const packed = packWeight(this.weight);
    return {
      forward: (x, _, some) => linear(some ? gatherRows(x, some.index) : x, packed),
      dispose: () => packed.dispose(),
    };
  }
}

export const identityHead: Module = {
  forward: (x) => reshape(x, x.shape),
  newCache: () => ({
    forward: (x, _, some) => (some ? gatherRows(x, some.index) : reshape(x, x.shape)),
    dispose: () => undefined,
  }),
};
