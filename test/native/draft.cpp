// draft_rows and accept_draft: against the rule itself, text by text, and what must stay as it is.
#include <algorithm>

#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

using Integers = std::vector<int32_t>;

Buffer<int32_t> buffer_of(const Integers& values) {
  return Buffer<int32_t>::of(std::vector<double>(values.begin(), values.end()));
}
Integers integers(const Buffer<int32_t>& buffer) { return {buffer.data(), buffer.data() + buffer.size()}; }

struct Rows {
  Integers columns, counters;
};

Rows draft_rows(const Kernels& kernels, const Integers& rows, const Integers& draws, const Integers& progress,
                int64_t capacity) {
  const int64_t R = static_cast<int64_t>(rows.size()) / 2, D = static_cast<int64_t>(draws.size()) / 5;
  Buffer<int32_t> columns(4 * R), counters(4 * D);
  run(kernels.draft_rows, view_of(buffer_of(rows), {R, 2}), view_of(buffer_of(draws), {D, 5}),
      view_of(buffer_of(progress), {static_cast<int64_t>(progress.size()) / 2, 2}), capacity, view_of(columns, {4, R}),
      view_of(counters, {D, 4}));
  CHECK(columns.guards_intact());
  CHECK(counters.guards_intact());
  return {integers(columns), integers(counters)};
}

// What accept_draft leaves, from texts of several slots whose drafts were read one behind the other.
struct State {
  Integers progress, last, step, results;
};

State accept(const Kernels& kernels, const Integers& rows, const Integers& read, const Integers& drawn,
             const std::vector<double>& logs, State state, int64_t T) {
  const int64_t R = static_cast<int64_t>(read.size()), S = static_cast<int64_t>(state.last.size());
  Buffer<int32_t> progress = buffer_of(state.progress), last = buffer_of(state.last), step = buffer_of(state.step);
  Buffer<int32_t> results = buffer_of(state.results);
  run(kernels.accept_draft, view_of(buffer_of(rows), {R, 2}), view_of(buffer_of(read), {R}),
      view_of(buffer_of(drawn), {R}), view_of(Buffer<float>::of(logs), {R}), view_of(progress, {S, 2}),
      view_of(last, {S}), view_of(step, {2}), view_of(results, {T, 3, R}));
  for (const auto* buffer : {&progress, &last, &step, &results}) CHECK(buffer->guards_intact());
  return {integers(progress), integers(last), integers(step), integers(results)};
}

}  // namespace

TEST_CASE("draft_rows: rows and draws from where their texts stand") {
  for_each_level([&](const Backend& backend) {
    // Slot 0 stands at 7 and has kept 2, slot 1 at 0 and none, slot 2 at the last of 10 places.
    const Integers progress = {7, 2, 0, 0, 9, 1};
    const Integers rows = {0, -4, 0, -3, 0, -1, 0, 0, 0, 2, 0, 3, 1, 0, 1, 1, 1, -1, 2, 0, 2, 1, -1, 0, 3, 0};
    const Integers draws = {0, 1, 11, 12, 13, 1, 5, 21, 22, 23, 2, 100, 31, 32, 33};
    const Rows got = draft_rows(*backend.kernels, rows, draws, progress, 10);
    const Integers sequence = {-1, 0, 0, 0, 0, -1, 1, 1, -1, 2, -1, -1, -1};
    const Integers position = {0, 4, 6, 7, 9, 0, 0, 1, 0, 9, 0, 0, 0};
    const Integers previous = {-1, 3, 5, 6, 8, -1, -1, 10, -1, 28, -1, -1, -1};
    const Integers place = {-1, 4, 6, 7, 9, -1, 10, 11, -1, 29, -1, -1, -1};
    Integers expected;
    for (const Integers& column : {sequence, position, previous, place})
      expected.insert(expected.end(), column.begin(), column.end());
    CHECK(got.columns == expected);
    CHECK(got.counters == Integers{11, 12, 13, 8, 21, 22, 23, 5, 31, 32, 33, 109});
  });
}

TEST_CASE("draft_rows: no rows, or no draws") {
  for_each_level([&](const Backend& backend) {
    CHECK(draft_rows(*backend.kernels, {0, 0}, {}, {3, 0}, 8).columns == Integers{0, 3, 2, 3});
    CHECK(draft_rows(*backend.kernels, {}, {0, 1, 5, 6, 7}, {3, 0}, 8).counters == Integers{5, 6, 7, 4});
  });
}

TEST_CASE("accept_draft: a draft is kept up to its first wrong token") {
  for_each_level([&](const Backend& backend) {
    const Integers rows = {1, 0, 1, 1, 1, 2, 0, 0, -1, 0, 2, 0, 2, 1};
    const Integers read = {40, 41, 42, 50, 0, 60, 61}, drawn = {41, 9, 43, 51, 7, 61, 62};
    const std::vector<double> logs = {-1, -2, -3, -4, -5, -6, -7};
    const State before = {{5, 3, 8, 3, 2, 3, 6, 3}, {1, 2, 3, 4}, {4, 9}, Integers(2 * 3 * 7, -9)};
    const State after = accept(*backend.kernels, rows, read, drawn, logs, before, 2);
    CHECK(after.progress == Integers{6, 0, 10, 1, 4, 1, 6, 3});
    CHECK(after.last == Integers{51, 9, 62, 4});
    CHECK(after.step == Integers{5, 1});
    Integers results = read;
    results.insert(results.end(), drawn.begin(), drawn.end());
    for (const double log : logs) results.push_back(__builtin_bit_cast(int32_t, static_cast<float>(log)));
    results.resize(2 * 3 * 7, -9);
    CHECK(after.results == results);
    // The step after it goes to the other place, the one after that to the first again.
    const State next = accept(*backend.kernels, rows, read, drawn, logs, after, 2);
    CHECK(Integers(next.results.begin() + 3 * 7, next.results.end()) ==
          Integers(results.begin(), results.begin() + 3 * 7));
    CHECK(next.step[0] == 6);
  });
}

TEST_CASE("accept_draft: every length, in batches of several lengths") {
  for_each_level([&](const Backend& backend) {
    constexpr int kSlots = 9, kLength = 40;  // more rows than a block of any device has threads
    for (int first = 0; first <= kLength; first += 7) {
      Integers rows, read, drawn, progress, last(kSlots, -5), expected_progress, expected_last;
      int most = 0;
      for (int slot = 0; slot < kSlots; slot++) {
        const int length = kLength - slot, kept = std::min(length, (first + slot * 5) % (kLength + 1));
        for (int i = 0; i <= length; i++) {
          rows.insert(rows.end(), {slot, i});
          read.push_back(1000 * slot + i);
          drawn.push_back(1000 * slot + i + (i == kept ? 500 : 1));
        }
        progress.insert(progress.end(), {10 * slot, 77});
        expected_progress.insert(expected_progress.end(), {10 * slot + kept + 1, kept});
        expected_last.push_back(1000 * slot + kept + 500);
        most = std::max(most, kept);
      }
      const std::vector<double> logs(read.size(), -0.5);
      const State before = {progress, last, {0, 0}, Integers(3 * read.size(), 0)};
      const State after = accept(*backend.kernels, rows, read, drawn, logs, before, 1);
      CHECK(after.progress == expected_progress);
      CHECK(after.last == expected_last);
      CHECK(after.step == Integers{1, most});
    }
  });
}
