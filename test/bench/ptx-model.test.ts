// The modelled times of bench:ptx: arithmetic by hand, and what it takes from counters and names.
import { describe, expect, it, test } from "vitest";
import type { Execution, NamedLaunch } from "../../bench/ptx/execute.js";
import { workAt } from "../../bench/ptx/figures.js";
import { isPingPong, l2Bytes, shortName, usageOf } from "../../bench/ptx/launches.js";
import { cards, modelledTime, tensorPeak, type Phase, type Usage, type Work } from "../../bench/ptx/model.js";
import { workloads } from "../../bench/ptx/workloads.js";

const nothing: Usage = { tensor: 0, special: 0, float32: 0, shared: 0, issue: 0 };
const phase = (usage: Partial<Usage>, bytes = 0): Phase => ({ usage: { ...nothing, ...usage }, bytes });

const h100 = cards.sm_90;
/** Bytes of the memory's bandwidth that a multiprocessor of an H100 has in a clock: 13.87. */
const share = 3.35e12 / 132 / 1.83e9;

describe("modelledTime", () => {
  // 1,000 clocks of tensor cores, 200 of special functions.
  const work: Work = {
    blocks: 133,
    mainLoop: phase({ tensor: 4_096_000, shared: 900, issue: 2000 }),
    epilogue: phase({ special: 3200, float32: 12_800, shared: 150 }),
    pingPong: false,
  };

  it("takes waves of main loop and epilogue", () => {
    // 133 blocks on 132 multiprocessors: two waves.
    const { seconds, limit } = modelledTime(h100, work);
    expect(seconds * 1.83e9).toBeCloseTo(2 * (1000 + 200), 6);
    expect(limit).toBe("tensor");
  });

  it("takes the longer of them where warp groups take turns", () => {
    expect(modelledTime(h100, { ...work, pingPong: true }).seconds * 1.83e9).toBeCloseTo(2 * 1000, 6);
  });

  it("takes the slowest unit of a phase, memory by its share of the bandwidth", () => {
    const stored = { ...work, epilogue: phase({ special: 3200 }, 300 * share) };
    expect(modelledTime(h100, stored).seconds * 1.83e9).toBeCloseTo(2 * (1000 + 300), 6);
    const conflicts = { ...work, mainLoop: phase({ tensor: 4_096_000, shared: 1500 }) };
    expect(modelledTime(h100, conflicts)).toMatchObject({ limit: "shared" });
    expect(modelledTime(h100, conflicts).seconds * 1.83e9).toBeCloseTo(2 * (1500 + 200), 6);
  });

  it("is never faster than all bytes take", () => {
    // Each phase hides behind 1,000 clocks of tensor cores, both together do not: 800 + 900 clocks of memory a tile.
    const both: Work = {
      blocks: 132,
      mainLoop: phase({ tensor: 4_096_000 }, 800 * share),
      epilogue: phase({}, 900 * share),
      pingPong: true,
    };
    const { seconds, limit } = modelledTime(h100, both);
    expect(seconds * 1.83e9).toBeCloseTo(1700, 6);
    expect(limit).toBe("memory");
  });

  it("adds what TMA writes to what is read from shared memory where it is told to", () => {
    const product: Work = {
      blocks: 132,
      mainLoop: { ...phase({ tensor: 4_096_000, shared: 800 }), tmaWrites: 450 },
      epilogue: phase({}),
      pingPong: true,
    };
    expect(modelledTime(h100, product).seconds * 1.83e9).toBeCloseTo(1000, 6);
    const delayed = modelledTime(h100, product, { tmaWrites: true });
    expect(delayed.seconds * 1.83e9).toBeCloseTo(1250, 6);
    expect(delayed.limit).toBe("shared");
  });

  it("gives few blocks no more than 64 bytes a clock", () => {
    const one: Work = { blocks: 1, mainLoop: phase({}), epilogue: phase({}, 6400), pingPong: false };
    expect(modelledTime(h100, one).seconds * 1.83e9).toBeCloseTo(100, 6);
  });

  it("knows the cards' tensor cores: 989 and 312 TFLOP/s", () => {
    expect(tensorPeak(h100) / 1e12).toBeCloseTo(989, 0);
    expect(tensorPeak(cards.sm_80) / 1e12).toBeCloseTo(312, 0);
  });
});

const launch = (set: Partial<NamedLaunch>): NamedLaunch => ({
  name: "product",
  kernel: "product",
  device: "sm_90",
  grid: [1, 1, 1],
  block: [128, 1, 1],
  cluster: [1, 1, 1],
  dynamic_shared_bytes: 0,
  static_shared_bytes: 0,
  registers: 32,
  local_bytes: 0,
  blocks_per_sm: 1,
  instructions: {},
  tensor_flop: 0,
  load_sectors: 0,
  load_sectors_minimum: 0,
  load_bytes: 0,
  store_sectors: 0,
  store_sectors_minimum: 0,
  store_bytes: 0,
  asynchronous_bytes: 0,
  shared_wavefronts: 0,
  shared_wavefronts_excess: 0,
  atomics: 0,
  barriers: 0,
  blocks: 1,
  warps: 4,
  divergent_branches: 0,
  ...set,
});

test("a product of another size is more blocks, and more steps in each", () => {
  // A tile of 128×64, to which TMA brings 128 and 64 bf16 for each k: 384 bytes.
  const kernel = "MMA_64x64x16_F32";
  const tensor = 2 * 128 * 64;
  // Each of 4 blocks: 50 passes for itself and 10 for each k; 100 sectors for itself and 2 for each k.
  const run = (K: number): NamedLaunch =>
    launch({
      kernel,
      blocks: 4,
      tensor_flop: 4 * tensor * K,
      shared_wavefronts: 4 * (50 + 10 * K),
      load_sectors: 4 * (100 + 2 * K),
    });
  const execution: Execution = {
    workload: {
      name: "product",
      measured: { M: 64, K: 8 },
      modelled: { M: 640, K: 100 },
      growth: [{ kernel: /^product/, blocks: ({ M = 0 }) => M, depth: "K" }],
      prepare: () => () => undefined,
    },
    measured: [run(8)],
    halves: new Map([["K", [run(4)]]]),
  };
  const { blocks, mainLoop, epilogue } = workAt(execution, 0, run(8));
  expect(blocks).toBe(40);
  expect(mainLoop.usage.tensor).toBeCloseTo(tensor * 100, 6);
  // And two wgmma for each 16 of k, which read 64 and 64 rows of 32 bytes.
  expect(mainLoop.usage.shared).toBeCloseTo(10 * 100 + ((100 / 16) * 2 * 128 * 32) / 128, 9);
  expect(epilogue.usage.shared).toBeCloseTo(50, 9);
  expect(mainLoop.bytes + epilogue.bytes).toBeCloseTo(32 * (100 + 2 * 100), 6);
  expect(mainLoop.tmaWrites).toBeCloseTo((384 * 100) / 128, 9);
});

test("wgmma reads its factors from shared memory, TMA's bytes are no sectors", () => {
  const kernel = "…SM90_TMA_LOAD…MMA_64x256x16_F32BF16BF16…Pingpong…";
  // Two instructions: (64 + 256)·16 bf16 each, 80 passes of 128 bytes.
  const product = launch({ kernel, tensor_flop: 2 * 2 * 64 * 256 * 16, asynchronous_bytes: 1000, store_sectors: 3 });
  expect(usageOf(product).shared).toBe(2 * 80);
  expect(l2Bytes(product)).toBe(1096);
  expect(isPingPong(product)).toBe(true);
  // cp.async is among the sectors.
  expect(l2Bytes(launch({ asynchronous_bytes: 64, load_sectors: 2 }))).toBe(64);
});

test.each([
  [
    "void foretoken::cuda::(anonymous namespace)::attention_kernel<__nv_bfloat16, 64>(foretoken::cuda::Forward<float>)",
    "attention_kernel<bf16, 64>",
  ],
  [
    "void foretoken::cuda::logits_kernel<foretoken::cuda::MmaBlock<true, 4>, (foretoken::cuda::LogitUse)2>(foretoken::cuda::Logits)",
    "logits_kernel<MmaBlock<true, 4>, 2>",
  ],
  ["foretoken::cuda::find_targets_kernel(foretoken::cuda::LossRows, int const*)", "find_targets_kernel"],
])("a kernel's name for people: %s", (demangled, name) => {
  expect(shortName(demangled)).toBe(name);
});

test("workloads have names of their own, and every growth knows both sizes", () => {
  expect(new Set(workloads.map(({ name }) => name)).size).toBe(workloads.length);
  for (const { name, growth, measured, modelled } of workloads)
    for (const { blocks, depth } of growth) {
      expect(blocks(measured) > 0 && blocks(modelled) > 0, name).toBe(true);
      if (depth !== undefined) expect(measured[depth], name).toBeGreaterThan(0);
    }
});
