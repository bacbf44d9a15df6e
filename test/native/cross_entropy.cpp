// The fused linear cross-entropy at every level against full logits in double, and the oracle by finite differences.
#include "cross_entropy.h"

using namespace foretoken;
using namespace foretoken::test;

// Each case names the path it is there for.
static std::vector<LossCase> loss_cases() {
  return {
      {.path = "one row", .tokens = 1, .stored = 1},
      {.path = "one class", .tokens = 3, .stored = 3, .vocabulary = 1},
      {.path = "odd everything", .batch = 3, .tokens = 11, .stored = 11, .width = 37, .vocabulary = 333},
      {.path = "one more than a vector", .tokens = 17, .stored = 17, .width = 33, .vocabulary = 65},
      {.path = "one less than a vector", .tokens = 15, .stored = 15, .width = 31, .vocabulary = 63},
      {.path = "many token blocks", .tokens = 1300, .stored = 1300, .width = 32, .vocabulary = 97},
      {.path = "many vocabulary slabs", .tokens = 70, .stored = 70, .width = 24, .vocabulary = 4999},
      {.path = "shift, limit, ignored rows",
       .batch = 4,
       .tokens = 19,
       .stored = 22,
       .shift = 3,
       .limit = true,
       .ignored = 0.3},
      {.path = "shift beyond the stored tokens", .batch = 2, .tokens = 9, .stored = 9, .shift = 4},
      {.path = "bias", .tokens = 300, .stored = 300, .width = 20, .vocabulary = 75, .bias = true},
      {.path = "label smoothing", .tokens = 33, .stored = 33, .vocabulary = 130, .label_smoothing = 0.1},
      {.path = "z-loss", .tokens = 33, .stored = 33, .vocabulary = 130, .z_loss = 1e-2},
      {.path = "logit scale", .tokens = 33, .stored = 33, .vocabulary = 130, .logit_scale = 0.37},
      {.path = "softcap", .tokens = 33, .stored = 33, .vocabulary = 130, .logit_std = 4, .softcap = 5},
      {.path = "every option at once",
       .batch = 2,
       .tokens = 150,
       .stored = 155,
       .width = 40,
       .vocabulary = 1111,
       .logit_std = 2,
       .shift = 2,
       .label_smoothing = 0.05,
       .z_loss = 1e-3,
       .logit_scale = 1.3,
       .softcap = 9,
       .bias = true,
       .limit = true,
       .ignored = 0.1},
  };
}

// Upstream gradients with both signs, as a caller's own weighting may have.
static Buffer<float> random_upstream(int64_t rows) { return Buffer<float>::of(random_normal(rows, 1, 77)); }

// Arithmetic is fp32 over sums of at most some thousand terms; a bf16 gradient matrix rounds each entry to 2^-9.
template <class T>
constexpr double kSumTolerance = 3e-6;
template <class T>
constexpr double kGradientTolerance = std::is_same_v<T, float> ? 3e-6 : 4e-3;

// The reference's argmax and rank where fp32 can tell the logits apart; the cases' random logits are that far apart.
template <class T>
static void check_forward(const Kernels& kernels, const LossCase& c) {
  LossInputs<T> in(c);
  LossReference expected = loss_reference(in, std::vector<double>(c.rows(), 1));
  LossOutputs<T> out(c);
  run_forward(kernels, in, out);
  CHECK(max_error(out.loss.values(), expected.loss) < kSumTolerance<T> * 10);
  CHECK(max_error(out.lse.values(), expected.lse) < kSumTolerance<T> * 10);
  CHECK(max_error(out.entropy.values(), expected.entropy) < kSumTolerance<T> * 20);
  CHECK(out.argmax.values() == expected.argmax);
  CHECK(out.rank.values() == expected.rank);
  CHECK(out.guards_intact());
}

TEST_CASE("cross-entropy: forward equals the composition with full logits") {
  for_each_level([](const Backend& backend) {
    for (const LossCase& c : loss_cases()) {
      INFO(c.path);
      check_forward<float>(*backend.kernels, c);
      check_forward<bf16>(*backend.kernels, c);
    }
  });
}

template <class T>
static void check_backward(const Kernels& kernels, const LossCase& c) {
  LossInputs<T> in(c);
  Buffer<float> upstream = random_upstream(c.rows());
  LossReference expected = loss_reference(in, upstream.values());
  LossOutputs<T> out(c);
  run_forward(kernels, in, out);
  run_backward(kernels, in, upstream, out);
  CHECK(relative_error(out.dhidden.values(), expected.dhidden) < kGradientTolerance<T>);
  CHECK(relative_error(out.dweight.values(), expected.dweight) < kGradientTolerance<T>);
  if (c.bias) CHECK(relative_error(out.dbias.values(), expected.dbias) < kSumTolerance<T>);
  CHECK(out.guards_intact());
}

TEST_CASE("cross-entropy: backward equals the composition with full logits") {
  for_each_level([](const Backend& backend) {
    for (const LossCase& c : loss_cases()) {
      INFO(c.path);
      check_backward<float>(*backend.kernels, c);
      check_backward<bf16>(*backend.kernels, c);
    }
  });
}

template <class T>
static void check_train(const Kernels& kernels, const LossCase& c) {
  LossInputs<T> in(c);
  Buffer<float> scale = Buffer<float>::filled(1, 1.0 / 300), row_weight = random_upstream(c.rows());
  std::vector<double> upstream = row_weight.values();
  for (double& value : upstream) value *= to_double(scale[0]);
  LossReference expected = loss_reference(in, upstream);
  LossOutputs<T> out(c);
  run_train(kernels, in, scale, row_weight, out);
  CHECK(max_error(out.loss.values(), expected.loss) < kSumTolerance<T> * 10);
  CHECK(out.argmax.values() == expected.argmax);
  CHECK(relative_error(out.dhidden.values(), expected.dhidden) < kGradientTolerance<T>);
  CHECK(relative_error(out.dweight.values(), expected.dweight) < kGradientTolerance<T>);
  if (c.bias) CHECK(relative_error(out.dbias.values(), expected.dbias) < kSumTolerance<T>);
  CHECK(out.guards_intact());
}

TEST_CASE("cross-entropy: the training pass equals the composition with full logits") {
  for_each_level([](const Backend& backend) {
    for (const LossCase& c : loss_cases()) {
      INFO(c.path);
      check_train<float>(*backend.kernels, c);
      check_train<bf16>(*backend.kernels, c);
    }
  });
}

// Σ upstream·loss of the oracle.
static double oracle_sum(const LossInputs<double>& in, const Buffer<double>& upstream) {
  LossOutputs<double, double> out(in.config);
  run_forward(oracle(), in, out);
  double sum = 0;
  for (int64_t r = 0; r < upstream.size(); r++) sum += upstream[r] * out.loss[r];
  return sum;
}

// Central differences of the oracle's loss by the elements of one input, against the gradient of the oracle.
static void check_difference(LossInputs<double>& in, Buffer<double>& input, const Buffer<double>& upstream,
                             const Buffer<double>& gradient) {
  constexpr double kStep = 1e-5;
  for (int64_t i = 0; i < input.size(); i += 1 + input.size() / 40) {
    double kept = input[i];
    input[i] = kept + kStep;
    double above = oracle_sum(in, upstream);
    input[i] = kept - kStep;
    double below = oracle_sum(in, upstream);
    input[i] = kept;
    CHECK(gradient[i] == doctest::Approx((above - below) / (2 * kStep)).epsilon(1e-6).scale(1));
  }
}

TEST_CASE("cross-entropy: the oracle's gradients are the finite differences of its loss") {
  LossCase c{.batch = 2, .tokens = 5, .stored = 7, .width = 6, .vocabulary = 11, .shift = 1, .limit = true};
  c.ignored = 0.1;
  SUBCASE("plain") {}
  SUBCASE("bias") { c.bias = true; }
  SUBCASE("label smoothing") { c.label_smoothing = 0.2; }
  SUBCASE("z-loss") { c.z_loss = 0.1; }
  SUBCASE("logit scale") { c.logit_scale = 1.7; }
  SUBCASE("softcap") { c.softcap = 2; }
  SUBCASE("all") {
    c.bias = true;
    c.label_smoothing = 0.2, c.z_loss = 0.1, c.logit_scale = 1.7, c.softcap = 2;
  }
  LossInputs<double> in(c);
  LossOutputs<double, double> out(c), trained(c);
  Buffer<double> upstream = Buffer<double>::of(random_normal(c.rows(), 1, 9)), one = Buffer<double>::filled(1, 1);
  run_forward(oracle(), in, out);
  run_backward(oracle(), in, upstream, out);
  check_difference(in, in.hidden, upstream, out.dhidden);
  check_difference(in, in.weight, upstream, out.dweight);
  if (c.bias) check_difference(in, in.bias, upstream, out.dbias);
  run_train(oracle(), in, one, upstream, trained);
  CHECK(relative_error(trained.dhidden.values(), out.dhidden.values()) < 1e-13);
  CHECK(relative_error(trained.dweight.values(), out.dweight.values()) < 1e-13);
}
