// What the contract promises of the fused linear cross-entropy beside its values: determinism, rows that do not know of
// each other, accumulation, aliasing, absent arguments, ignored rows.
#include "cross_entropy.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

// More than one token block, more than one slab of classes, nothing a multiple of a tile.
LossCase wide_case() {
  LossCase c{.path = "wide", .batch = 2, .tokens = 333, .stored = 335, .width = 48, .vocabulary = 1333, .shift = 1};
  c.bias = true;
  c.label_smoothing = 0.1;
  c.ignored = 0.05;
  return c;
}

template <class T>
LossOutputs<T> run_all(const Kernels& kernels, const LossInputs<T>& in, const Parallel& parallel) {
  LossOutputs<T> out(in.config);
  Buffer<float> scale = Buffer<float>::filled(1, 0.01),
                weights = Buffer<float>::of(random_normal(in.config.rows(), 1, 5));
  run_forward(kernels, in, out, parallel);
  run_backward(kernels, in, weights, out, false, parallel);
  run_train(kernels, in, scale, weights, out, true, parallel);
  return out;
}

template <class T>
void check_determinism(const Kernels& kernels) {
  LossInputs<T> in(wide_case());
  LossOutputs<T> once = run_all(kernels, in, Parallel{});
  CHECK(once.same_bits(run_all(kernels, in, Parallel{})));
  CHECK(once.same_bits(run_all(kernels, in, ShuffledParallel(3, 1))));
  CHECK(once.same_bits(run_all(kernels, in, ShuffledParallel(8, 2))));
}

// Rows [first, first + rows) of the inputs as a call of their own.
template <class T>
LossInputs<T> rows_of(const LossInputs<T>& in, int64_t first, int64_t rows) {
  LossCase c = in.config;
  c.batch = 1;
  c.tokens = c.stored = rows;
  c.shift = 0;
  LossInputs<T> part(c);
  std::copy(in.weight.data(), in.weight.data() + in.weight.size(), part.weight.data());
  std::copy(in.bias.data(), in.bias.data() + in.bias.size(), part.bias.data());
  std::copy(in.hidden.data() + first * c.width, in.hidden.data() + (first + rows) * c.width, part.hidden.data());
  for (int64_t r = 0; r < rows; r++) part.targets[r] = static_cast<int32_t>(in.target(first + r));
  return part;
}

template <class T>
void check_rows(const Kernels& kernels) {
  LossInputs<T> in(wide_case());
  LossOutputs<T> whole(in.config);
  Buffer<float> one = Buffer<float>::filled(1, 1);
  run_forward(kernels, in, whole);
  run_backward(kernels, in, one, whole);
  for (int64_t first : {0, 17, 300, 665}) {
    LossInputs<T> part = rows_of(in, first, 1);
    LossOutputs<T> row(part.config);
    run_forward(kernels, part, row);
    run_backward(kernels, part, one, row);
    CHECK(std::memcmp(row.loss.data(), whole.loss.data() + first, 4) == 0);
    CHECK(std::memcmp(row.lse.data(), whole.lse.data() + first, 4) == 0);
    CHECK(std::memcmp(row.entropy.data(), whole.entropy.data() + first, 4) == 0);
    CHECK(row.rank[0] == whole.rank[first]);
    CHECK(std::memcmp(row.dhidden.data(), whole.dhidden.data() + first * in.config.width,
                      in.config.width * sizeof(T)) == 0);
  }
}

// One call over all rows, and one per part with the gradient of W accumulated.
template <class T>
void check_chunks(const Kernels& kernels, int64_t parts) {
  LossInputs<T> in(wide_case());
  int64_t rows = in.config.rows();
  Buffer<float> scale = Buffer<float>::filled(1, 0.01), no_weights(0);
  LossOutputs<T> whole(in.config), pieces(in.config);
  run_train(kernels, in, scale, no_weights, whole);
  for (int64_t part = 0; part < parts; part++) {
    int64_t first = rows * part / parts;
    LossInputs<T> piece = rows_of(in, first, rows * (part + 1) / parts - first);
    LossOutputs<T> out(piece.config);
    out.dweight = pieces.dweight;
    out.dbias = pieces.dbias;
    for (int64_t i = 0; i < out.dhidden.size(); i++) out.dhidden[i] = T{0};
    if (part == 0) {
      for (int64_t i = 0; i < out.dweight.size(); i++) out.dweight[i] = 0;
      for (int64_t i = 0; i < out.dbias.size(); i++) out.dbias[i] = 0;
    }
    run_train(kernels, piece, scale, no_weights, out, true);
    pieces.dweight = out.dweight;
    pieces.dbias = out.dbias;
    CHECK(std::memcmp(out.loss.data(), whole.loss.data() + first, out.loss.size() * 4) == 0);
  }
  CHECK(relative_error(pieces.dweight.values(), whole.dweight.values()) < 1e-6);
  CHECK(relative_error(pieces.dbias.values(), whole.dbias.values()) < 1e-6);
}

}  // namespace

TEST_CASE("cross-entropy contract: bits do not depend on threads, on who runs a task, or on the run") {
  for_each_level([](const Backend& backend) {
    check_determinism<float>(*backend.kernels);
    check_determinism<bf16>(*backend.kernels);
  });
}

TEST_CASE("cross-entropy contract: a row's bits do not depend on the other rows") {
  for_each_level([](const Backend& backend) {
    check_rows<float>(*backend.kernels);
    check_rows<bf16>(*backend.kernels);
  });
}

TEST_CASE("cross-entropy contract: one call and 64 calls that accumulate agree to fp32 rounding") {
  for_each_level([](const Backend& backend) {
    check_chunks<float>(*backend.kernels, 64);
    check_chunks<bf16>(*backend.kernels, 64);
    check_chunks<bf16>(*backend.kernels, 2);
  });
}

TEST_CASE("cross-entropy contract: heads that accumulate equal the sum of single heads") {
  LossCase c{.path = "heads", .batch = 2, .tokens = 65, .stored = 69, .width = 32, .vocabulary = 257};
  Buffer<float> scale = Buffer<float>::filled(1, 1.0 / 130), no_weights(0);
  for_each_level([&](const Backend& backend) {
    LossOutputs<float> together(c);
    std::vector<double> dweight(c.vocabulary * c.width), dhidden(c.rows() * c.width);
    for (int64_t head = 0; head < 4; head++) {
      c.shift = head + 1;
      LossInputs<float> in(c);
      run_train(*backend.kernels, in, scale, no_weights, together, head > 0);
      LossOutputs<float> alone(c);
      run_train(*backend.kernels, in, scale, no_weights, alone);
      for (int64_t i = 0; i < alone.dweight.size(); i++) dweight[i] += alone.dweight[i];
      for (int64_t i = 0; i < alone.dhidden.size(); i++) dhidden[i] += alone.dhidden[i];
    }
    CHECK(relative_error(together.dweight.values(), dweight) < 1e-6);
    CHECK(relative_error(together.dhidden.values(), dhidden) < 1e-6);
  });
}

TEST_CASE("cross-entropy contract: dhidden may be hidden") {
  for_each_level([](const Backend& backend) {
    LossInputs<bf16> in(wide_case());
    const LossCase& c = in.config;
    Buffer<float> scale = Buffer<float>::filled(1, 0.01), no_weights(0);
    LossOutputs<bf16> apart(c), over(c);
    run_train(*backend.kernels, in, scale, no_weights, apart);
    over.dhidden = in.hidden;
    AnyView shared = view_of(over.dhidden, {c.rows(), c.width});
    run(backend.kernels->linear_cross_entropy_train, shared, in.weight_view(), in.bias_view(), in.targets_view(),
        in.limit_view(), c.shift, c.label_smoothing, c.z_loss, c.logit_scale, c.softcap, view_of(scale, {1}), absent,
        view_of(over.loss, {c.rows()}), view_of(over.argmax, {c.rows()}), shared,
        view_of(over.dweight, {c.vocabulary, c.width}), view_of(over.dbias, {c.vocabulary}), false, false);
    CHECK(over.dhidden.same_bits(apart.dhidden));
    CHECK(over.dweight.same_bits(apart.dweight));
    CHECK(over.loss.same_bits(apart.loss));
    CHECK(over.argmax.same_bits(apart.argmax));
  });
}

TEST_CASE("cross-entropy contract: each output of the backward pass alone, in f32 where hidden is bf16") {
  for_each_level([](const Backend& backend) {
    LossInputs<bf16> in(wide_case());
    const LossCase& c = in.config;
    LossOutputs<bf16> all(c), one(c);
    Buffer<float> dhidden(c.rows() * c.width), upstream = Buffer<float>::filled(1, 0.5);
    run_forward(*backend.kernels, in, all);
    run_backward(*backend.kernels, in, upstream, all);
    auto only = [&](AnyView dx, AnyView dw, AnyView db) {
      run(backend.kernels->linear_cross_entropy_backward, in.hidden_view(), in.weight_view(), in.bias_view(),
          in.targets_view(), in.limit_view(), c.shift, c.label_smoothing, c.z_loss, c.logit_scale, c.softcap,
          view_of(all.lse, {c.rows()}), view_of(upstream, {1}), dx, dw, db, false, false);
    };
    only(view_of(dhidden, {c.rows(), c.width}), absent, absent);
    only(absent, view_of(one.dweight, {c.vocabulary, c.width}), absent);
    only(absent, absent, view_of(one.dbias, {c.vocabulary}));
    for (int64_t i = 0; i < dhidden.size(); i++) one.dhidden[i] = from_double<bf16>(dhidden[i]);
    CHECK(one.dhidden.same_bits(all.dhidden));
    CHECK(one.dweight.same_bits(all.dweight));
    CHECK(one.dbias.same_bits(all.dbias));
    CHECK(dhidden.guards_intact());
  });
}

TEST_CASE("cross-entropy contract: the forward pass without its optional outputs") {
  for_each_level([](const Backend& backend) {
    LossInputs<bf16> in(wide_case());
    const LossCase& c = in.config;
    LossOutputs<bf16> all(c), few(c);
    run_forward(*backend.kernels, in, all);
    run(backend.kernels->linear_cross_entropy, in.hidden_view(), in.weight_view(), in.bias_view(), in.targets_view(),
        in.limit_view(), c.shift, c.label_smoothing, c.z_loss, c.logit_scale, c.softcap, view_of(few.loss, {c.rows()}),
        view_of(few.lse, {c.rows()}), absent, absent, absent);
    CHECK(few.loss.same_bits(all.loss));
    CHECK(few.lse.same_bits(all.lse));
  });
}

TEST_CASE("cross-entropy contract: all rows ignored give zero loss and zero gradients") {
  for_each_level([](const Backend& backend) {
    LossCase c = wide_case();
    c.ignored = 1;
    LossInputs<bf16> in(c);
    LossOutputs<bf16> out(c);
    Buffer<float> scale = Buffer<float>::filled(1, 1), no_weights(0);
    run_train(*backend.kernels, in, scale, no_weights, out);
    auto zero = [](const std::vector<double>& values) {
      return std::all_of(values.begin(), values.end(), [](double value) { return value == 0; });
    };
    CHECK(zero(out.loss.values()));
    CHECK(zero(out.dhidden.values()));
    CHECK(zero(out.dweight.values()));
    CHECK(zero(out.dbias.values()));
  });
}

TEST_CASE("cross-entropy contract: packed and row-major weights give the same bits") {
  for_each_level([](const Backend& backend) {
    LossInputs<bf16> in(wide_case());
    const LossCase& c = in.config;
    LossOutputs<bf16> rows(c), packed(c);
    run_forward(*backend.kernels, in, rows);
    Buffer<uint8_t> bytes(backend.packed_weight_bytes(DType::bf16, c.vocabulary, c.width));
    AnyView weight = view_of(bytes, {c.vocabulary, c.width}, Layout::packed);
    weight.dtype = DType::bf16;
    run(backend.kernels->pack_weight, in.weight_view(), weight);
    run(backend.kernels->linear_cross_entropy, in.hidden_view(), weight, in.bias_view(), in.targets_view(),
        in.limit_view(), c.shift, c.label_smoothing, c.z_loss, c.logit_scale, c.softcap,
        view_of(packed.loss, {c.rows()}), view_of(packed.lse, {c.rows()}), view_of(packed.argmax, {c.rows()}),
        view_of(packed.rank, {c.rows()}), view_of(packed.entropy, {c.rows()}));
    CHECK(packed.loss.same_bits(rows.loss));
    CHECK(packed.lse.same_bits(rows.lse));
    CHECK(packed.argmax.same_bits(rows.argmax));
    CHECK(packed.rank.same_bits(rows.rank));
    CHECK(packed.entropy.same_bits(rows.entropy));
  });
}

// Every class has a twin: the lower index wins whichever of them is the target, and twins do not outrank each other.
TEST_CASE("cross-entropy contract: equal logits") {
  LossCase c{.path = "twins", .tokens = 200, .stored = 200, .width = 40, .vocabulary = 2200};
  LossInputs<bf16> in(c);
  for (int64_t v = 1; v < c.vocabulary; v += 2)
    std::copy(in.weight.data() + (v - 1) * c.width, in.weight.data() + v * c.width, in.weight.data() + v * c.width);
  for (int64_t r = 0; r < c.rows(); r++) {
    // Half of the targets are the largest class or its twin.
    if (r % 2) continue;
    for (int64_t i = 0; i < c.width; i++)
      in.hidden[r * c.width + i] = from_double<bf16>(8 * to_double(in.weight[in.targets[r] * c.width + i]));
  }
  LossReference expected = loss_reference(in, std::vector<double>(c.rows(), 1));
  Buffer<float> scale = Buffer<float>::filled(1, 1), no_weights(0);
  for_each_level([&](const Backend& backend) {
    LossOutputs<bf16> out(c), trained(c);
    run_forward(*backend.kernels, in, out);
    run_train(*backend.kernels, in, scale, no_weights, trained);
    CHECK(out.argmax.values() == expected.argmax);
    CHECK(out.rank.values() == expected.rank);
    CHECK(trained.argmax.values() == expected.argmax);
  });
}
