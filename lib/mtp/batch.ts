// A batch on the device: tokens, targets, and where documents begin and end.
import type { Device } from "../device.js";
import type { Batch, BatchShape } from "../io/batch.js";
import { owning } from "../scope.js";
import { empty, type Tensor } from "../tensor.js";

/** A dataset's batch on a device, in buffers that are written anew for every batch of these sizes. */
export class DeviceBatch {
  readonly batchSize: number;
  /** T: positions that are read; T + n tokens are stored per row. */
  readonly length: number;
  readonly tokens: Tensor;
  readonly targets: Tensor;
  readonly limit: Tensor;
  readonly firstKey: Tensor;

  constructor(device: Device, { batchSize, contextLength, lookahead }: BatchShape) {
    this.batchSize = batchSize;
    this.length = contextLength;
    const buffer = (columns: number): Tensor => empty([batchSize, columns], { dtype: "i32", device, tag: "data" });
    const [stored, read] = [contextLength + lookahead, contextLength];
    [this.tokens, this.targets, this.limit, this.firstKey] = owning(() => [
      buffer(stored),
      buffer(stored),
      buffer(read),
      buffer(read),
    ]);
  }

  write(batch: Batch): void {
    this.tokens.write(batch.tokens);
    this.targets.write(batch.targets);
    this.limit.write(batch.limit);
    this.firstKey.write(batch.firstKey);
  }

  dispose(): void {
    for (const buffer of [this.tokens, this.targets, this.limit, this.firstKey]) buffer.dispose();
  }
}
