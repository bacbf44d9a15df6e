// The correctness bar of the fused linear cross-entropy: errors against an fp64 oracle beside those of a plain bf16
// implementation, which rounds the gradient of the logits to bf16 once and sums all products in fp32.
#include "cross_entropy.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

float rounded(float x) { return static_cast<float>(to_double(from_double<bf16>(x))); }

struct PlainResult {
  std::vector<double> loss, dhidden, dweight;
};

// Logits in fp32, G = bf16(scale·(softmax − one-hot)), dx = bf16(G·W), dW = Gᵀ·x in fp32.
PlainResult plain_bf16(const LossInputs<bf16>& in, float scale) {
  const LossCase& c = in.config;
  int64_t rows = c.rows(), d = c.width, V = c.vocabulary;
  std::vector<float> x(rows * d), w(V * d), dweight(V * d), z(V);
  for (int64_t i = 0; i < rows * d; i++) x[i] = static_cast<float>(to_double(in.hidden[i]));
  for (int64_t i = 0; i < V * d; i++) w[i] = static_cast<float>(to_double(in.weight[i]));
  PlainResult out;
  for (int64_t r = 0; r < rows; r++) {
    int64_t y = in.target(r);
    float largest = -INFINITY, sum = 0;
    for (int64_t v = 0; v < V; v++) {
      z[v] = 0;
      for (int64_t i = 0; i < d; i++) z[v] += x[r * d + i] * w[v * d + i];
      largest = std::max(largest, z[v]);
    }
    for (int64_t v = 0; v < V; v++) sum += std::exp(z[v] - largest);
    out.loss.push_back(y < 0 ? 0 : largest + std::log(sum) - z[y]);
    std::vector<float> dx(d, 0);
    for (int64_t v = 0; y >= 0 && v < V; v++) {
      float g = rounded(scale * (std::exp(z[v] - largest) / sum - (v == y ? 1 : 0)));
      for (int64_t i = 0; i < d; i++) {
        dx[i] += g * w[v * d + i];
        dweight[v * d + i] += g * x[r * d + i];
      }
    }
    for (float value : dx) out.dhidden.push_back(rounded(value));
  }
  out.dweight.assign(dweight.begin(), dweight.end());
  return out;
}

}  // namespace

TEST_CASE("cross-entropy accuracy: no worse than plain bf16 against the fp64 oracle") {
  struct Bar {
    double logit_std;
    int64_t tokens;
  };
  for (Bar bar : {Bar{0.05, 96}, Bar{0.3, 128}, Bar{1, 96}, Bar{4, 128}, Bar{4, 37}}) {
    LossCase c{.path = "bar", .tokens = bar.tokens, .stored = bar.tokens, .width = 64, .vocabulary = 1003};
    c.logit_std = bar.logit_std;
    LossInputs<bf16> in(c, 11);
    float mean = 1.0f / static_cast<float>(c.rows());
    Buffer<float> scale = Buffer<float>::filled(1, mean), no_weights(0);
    LossReference expected = loss_reference(in, std::vector<double>(c.rows(), to_double(scale[0])));
    PlainResult plain = plain_bf16(in, mean);
    for_each_level([&](const Backend& backend) {
      INFO("logit std " << bar.logit_std << ", T = " << bar.tokens);
      LossOutputs<bf16> out(c);
      run_train(*backend.kernels, in, scale, no_weights, out);
      CHECK(relative_error(out.dhidden.values(), expected.dhidden) <=
            1.05 * relative_error(plain.dhidden, expected.dhidden));
      CHECK(relative_error(out.dweight.values(), expected.dweight) <=
            1.0 * relative_error(plain.dweight, expected.dweight));
      CHECK(relative_error(out.loss.values(), expected.loss) <= relative_error(plain.loss, expected.loss) + 1e-6);

      LossOutputs<bf16> pure(c);
      run_forward(*backend.kernels, in, pure);
      run_backward(*backend.kernels, in, scale, pure);
      CHECK(relative_error(pure.dhidden.values(), expected.dhidden) <=
            1.05 * relative_error(plain.dhidden, expected.dhidden));
      CHECK(relative_error(pure.dweight.values(), expected.dweight) <=
            1.0 * relative_error(plain.dweight, expected.dweight));
    });
  }
}

namespace {

// Orthogonal rows: x_r = a·e_{r mod d}, W_v = e_v, so that logits are a at class r mod d and 0 elsewhere, plus an
// offset that a last column of ones carries. Then dW[y] of a row is its target's gradient times x.
struct Peaked {
  LossInputs<bf16> in;
  double probability;  // of the target, as the stored numbers give it

  Peaked(double wanted, double offset) : in(config()) {
    const LossCase& c = in.config;
    int64_t d = c.width, classes = c.vocabulary;
    double logit = std::log(wanted / (1 - wanted) * static_cast<double>(classes - 1));
    for (int64_t i = 0; i < c.rows() * d; i++) in.hidden[i] = from_double<bf16>(0);
    for (int64_t i = 0; i < classes * d; i++) in.weight[i] = from_double<bf16>(0);
    for (int64_t r = 0; r < c.rows(); r++) {
      in.hidden[r * d + r] = from_double<bf16>(logit);
      in.hidden[r * d + d - 1] = from_double<bf16>(offset);
      in.targets[r] = static_cast<int32_t>(r);
    }
    for (int64_t v = 0; v < classes; v++) {
      if (v < d - 1) in.weight[v * d + v] = from_double<bf16>(1);
      in.weight[v * d + d - 1] = from_double<bf16>(1);
    }
    double stored = to_double(in.hidden[0]);
    probability = 1 / (1 + std::exp(-stored) * static_cast<double>(classes - 1));
  }
  static LossCase config() { return {.path = "peaked", .tokens = 24, .stored = 24, .width = 32, .vocabulary = 500}; }
};

}  // namespace

TEST_CASE("cross-entropy accuracy: the target's gradient of a peaked softmax, with common offsets of the logits") {
  for (double wanted : {0.9, 0.99, 0.999})
    for (double offset : {0.0, 1000.0, -1000.0}) {
      Peaked peaked(wanted, offset);
      const LossCase& c = peaked.in.config;
      Buffer<float> scale = Buffer<float>::filled(1, 1.0 / 24), no_weights(0);
      for_each_level([&](const Backend& backend) {
        INFO("p_y = " << peaked.probability << ", offset " << offset);
        LossOutputs<bf16> trained(c), pure(c);
        run_train(*backend.kernels, peaked.in, scale, no_weights, trained);
        run_forward(*backend.kernels, peaked.in, pure);
        run_backward(*backend.kernels, peaked.in, scale, pure);
        // lse − z_y of p_y = 0.999 is 1e-3; with an offset of 1000 the logits themselves are rounded to 6e-5.
        double loss = -std::log(peaked.probability), loss_tolerance = offset == 0 ? 1e-5 : 0.05;
        for (int64_t r = 0; r < c.rows(); r++) {
          double x = to_double(peaked.in.hidden[r * c.width + r]);
          double expected = -(1 - peaked.probability) * to_double(scale[0]) * x;
          CHECK(std::abs(trained.dweight[r * c.width + r] / expected - 1) < 0.005);
          CHECK(std::abs(pure.dweight[r * c.width + r] / expected - 1) < 0.005);
          CHECK(std::abs(trained.loss[r] / loss - 1) < loss_tolerance);
          CHECK(std::abs(pure.loss[r] / loss - 1) < loss_tolerance);
        }
      });
    }
}

// Logits of a few hundred: exp must neither overflow nor lose the sum.
TEST_CASE("cross-entropy accuracy: logits up to 640") {
  LossCase c{.path = "large logits", .tokens = 48, .stored = 48, .width = 64, .vocabulary = 301, .logit_std = 160};
  LossInputs<float> in(c, 21);
  Buffer<float> ones = Buffer<float>::filled(c.rows(), 1);
  LossReference expected = loss_reference(in, ones.values());
  double largest = *std::max_element(expected.lse.begin(), expected.lse.end());
  REQUIRE(largest > 400);
  for_each_level([&](const Backend& backend) {
    LossOutputs<float> out(c);
    run_forward(*backend.kernels, in, out);
    run_backward(*backend.kernels, in, ones, out);
    CHECK(relative_error(out.loss.values(), expected.loss) < 1e-6);
    CHECK(max_error(out.entropy.values(), expected.entropy) < 1e-3);
    // z is rounded at 1e-4 of its size here, which exp passes on to p.
    CHECK(relative_error(out.dhidden.values(), expected.dhidden) < 1e-3);
    CHECK(relative_error(out.dweight.values(), expected.dweight) < 1e-3);
  });
}
