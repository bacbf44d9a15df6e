// The fused linear cross-entropy at sizes and logits where a level cuts its work differently: chunks of rows, slabs of
// classes, logits far above the target's. Against full logits in double.
#include "cross_entropy.h"

using namespace foretoken;
using namespace foretoken::test;

// Each case names the path it is there for.
static std::vector<LossCase> size_cases() {
  return {
      {.path = "several chunks of rows", .batch = 3, .tokens = 3001, .stored = 3001, .width = 8, .vocabulary = 7},
      {.path = "several chunks of rows, exact probabilities",
       .tokens = 8300,
       .stored = 8300,
       .width = 5,
       .vocabulary = 6,
       .label_smoothing = 0.1},
      {.path = "several slabs of classes", .tokens = 5, .stored = 5, .width = 16, .vocabulary = 16500},
      {.path = "several slabs, every option",
       .tokens = 3,
       .stored = 3,
       .width = 9,
       .vocabulary = 9001,
       .label_smoothing = 0.1,
       .z_loss = 1e-3,
       .logit_scale = 0.7,
       .softcap = 12,
       .bias = true},
      {.path = "logits far above the target's", .tokens = 150, .stored = 150, .vocabulary = 200, .logit_std = 60},
      {.path = "some logits far above the target's", .tokens = 150, .stored = 150, .vocabulary = 200, .logit_std = 17},
      {.path = "few rows, logits far above the target's",
       .tokens = 3,
       .stored = 3,
       .vocabulary = 9000,
       .logit_std = 60},
  };
}

// fp32 sums have up to 16,500 terms here; and a logit is rounded at 2^-24 of its size, which exp passes on to p.
template <class T>
static double tolerance(const LossCase& c) {
  double logits = 8e-6 + 2e-6 * c.logit_std;
  return std::is_same_v<T, float> ? logits : 4e-3;
}

template <class T>
static void check_size(const Kernels& kernels, const LossCase& c) {
  LossInputs<T> in(c);
  std::vector<double> upstream = random_normal(c.rows(), 1, 77);
  Buffer<float> scale = Buffer<float>::filled(1, 0.25), row_weight = Buffer<float>::of(upstream);
  for (int64_t r = 0; r < c.rows(); r++) upstream[r] = to_double(row_weight[r]);
  LossReference expected = loss_reference(in, upstream);
  LossOutputs<T> trained(c), apart(c);
  run_train(kernels, in, scale, row_weight, trained);
  run_forward(kernels, in, apart);
  run_backward(kernels, in, row_weight, apart);
  for (double& value : expected.loss) value /= c.logit_std;
  for (LossOutputs<T>* out : {&trained, &apart}) {
    std::vector<double> loss = out->loss.values(), dhidden = out->dhidden.values(), dweight = out->dweight.values();
    for (double& value : loss) value /= c.logit_std;
    double factor = out == &trained ? 4 : 1;
    for (double& value : dhidden) value *= factor;
    for (double& value : dweight) value *= factor;
    CHECK(max_error(loss, expected.loss) < 3e-5);
    CHECK(out->argmax.values() == expected.argmax);
    CHECK(relative_error(dhidden, expected.dhidden) < tolerance<T>(c));
    CHECK(relative_error(dweight, expected.dweight) < tolerance<T>(c));
    CHECK(out->guards_intact());
  }
}

TEST_CASE("cross-entropy sizes: training, forward and backward equal the composition with full logits") {
  for_each_level([](const Backend& backend) {
    for (const LossCase& c : size_cases()) {
      INFO(c.path);
      check_size<float>(*backend.kernels, c);
      check_size<bf16>(*backend.kernels, c);
    }
  });
}
