// The two trunks: a Llama without its last layers, and the notebook's tanh RNN.
import { cacheAppend } from "../ops/attention.js";
import { copyInto, gatherRows } from "../ops/elementwise.js";
import { embedding } from "../ops/embedding.js";
import { linear } from "../ops/linear.js";
import { reshape } from "../ops/reshape.js";
import { rnn } from "../ops/rnn.js";
import { scope } from "../scope.js";
import type { Parameter } from "../tape.js";
import { empty, zeros, type Tensor } from "../tensor.js";
import type { SequenceContext, StepRows, Trunk, TrunkCache } from "./module.js";
import type { ParameterStore } from "./parameters.js";
import { TransformerLayer, type TransformerSize } from "./transformer.js";

type TrunkContext = SequenceContext & { status?: Tensor | undefined };

export class TransformerTrunk implements Trunk {
  readonly embedding: Parameter;
  private readonly layers: readonly TransformerLayer[];

  constructor(store: ParameterStore, size: TransformerSize & { vocabSize: number; trunkLayers: number }) {
    this.embedding = store.create("model.embed_tokens.weight", [size.vocabSize, size.hiddenSize], {
      std: size.initializerRange,
    });
    this.layers = Array.from(
      { length: size.trunkLayers },
      (_, i) => new TransformerLayer(store, `model.layers.${i}`, size),
    );
  }

  forward(tokens: Tensor, length: number, context: TrunkContext): Tensor {
    return scope(() => {
      let x = embedding(tokens, this.embedding, { length, status: context.status });
      for (const layer of this.layers) {
        const next = layer.forward(x, context);
        x.dispose();
        x = next;
      }
      return x;
    });
  }

  newCache(slots: number, capacity: number): TrunkCache {
    const caches = this.layers.map((layer) => layer.newCache(slots, capacity));
    return {
      forward: (tokens, rows) =>
        scope(() => {
          const embedded = embedding(tokens.view([tokens.size, 1]), this.embedding);
          return caches.reduce(
            (x, cache) => cache.forward(x, rows),
            reshape(embedded, [tokens.size, embedded.shape.at(-1) ?? 0]),
          );
        }),
      move: (moves) => {
        for (const cache of caches) cache.move?.(moves);
      },
      dispose: () => {
        for (const cache of caches) cache.dispose();
      },
    };
  }
}

export class RnnTrunk implements Trunk {
  readonly embedding: Parameter;
  private readonly input: Parameter;
  private readonly recurrent: Parameter;
  private readonly bias: Parameter;

  constructor(
    store: ParameterStore,
    private readonly size: { vocabSize: number; embeddingSize: number; hiddenSize: number },
  ) {
    const { vocabSize, embeddingSize, hiddenSize } = size;
    const std = 1 / Math.sqrt(3 * hiddenSize); // that of torch.nn.RNN's uniform start
    this.embedding = store.create("model.embed_tokens.weight", [vocabSize, embeddingSize], { std: 1 });
    this.input = store.create("model.rnn.weight_ih_l0", [hiddenSize, embeddingSize], { std });
    this.recurrent = store.create("model.rnn.weight_hh_l0", [hiddenSize, hiddenSize], { std });
    this.bias = store.create("model.rnn.bias_ih_l0", [hiddenSize], "zeros");
  }

  forward(tokens: Tensor, length: number, context: TrunkContext): Tensor {
    return scope(() => this.recur(embedding(tokens, this.embedding, { length, status: context.status })));
  }

  /** embedded (B, T, e) → (B, T, d), from h0 (B, d) or zeros. */
  private recur(embedded: Tensor, h0?: Tensor): Tensor {
    return rnn(linear(embedded, this.input, { bias: this.bias }), this.recurrent, h0);
  }

  newCache(slots: number, capacity: number): TrunkCache {
    const { hiddenSize, embeddingSize } = this.size;
    const { dtype, device } = this.embedding.value;
    // The hidden state at every position, so that a sequence can go on from any of them.
    const states = zeros([slots, 1, capacity, hiddenSize], { dtype, device, tag: "cache" });
    /** embedded (count, length, e): rows from `start` on, of as many sequences, each going on from the state before. */
    const advance = (embedded: Tensor, rows: StepRows, start: number): Tensor => {
      const [count = 0, length = 0] = embedded.shape;
      const before = gatherRows(states.view([slots * capacity, hiddenSize]), rows.previous.view([count], start));
      const h = this.recur(embedded, before).view([count * length, 1, hiddenSize]);
      const part = (column: Tensor): Tensor => column.view([count * length], start);
      const own = part(rows.branch?.own ?? rows.position);
      cacheAppend(h, h, { sequence: part(rows.sequence), position: own }, states, states);
      return h.view([count * length, hiddenSize]);
    };
    return {
      forward: (tokens, rows) =>
        scope(() => {
          const embedded = embedding(tokens.view([tokens.size, 1]), this.embedding);
          if (rows.runs.every((length) => length === 1)) return advance(embedded, rows, 0);
          const out = empty([tokens.size, hiddenSize], { dtype, device });
          let start = 0;
          for (const length of rows.runs) {
            const h = advance(embedded.view([1, length, embeddingSize], start * embeddingSize), rows, start);
            copyInto(out.view([length, hiddenSize], start * hiddenSize), h);
            start += length;
          }
          return out;
        }),
      dispose: () => {
        states.dispose();
      },
    };
  }
}
