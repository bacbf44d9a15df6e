// Written by native/node/generate.mjs from native/kernels.h, which says what each kernel does. Do not edit.

/** A tensor's number on the native side. */
export type Handle = number;
export type OptionalHandle = Handle | null | undefined;

export interface Kernels {
  fill(y: Handle, value: number): void;
  cast(x: Handle, y: Handle): void;
  add(a: Handle, b: Handle, y: Handle): void;
  scale(x: Handle, alpha: number, y: Handle): void;
  multiply(a: Handle, b: Handle, y: Handle): void;
  accumulate(x: Handle, alpha: number, y: Handle): void;
  randomNormal(y: Handle, mean: number, std: number, seed: number, stream: number): void;
  gatherRows(x: Handle, index: Handle, y: Handle): void;
  linear(x: Handle, weight: Handle, bias: OptionalHandle, residual: OptionalHandle, y: Handle): void;
  linearBackwardInput(dy: Handle, weight: Handle, dx: Handle, accumulate: boolean): void;
  linearBackwardWeight(dy: Handle, x: Handle, dweight: Handle, dbias: OptionalHandle, accumulate: boolean): void;
  packWeight(weight: Handle, packed: Handle): void;
  rmsNorm(x: Handle, weight: Handle, y: Handle, eps: number): void;
  rmsNormBackward(
    dy: Handle,
    x: Handle,
    weight: Handle,
    dx: Handle,
    dweight: Handle,
    eps: number,
    accumulateDx: boolean,
    accumulateDweight: boolean,
  ): void;
  rope(x: Handle, positions: OptionalHandle, period: number, theta: number, inverse: boolean): void;
  attention(q: Handle, k: Handle, v: Handle, firstKey: OptionalHandle, out: Handle, lse: Handle, scale: number): void;
  attentionBackward(
    q: Handle,
    k: Handle,
    v: Handle,
    firstKey: OptionalHandle,
    out: Handle,
    lse: Handle,
    dout: Handle,
    dq: Handle,
    dk: Handle,
    dv: Handle,
    scale: number,
  ): void;
  cacheAppend(k: Handle, v: Handle, sequence: Handle, position: Handle, keyCache: Handle, valueCache: Handle): void;
  ropeAppend(
    qkv: Handle,
    sequence: Handle,
    position: Handle,
    place: Handle,
    q: Handle,
    keyCache: Handle,
    valueCache: Handle,
    theta: number,
  ): void;
  attentionCached(
    q: Handle,
    keyCache: Handle,
    valueCache: Handle,
    sequence: Handle,
    position: Handle,
    firstKey: OptionalHandle,
    branch: OptionalHandle,
    out: Handle,
    scale: number,
  ): void;
  swiglu(gate: Handle, up: Handle, y: Handle): void;
  swigluBackward(dy: Handle, gate: Handle, up: Handle, dgate: Handle, dup: Handle): void;
  embedding(tokens: Handle, weight: Handle, y: Handle, status: OptionalHandle): void;
  embeddingBackward(dy: Handle, tokens: Handle, dweight: Handle, accumulate: boolean): void;
  rnn(a: Handle, weight: Handle, h0: OptionalHandle, h: Handle): void;
  rnnBackward(
    dh: Handle,
    h: Handle,
    weight: Handle,
    h0: OptionalHandle,
    da: Handle,
    dweight: Handle,
    accumulate: boolean,
  ): void;
  linearCrossEntropy(
    hidden: Handle,
    weight: Handle,
    bias: OptionalHandle,
    targets: Handle,
    limit: OptionalHandle,
    shift: number,
    labelSmoothing: number,
    zLoss: number,
    logitScale: number,
    softcap: number,
    loss: Handle,
    lse: Handle,
    argmax: OptionalHandle,
    rank: OptionalHandle,
    entropy: OptionalHandle,
  ): void;
  linearCrossEntropyBackward(
    hidden: Handle,
    weight: Handle,
    bias: OptionalHandle,
    targets: Handle,
    limit: OptionalHandle,
    shift: number,
    labelSmoothing: number,
    zLoss: number,
    logitScale: number,
    softcap: number,
    lse: Handle,
    upstream: Handle,
    dhidden: OptionalHandle,
    dweight: OptionalHandle,
    dbias: OptionalHandle,
    accumulateDhidden: boolean,
    accumulateDweight: boolean,
  ): void;
  reduceLoss(
    loss: Handle,
    targets: Handle,
    rowWeight: OptionalHandle,
    mean: boolean,
    total: Handle,
    share: Handle,
  ): void;
  linearCrossEntropyTrain(
    hidden: Handle,
    weight: Handle,
    bias: OptionalHandle,
    targets: Handle,
    limit: OptionalHandle,
    shift: number,
    labelSmoothing: number,
    zLoss: number,
    logitScale: number,
    softcap: number,
    scale: Handle,
    rowWeight: OptionalHandle,
    loss: Handle,
    argmax: OptionalHandle,
    dhidden: Handle,
    dweight: Handle,
    dbias: OptionalHandle,
    accumulateDhidden: boolean,
    accumulateDweight: boolean,
  ): void;
  crossEntropy(
    logits: Handle,
    targets: Handle,
    limit: OptionalHandle,
    shift: number,
    loss: Handle,
    lse: Handle,
    argmax: OptionalHandle,
  ): void;
  crossEntropyBackward(
    logits: Handle,
    targets: Handle,
    limit: OptionalHandle,
    shift: number,
    lse: Handle,
    upstream: Handle,
    dlogits: Handle,
  ): void;
  multiTokenMetrics(
    loss: Handle,
    argmax: Handle,
    targets: Handle,
    limit: OptionalHandle,
    sums: Handle,
    accumulate: boolean,
  ): void;
  gradientNorm(grads: readonly OptionalHandle[], norm: Handle): void;
  adamw(
    params: readonly OptionalHandle[],
    grads: readonly OptionalHandle[],
    m: readonly OptionalHandle[],
    v: readonly OptionalHandle[],
    compute: readonly OptionalHandle[],
    decay: Float32Array | readonly number[],
    state: Handle,
    norm: Handle,
    status: Handle,
    beta1: number,
    beta2: number,
    eps: number,
    clipNorm: number,
  ): void;
  sample(logits: Handle, settings: Handle, counters: Handle, token: Handle, logProbability: Handle): void;
  draftRows(rows: Handle, draws: Handle, progress: Handle, capacity: number, columns: Handle, counters: Handle): void;
  acceptDraft(
    rows: Handle,
    read: Handle,
    drawn: Handle,
    logProbability: Handle,
    progress: Handle,
    last: Handle,
    step: Handle,
    results: Handle,
  ): void;
}
