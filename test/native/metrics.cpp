// Accuracy, conditional accuracy and acceptance, counted by hand in one case and from the definitions in random ones.
#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

TEST_CASE("multi_token_metrics: a sequence counted by hand") {
  // tokens 5 6 7 8 | 9, the document ends at position 3; T = 4, two heads.
  auto targets = Buffer<int32_t>::of({5, 6, 7, 8, 9}), limit = Buffer<int32_t>::of({3, 3, 3, 3});
  // Head 1 should say 6 7 8 (then 9 lies beyond); head 2: 7 8.
  auto argmax = Buffer<int32_t>::of({6, 0, 8, 9,  //
                                     0, 8, 1, 1});
  auto loss = Buffer<float>::of({0.5, 1, 2, 100, 4, 8, 100, 100});
  // Head 1: three valid, two right. Head 2: two valid; head 1 right at t = 0 alone, where head 2 is wrong; at t = 1
  // head 2 is right. Accepted: its guess at t equals head 1's at t + 1: 0 = 0, 8 = 8, 1 ≠ 9; t = 3 has no t + 1.
  std::vector<double> expected = {3.5, 3, 2, 2, 3, 4, 4, 0,  //
                                  12,  2, 1, 0, 1, 2, 3, 0};
  for_each_level([&](const Backend& backend) {
    Buffer<float> sums(16);
    auto count = [&](bool accumulate) {
      run(backend.kernels->multi_token_metrics, view_of(loss, {2, 4}), view_of(argmax, {2, 4}),
          view_of(targets, {1, 5}), view_of(limit, {1, 4}), view_of(sums, {2, 8}), accumulate);
    };
    count(false);
    CHECK(sums.values() == expected);
    count(true);
    std::vector<double> twice = expected;
    for (double& value : twice) value *= 2;
    CHECK(sums.values() == twice);
    CHECK(sums.guards_intact());
  });
}

TEST_CASE("multi_token_metrics: random sequences, four heads, against the definitions") {
  constexpr int64_t kHeads = 4, kBatch = 3, kTokens = 21, kStored = 25, kRows = kBatch * kTokens;
  auto targets = Buffer<int32_t>::of(random_integers(kBatch * kStored, -1, 2, 1));
  auto limit = Buffer<int32_t>::of(random_integers(kRows, 5, kStored, 2));
  auto argmax = Buffer<int32_t>::of(random_integers(kHeads * kRows, 0, 2, 3));
  auto loss = Buffer<float>::of(random_integers(kHeads * kRows, 0, 9, 4));
  for (bool limited : {false, true}) {
    std::vector<double> expected(kHeads * 8);
    for (int64_t head = 0; head < kHeads; head++)
      for (int64_t b = 0; b < kBatch; b++)
        for (int64_t t = 0; t < kTokens; t++) {
          int64_t row = b * kTokens + t, last = limited ? limit[row] : kStored;
          auto target = [&](int64_t i) {
            int64_t position = t + i + 1;
            return position < kStored && position <= last ? targets[b * kStored + position] : -1;
          };
          auto right = [&](int64_t i) { return target(i) >= 0 && argmax[i * kRows + row] == target(i); };
          double* sums = expected.data() + head * 8;
          bool before = target(head) >= 0;
          for (int64_t i = 0; i < head; i++) before = before && right(i);
          if (target(head) >= 0) sums[0] += loss[head * kRows + row];
          sums[1] += target(head) >= 0;
          sums[2] += right(head);
          sums[3] += before && right(head);
          sums[4] += before;
          if (t + head >= kTokens || t + head > last) continue;
          bool accepted = true;
          for (int64_t j = 1; j <= head; j++) accepted = accepted && argmax[j * kRows + row] == argmax[row + j];
          sums[5] += accepted;
          sums[6] += 1;
        }
    for_each_level([&](const Backend& backend) {
      INFO((limited ? "with" : "without") << " limit");
      Buffer<float> sums(kHeads * 8);
      run(backend.kernels->multi_token_metrics, view_of(loss, {kHeads, kRows}), view_of(argmax, {kHeads, kRows}),
          view_of(targets, {kBatch, kStored}), limited ? view_of(limit, {kBatch, kTokens}) : absent,
          view_of(sums, {kHeads, 8}), false);
      CHECK(sums.values() == expected);
    });
  }
}
