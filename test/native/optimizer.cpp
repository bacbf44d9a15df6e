// gradient_norm and adamw, every level, against an independent double implementation; the guard; clipping.
#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

// Tails of 8 and 16 lanes, an empty tensor, more than one block of 16,384.
const std::vector<int64_t> kSizes = {1, 7, 8, 0, 15, 16, 17, 33, 1000, 2 * 16384 + 5};

constexpr double kBeta1 = 0.9, kBeta2 = 0.95, kEps = 1e-8;

// One training run over several tensors; T is f32, or f64 for the oracle.
template <class T>
struct Problem {
  std::vector<Buffer<T>> params, grads, m, v;
  std::vector<Buffer<bf16>> compute;
  std::vector<float> decay;
  Buffer<T> norm = Buffer<T>::filled(1, 0), state = Buffer<T>::filled(4, 0);
  Buffer<int32_t> status = Buffer<int32_t>::filled(2, 0);

  Problem() {
    for (size_t i = 0; i < kSizes.size(); i++) {
      int64_t n = kSizes[i];
      params.push_back(Buffer<T>::of(Buffer<float>::of(random_normal(n, 1, 100 + i)).values(), 1));
      grads.push_back(Buffer<T>(n, 1));
      m.push_back(Buffer<T>::of(std::vector<double>(n, 0), 1));
      v.push_back(Buffer<T>::of(std::vector<double>(n, 0), 1));
      compute.push_back(Buffer<bf16>(n, 1));
      decay.push_back(i % 2 ? 0.1f : 0.0f);
    }
    draw_grads(0);
  }
  void draw_grads(uint64_t step) {
    for (size_t i = 0; i < kSizes.size(); i++)
      grads[i] = Buffer<T>::of(Buffer<float>::of(random_normal(kSizes[i], 0.3, 1000 * step + i)).values(), 1);
  }

  template <class Access, class E>
  static std::vector<Access> list(const std::vector<Buffer<E>>& buffers) {
    std::vector<Access> views;
    for (const Buffer<E>& buffer : buffers) views.push_back(view_of(buffer, {buffer.size()}));
    return views;
  }
  void measure(const Kernels& kernels, const Parallel& parallel = {}) {
    auto views = list<In>(grads);
    run_on(parallel, kernels.gradient_norm, InList{views.data(), int64_t(views.size())}, view_of(norm, {1}));
    CHECK(norm.guards_intact());
  }
  void step(const Kernels& kernels, int64_t number, double learning_rate, double clip_norm,
            const Parallel& parallel = {}) {
    state = Buffer<T>::of({learning_rate, static_cast<double>(number), 0, 0});
    auto p = list<InOut>(params), first = list<InOut>(m), second = list<InOut>(v), copies = list<InOut>(compute);
    auto g = list<In>(grads);
    copies[2] = InOut();  // one tensor without a bf16 copy
    int64_t count = p.size();
    run_on(parallel, kernels.adamw, InOutList{p.data(), count}, InList{g.data(), count}, InOutList{first.data(), count},
           InOutList{second.data(), count}, InOutList{copies.data(), count}, Floats{decay.data(), count},
           view_of(state, {4}), view_of(norm, {1}), view_of(status, {2}), kBeta1, kBeta2, kEps, clip_norm);
  }
  std::vector<Buffer<T>> everything() const {
    std::vector<Buffer<T>> all = params;
    all.insert(all.end(), m.begin(), m.end());
    all.insert(all.end(), v.begin(), v.end());
    return all;
  }
};

double exact_norm(const Problem<float>& problem) {
  double sum = 0;
  for (const auto& grad : problem.grads)
    for (double g : grad.values()) sum += g * g;
  return std::sqrt(sum);
}

// AdamW of Loshchilov and Hutter, algorithm 2, element by element; pow and no shared code.
struct Reference {
  std::vector<std::vector<double>> p, m, v;

  explicit Reference(const Problem<float>& problem) {
    for (const auto& param : problem.params) {
      p.push_back(param.values());
      m.push_back(std::vector<double>(param.size(), 0.0));
      v.push_back(m.back());
    }
  }
  void step(const Problem<float>& problem, int64_t number, double learning_rate, double clip_norm) {
    double norm = exact_norm(problem), clip = 1;
    if (clip_norm > 0) clip = std::min(1.0, clip_norm / (norm + 1e-6));
    for (size_t i = 0; i < p.size(); i++)
      for (size_t j = 0; j < p[i].size(); j++) {
        double g = problem.grads[i][j] * clip;
        m[i][j] = kBeta1 * m[i][j] + (1 - kBeta1) * g;
        v[i][j] = kBeta2 * v[i][j] + (1 - kBeta2) * g * g;
        double unbiased = m[i][j] / (1 - std::pow(kBeta1, number)), spread = v[i][j] / (1 - std::pow(kBeta2, number));
        p[i][j] -= learning_rate * (unbiased / (std::sqrt(spread) + kEps) + problem.decay[i] * p[i][j]);
      }
  }
};

template <class T>
void check_ten_steps(const Kernels& kernels, double clip_norm, double tolerance) {
  CAPTURE(clip_norm);
  Problem<T> problem;
  Problem<float> inputs;
  Reference reference(inputs);
  constexpr double kLearningRate = 0x1p-7;
  for (int64_t number = 1; number <= 10; number++) {
    problem.draw_grads(number);
    inputs.draw_grads(number);
    problem.measure(kernels);
    problem.step(kernels, number, kLearningRate, clip_norm);
    reference.step(inputs, number, kLearningRate, clip_norm);
  }
  CHECK(problem.status[1] == 0);
  for (size_t i = 0; i < kSizes.size(); i++) {
    CAPTURE(kSizes[i]);
    CHECK(max_error(problem.params[i].values(), reference.p[i]) < tolerance);
    CHECK(max_error(problem.m[i].values(), reference.m[i]) < tolerance);
    CHECK(max_error(problem.v[i].values(), reference.v[i]) < tolerance);
    Buffer<bf16> wanted(kSizes[i], 1);  // stays poisoned where there is no copy
    for (int64_t j = 0; j < kSizes[i] && i != 2; j++) wanted[j] = from_double<bf16>(to_double(problem.params[i][j]));
    CHECK(problem.compute[i].same_bits(wanted));
    CHECK(problem.compute[i].guards_intact());
    for (const auto* buffer : {&problem.params[i], &problem.m[i], &problem.v[i]}) CHECK(buffer->guards_intact());
  }
}

}  // namespace

TEST_CASE("optimizer: gradient_norm is the norm over all tensors") {
  for_each_level([](const Backend& backend) {
    Problem<float> problem;
    problem.measure(*backend.kernels);
    CHECK(problem.norm[0] == doctest::Approx(exact_norm(problem)).epsilon(1e-7));
  });
  Problem<double> problem;
  problem.measure(oracle());
  CHECK(problem.norm[0] == doctest::Approx(exact_norm(Problem<float>())).epsilon(1e-14));
}

TEST_CASE("optimizer: gradient_norm neither overflows nor underflows, and shows NaN and inf") {
  for_each_level([](const Backend& backend) {
    for (double size : {1e30, 1e-30}) {
      Problem<float> problem;
      for (auto& grad : problem.grads)
        for (int64_t i = 0; i < grad.size(); i++) grad[i] = static_cast<float>(size);
      problem.measure(*backend.kernels);
      double count = 0;
      for (int64_t n : kSizes) count += static_cast<double>(n);
      CHECK(problem.norm[0] == doctest::Approx(size * std::sqrt(count)).epsilon(1e-6));
    }
    for (float bad : {NAN, INFINITY, -INFINITY}) {
      Problem<float> problem;
      problem.grads[9][16384] = bad;
      problem.measure(*backend.kernels);
      CHECK_FALSE(std::isfinite(problem.norm[0]));
    }
  });
}

TEST_CASE("optimizer: an empty list has norm 0") {
  for_each_level([](const Backend& backend) {
    Buffer<float> norm(1);
    run(backend.kernels->gradient_norm, InList{}, view_of(norm, {1}));
    CHECK(norm[0] == 0.0f);
  });
}

TEST_CASE("optimizer: ten steps of adamw, without clipping, clipped, and with a bound that is never reached") {
  for (double clip_norm : {0.0, 1.0, 1e6}) {
    for_each_level([&](const Backend& backend) {
      // p ≈ 3 and ten updates of 2⁻⁷: a few roundings of 3·2⁻²⁴ each step.
      check_ten_steps<float>(*backend.kernels, clip_norm, 10 * 3 * 0x1p-24);
    });
    check_ten_steps<double>(oracle(), clip_norm, 1e-13);
  }
}

TEST_CASE("optimizer: a bad step writes nothing but its flag") {
  for_each_level([](const Backend& backend) {
    for (double norm : {static_cast<double>(NAN), static_cast<double>(INFINITY), -static_cast<double>(INFINITY), 1.0}) {
      CAPTURE(norm);
      Problem<float> problem, before;
      problem.norm[0] = static_cast<float>(norm);
      int32_t flag = norm == 1.0 ? 1 : 0;  // the last one is refused because of the status
      problem.status[0] = flag;
      problem.step(*backend.kernels, 1, 0.1, 1.0);
      auto now = problem.everything(), then = before.everything();
      for (size_t i = 0; i < now.size(); i++) CHECK(now[i].same_bits(then[i]));
      for (const auto& copy : problem.compute) CHECK(copy.same_bits(Buffer<bf16>(copy.size())));
      CHECK(problem.status[0] == flag);
      CHECK(problem.status[1] == 1);
    }
  });
}

TEST_CASE("optimizer: no list of bf16 copies at all") {
  for_each_level([](const Backend& backend) {
    auto p = Buffer<float>::of({1}), g = Buffer<float>::of({1}), m = Buffer<float>::of({0}), v = m;
    auto norm = Buffer<float>::of({1}), state = Buffer<float>::of({0.5, 1, 0, 0});
    auto status = Buffer<int32_t>::filled(2, 0);
    InOut pv = view_of(p, {1}), mv = view_of(m, {1}), vv = view_of(v, {1});
    In gv = view_of(g, {1});
    float decay = 0;
    run(backend.kernels->adamw, InOutList{&pv, 1}, InList{&gv, 1}, InOutList{&mv, 1}, InOutList{&vv, 1}, InOutList{},
        Floats{&decay, 1}, view_of(state, {4}), view_of(norm, {1}), view_of(status, {2}), kBeta1, kBeta2, kEps, 0.0);
    CHECK(p[0] == doctest::Approx(0.5).epsilon(1e-6));  // the first step is learning rate · sign(g)
  });
}

TEST_CASE("optimizer: the order of tasks does not matter") {
  for_each_level([](const Backend& backend) {
    Problem<float> once, shuffled;
    ShuffledParallel parallel(4);
    once.measure(*backend.kernels);
    shuffled.measure(*backend.kernels, parallel);
    CHECK(shuffled.norm.same_bits(once.norm));
    once.step(*backend.kernels, 1, 0.01, 1.0);
    shuffled.step(*backend.kernels, 1, 0.01, 1.0, parallel);
    auto now = shuffled.everything(), then = once.everything();
    for (size_t i = 0; i < now.size(); i++) CHECK(now[i].same_bits(then[i]));
  });
}
