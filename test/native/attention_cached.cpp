// cache_append and attention_cached: values against f64, and a row's bits against everything they must not depend on.
#include <algorithm>
#include <numeric>

#include "helpers.h"

using namespace foretoken;
using namespace foretoken::test;

namespace {

struct Case {
  const char* path;
  int64_t H, G, D, capacity;
  bool documents;
};

const std::vector<Case> kCases = {
    {"one head", 1, 1, 2, 5, false},
    {"width below a vector", 2, 2, 6, 70, false},
    {"documents", 4, 4, 32, 200, true},
    {"grouped heads, several blocks", 4, 2, 64, 200, false},
    {"group of three, odd width", 6, 2, 10, 150, true},
    {"group of eight, wide heads", 8, 1, 128, 140, false},
    {"width that is no multiple of 32", 4, 1, 80, 130, true},
    {"more than one range of keys", 2, 1, 16, 1300, true},
    {"odd width, more than one range", 3, 3, 7, 300, false},
};

// Rows at a few positions of a few sequences; the cache is filled to each sequence's end and poisoned beyond it.
template <class S>
struct Problem {
  Case c;
  int64_t slots, R;
  Buffer<S> q, key_cache, value_cache, out;
  Buffer<int32_t> sequence, position, first;

  Problem(const Case& c_, int64_t slots_, int64_t rows)
      : c(c_),
        slots(slots_),
        R(rows),
        q(Buffer<S>::of(random_normal(rows * c.H * c.D, 1.5, 21), 1)),
        key_cache(slots * c.G * c.capacity * c.D),
        value_cache(slots * c.G * c.capacity * c.D),
        out(rows * c.H * c.D, 1),
        sequence(rows),
        position(rows),
        first(rows) {
    for (int64_t r = 0; r < R; r++) {
      sequence[r] = static_cast<int32_t>(r % slots);
      position[r] = static_cast<int32_t>((r * 37 + c.capacity - 1) % c.capacity);
      first[r] = c.documents ? position[r] / 3 : 0;
    }
    for (int64_t slot = 0; slot < slots; slot++) fill_sequence(slot, slot, end_of(slot));
  }

  // The last position any row of this slot attends to.
  int64_t end_of(int64_t slot) const {
    int64_t end = -1;
    for (int64_t r = 0; r < R; r++)
      if (sequence[r] == slot) end = std::max<int64_t>(end, position[r]);
    return end;
  }
  int64_t offset(int64_t slot, int64_t g) const { return (slot * c.G + g) * c.capacity * c.D; }
  // The same sequence, whichever slot and capacity it sits in.
  void fill_sequence(int64_t slot, int64_t seed, int64_t last) {
    for (int64_t g = 0; g < c.G; g++) {
      auto keys = random_normal((last + 1) * c.D, 1, 100 + 10 * seed + g);
      auto values = random_normal((last + 1) * c.D, 1, 200 + 10 * seed + g);
      for (size_t i = 0; i < keys.size(); i++) {
        key_cache[offset(slot, g) + i] = from_double<S>(keys[i]);
        value_cache[offset(slot, g) + i] = from_double<S>(values[i]);
      }
    }
  }
  AnyView cache_view(const Buffer<S>& x) const { return view_of(x, {slots, c.G, c.capacity, c.D}); }
  void run_rows(const Kernels& kernels, int64_t from, int64_t count, const Parallel& parallel = {},
                Buffer<int32_t>* branch = nullptr /*(R,A)*/) {
    const int64_t A = branch ? branch->size() / R : 0;
    auto rows = [&](auto& x, std::initializer_list<int64_t> shape, int64_t width) {
      AnyView view = view_of(x, shape);
      view.data = x.data() + from * width;
      return view;
    };
    run_on(parallel, kernels.attention_cached, rows(q, {count, c.H, c.D}, c.H * c.D), cache_view(key_cache),
           cache_view(value_cache), rows(sequence, {count}, 1), rows(position, {count}, 1),
           c.documents ? rows(first, {count}, 1) : absent, branch ? rows(*branch, {count, A}, A) : absent,
           rows(out, {count, c.H, c.D}, c.H * c.D), 1 / std::sqrt(static_cast<double>(c.D)));
  }
  std::vector<double> expected() const {
    std::vector<double> result(R * c.H * c.D);
    for (int64_t r = 0; r < R; r++) {
      for (int64_t h = 0; h < c.H; h++) {
        int64_t base = offset(sequence[r], h / (c.H / c.G)), row = (r * c.H + h) * c.D;
        std::vector<double> weights;
        double total = 0;
        for (int64_t s = first[r]; s <= position[r]; s++) {
          double score = 0;
          for (int64_t i = 0; i < c.D; i++) score += to_double(q[row + i]) * to_double(key_cache[base + s * c.D + i]);
          weights.push_back(std::exp(score / std::sqrt(static_cast<double>(c.D))));
          total += weights.back();
        }
        for (int64_t s = first[r]; s <= position[r]; s++)
          for (int64_t i = 0; i < c.D; i++)
            result[row + i] += weights[s - first[r]] / total * to_double(value_cache[base + s * c.D + i]);
      }
    }
    return result;
  }
  bool row_equals(int64_t r, const Problem& other, int64_t other_r) const {
    int64_t row = c.H * c.D;
    return std::memcmp(out.data() + r * row, other.out.data() + other_r * row, row * sizeof(S)) == 0;
  }
};

}  // namespace

// f64: roundings. f32: √(D+T) roundings of 2⁻²⁴. bf16: sums are f32 and the probabilities are not rounded, so the only
// bf16 rounding is that of the result, below 4 in size.
TEST_CASE("attention_cached: values at every level") {
  for (const Case& c : kCases) {
    INFO(c.path);
    Problem<double> exact(c, 2, 9);
    exact.run_rows(oracle(), 0, exact.R);
    CHECK(max_error(exact.out.values(), exact.expected()) < 1e-13);
    for_each_level([&](const Backend& backend) {
      Problem<float> f32(c, 2, 9);
      f32.run_rows(*backend.kernels, 0, f32.R);
      CHECK(max_error(f32.out.values(), f32.expected()) < 5e-6);
      CHECK(f32.out.guards_intact());
      Problem<bf16> half(c, 2, 9);
      half.run_rows(*backend.kernels, 0, half.R);
      CHECK(max_error(half.out.values(), half.expected()) < 1.0 / 128 + 1e-5);
      CHECK(half.out.guards_intact());
    });
  }
}

TEST_CASE_TEMPLATE("attention_cached: a row has the same bits among 1 to 64 rows and on any threads", S, float, bf16) {
  for_each_level([&](const Backend& backend) {
    for (const Case& c : kCases) {
      INFO(c.path);
      Problem<S> together(c, 3, 64), apart(c, 3, 64);
      together.run_rows(*backend.kernels, 0, 64);
      int64_t done = 0;
      for (int64_t count = 1; done < 64; count = std::min<int64_t>(count + 2, 64 - done)) {
        apart.run_rows(*backend.kernels, done, count, ShuffledParallel(3, 17));
        done += count;
      }
      CHECK(together.out.same_bits(apart.out));
    }
  });
}

TEST_CASE_TEMPLATE("attention_cached: a row has the same bits in another slot, capacity and company", S, float, bf16) {
  for_each_level([&](const Backend& backend) {
    for (const Case& c : kCases) {
      INFO(c.path);
      Problem<S> plain(c, 3, 12);
      plain.run_rows(*backend.kernels, 0, 12);
      Case roomy = c;
      roomy.capacity = 2 * c.capacity + 77;
      Problem<S> moved(roomy, 5, 12);
      moved.key_cache.poison(), moved.value_cache.poison();
      for (int64_t slot = 0; slot < 3; slot++) moved.fill_sequence(4 - slot, slot, plain.end_of(slot));
      for (int64_t r = 0; r < 12; r++) {  // the rows in reverse order
        moved.sequence[r] = 4 - plain.sequence[11 - r];
        moved.position[r] = plain.position[11 - r];
        moved.first[r] = plain.first[11 - r];
        int64_t row = c.H * c.D;
        std::memcpy(moved.q.data() + r * row, plain.q.data() + (11 - r) * row, row * sizeof(S));
      }
      moved.run_rows(*backend.kernels, 0, 12);
      for (int64_t r = 0; r < 12; r++) CHECK(moved.row_equals(r, plain, 11 - r));
    }
  });
}

TEST_CASE("attention_cached: a row out of range is zeros and the others are untouched by it") {
  for_each_level([&](const Backend& backend) {
    Problem<float> plain(kCases[3], 2, 4), holed(kCases[3], 2, 4);
    plain.run_rows(*backend.kernels, 0, 4);
    holed.sequence[1] = 2;
    holed.position[2] = static_cast<int32_t>(holed.c.capacity);
    holed.run_rows(*backend.kernels, 0, 4);
    for (int64_t i = 0; i < holed.c.H * holed.c.D; i++) {
      CHECK(holed.out[holed.c.H * holed.c.D + i] == 0);
      CHECK(holed.out[2 * holed.c.H * holed.c.D + i] == 0);
    }
    CHECK(holed.row_equals(0, plain, 0));
    CHECK(holed.row_equals(3, plain, 3));
  });
}

TEST_CASE("attention_cached: very large scores stay finite") {
  for_each_level([&](const Backend& backend) {
    Problem<float> problem(kCases[3], 2, 6);
    for (int64_t i = 0; i < problem.q.size(); i++) problem.q[i] *= 3000;
    problem.run_rows(*backend.kernels, 0, 6);
    for (int64_t i = 0; i < problem.out.size(); i++) CHECK(std::abs(problem.out[i]) < 6);
  });
}

TEST_CASE_TEMPLATE("cache_append: writes each row to its place and nothing else", S, float, bf16, double) {
  constexpr int64_t kRows = 5, kSlots = 3, kGroups = 2, kCapacity = 4, D = 6;
  const std::vector<double> sequence = {2, 0, -1, 1, 3}, position = {3, 0, 1, 4, 2};  // rows 2, 3, 4 are out of range
  auto check = [&](const Kernels& kernels) {
    Buffer<S> k = Buffer<S>::of(random_normal(kRows * kGroups * D, 1, 1));
    Buffer<S> v = Buffer<S>::of(random_normal(kRows * kGroups * D, 1, 2));
    Buffer<S> keys(kSlots * kGroups * kCapacity * D), values(kSlots * kGroups * kCapacity * D);
    Buffer<S> expected_keys = keys, expected_values = values;
    for (int64_t r : {0, 1}) {
      for (int64_t g = 0; g < kGroups; g++) {
        int64_t to =
            ((static_cast<int64_t>(sequence[r]) * kGroups + g) * kCapacity + static_cast<int64_t>(position[r])) * D;
        std::memcpy(&expected_keys[to], &k[(r * kGroups + g) * D], D * sizeof(S));
        std::memcpy(&expected_values[to], &v[(r * kGroups + g) * D], D * sizeof(S));
      }
    }
    run(kernels.cache_append, view_of(k, {kRows, kGroups, D}), view_of(v, {kRows, kGroups, D}),
        view_of(Buffer<int32_t>::of(sequence), {kRows}), view_of(Buffer<int32_t>::of(position), {kRows}),
        view_of(keys, {kSlots, kGroups, kCapacity, D}), view_of(values, {kSlots, kGroups, kCapacity, D}));
    CHECK(keys.same_bits(expected_keys));
    CHECK(values.same_bits(expected_values));
    CHECK(keys.guards_intact());
    CHECK(values.guards_intact());
  };
  if constexpr (std::is_same_v<S, double>)
    check(oracle());
  else
    for_each_level([&](const Backend& backend) { check(*backend.kernels); });
}

TEST_CASE_TEMPLATE("rope_append: what rope and cache_append do with the parts of a row, bit for bit", S, float, bf16,
                   double) {
  struct Sizes {
    int64_t R, H, G, D;
  };
  constexpr int64_t kSlots = 3, kCapacity = 40;
  for (const auto [R, H, G, D] : {Sizes{1, 4, 4, 64}, Sizes{8, 4, 2, 64}, Sizes{37, 6, 2, 10}, Sizes{5, 1, 1, 2},
                                  Sizes{18, 8, 1, 128}, Sizes{3, 3, 3, 80}}) {
    INFO("R " << R << " H " << H << " G " << G << " D " << D);
    Buffer<int32_t> sequence(R), position(R), place(R);
    for (int64_t r = 0; r < R; r++) {
      sequence[r] = static_cast<int32_t>(r * 7 % 5 - 1);  // −1, 3: no slots
      position[r] = static_cast<int32_t>((r * 7919 + 13) % 3000);
      place[r] = static_cast<int32_t>(r == 2 ? kCapacity : r);  // one behind the end
    }
    const int64_t columns = (H + 2 * G) * D;
    const Buffer<S> qkv = Buffer<S>::of(random_normal(R * columns, 1, 5));
    Buffer<S> parts[3] = {Buffer<S>(R * H * D), Buffer<S>(R * G * D), Buffer<S>(R * G * D)};
    const int64_t starts[3] = {0, H * D, (H + G) * D}, widths[3] = {H * D, G * D, G * D};
    for (int part = 0; part < 3; part++)
      for (int64_t r = 0; r < R; r++)
        std::memcpy(&parts[part][r * widths[part]], &qkv[r * columns + starts[part]], widths[part] * sizeof(S));
    auto check = [&](const Kernels& kernels, const Parallel& parallel) {
      Buffer<S> q = parts[0], k = parts[1], v = parts[2];
      Buffer<S> expected_keys(kSlots * G * kCapacity * D), expected_values = expected_keys;
      Buffer<S> keys = expected_keys, values = expected_keys, out(R * H * D), given = qkv;
      const auto cache = [&](Buffer<S>& buffer) { return view_of(buffer, {kSlots, G, kCapacity, D}); };
      run_on(parallel, kernels.rope, view_of(q, {R, H, D}), view_of(position, {R}), R, 10000.0, false);
      run_on(parallel, kernels.rope, view_of(k, {R, G, D}), view_of(position, {R}), R, 10000.0, false);
      run_on(parallel, kernels.cache_append, view_of(k, {R, G, D}), view_of(v, {R, G, D}), view_of(sequence, {R}),
             view_of(place, {R}), cache(expected_keys), cache(expected_values));
      run_on(parallel, kernels.rope_append, view_of(given, {R, columns}), view_of(sequence, {R}),
             view_of(position, {R}), view_of(place, {R}), view_of(out, {R, H, D}), cache(keys), cache(values), 10000.0);
      CHECK(out.same_bits(q));
      CHECK(keys.same_bits(expected_keys));
      CHECK(values.same_bits(expected_values));
      for (const Buffer<S>* buffer : {&out, &keys, &values}) CHECK(buffer->guards_intact());
    };
    if constexpr (std::is_same_v<S, double>)
      check(oracle(), {});
    else
      for_each_level([&](const Backend& backend) {
        check(*backend.kernels, {});
        check(*backend.kernels, ShuffledParallel(4));
      });
  }
}

// ---- branches ------------------------------------------------------------------------------------------------------

namespace {

// A tree: the rows of a slot share its keys but for their last A positions, which are their own. Once with each row in
// a slot of its own, in order, and once as it is kept for a tree: two slots, the rows' own keys at shuffled places
// behind the shared ones. What no row reads is poisoned.
template <class S>
struct Tree {
  int64_t A;
  Problem<S> apart, together;
  Buffer<int32_t> branch;  // (R,A)

  Tree(const Case& c, int64_t rows, int64_t A_)
      : A(A_), apart(c, rows, rows), together(with_places(c, rows * A_), 2, rows), branch(rows * A_) {
    std::vector<int32_t> places(rows * A);
    std::iota(places.begin(), places.end(), static_cast<int32_t>(c.capacity));
    std::shuffle(places.begin(), places.end(), std::mt19937_64(5));
    together.key_cache.poison(), together.value_cache.poison();
    together.position = apart.position, together.first = apart.first;
    for (int64_t r = 0; r < rows; r++) {
      const int64_t position = apart.position[r];
      apart.fill_sequence(r, 20 + r, position);
      if (position >= A) apart.fill_sequence(r, r % 2, position - A);
      for (int64_t s = 0; s <= position; s++) {
        const int64_t i = s - position + A - 1;
        if (i >= 0) branch[r * A + i] = places[r * A + i];
        copy_key(r, s, i < 0 ? s : places[r * A + i]);
      }
    }
  }
  static Case with_places(Case c, int64_t more) {
    c.capacity += more;
    return c;
  }
  void copy_key(int64_t r, int64_t from, int64_t to) {
    const int64_t D = apart.c.D;
    for (int64_t g = 0; g < apart.c.G; g++) {
      const int64_t source = apart.offset(r, g) + from * D, target = together.offset(r % 2, g) + to * D;
      std::memcpy(&together.key_cache[target], &apart.key_cache[source], D * sizeof(S));
      std::memcpy(&together.value_cache[target], &apart.value_cache[source], D * sizeof(S));
    }
  }
};

template <class S>
void check_trees(const Kernels& kernels) {
  for (const Case& c : kCases) {
    INFO(c.path);
    for (int64_t A : {int64_t{1}, int64_t{2}, int64_t{7}, int64_t{65}, c.capacity + 3}) {  // the last: all positions
      CAPTURE(A);
      Tree<S> tree(c, 6, A);
      tree.apart.run_rows(kernels, 0, 6);
      tree.together.run_rows(kernels, 0, 6, ShuffledParallel(3), &tree.branch);
      CHECK(tree.together.out.same_bits(tree.apart.out));
      CHECK(tree.together.out.guards_intact());
    }
  }
}

}  // namespace

TEST_CASE("attention_cached: a row has the same bits wherever the keys of its last positions lie") {
  check_trees<double>(oracle());
  for_each_level([](const Backend& backend) {
    check_trees<float>(*backend.kernels);
    check_trees<bf16>(*backend.kernels);
  });
}

TEST_CASE("attention_cached: places out of range are clamped, a row out of range is zeros whatever its branch") {
  for_each_level([](const Backend& backend) {
    Problem<float> wild(kCases[3], 2, 4), clamped(kCases[3], 2, 4);
    const int64_t capacity = wild.c.capacity, D = wild.c.D;
    for (Problem<float>* problem : {&wild, &clamped}) {
      for (int64_t slot : {0, 1}) problem->fill_sequence(slot, slot, capacity - 1);
      problem->sequence[1] = 2;
    }
    auto branch = Buffer<int32_t>::of({-1, -2e9, 0, 9, 0, static_cast<double>(capacity), 2e9, 3});
    auto within = Buffer<int32_t>::of({0, 0, 0, 9, 0, capacity - 1.0, capacity - 1.0, 3});
    wild.run_rows(*backend.kernels, 0, 4, {}, &branch);
    clamped.run_rows(*backend.kernels, 0, 4, {}, &within);
    CHECK(wild.out.same_bits(clamped.out));
    for (int64_t i = 0; i < wild.c.H * D; i++) CHECK(wild.out[wild.c.H * D + i] == 0);
  });
}
