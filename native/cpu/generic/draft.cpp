// Drafts: rows of a step after what was kept of the one before, and what is kept of its own.
#include <cstring>

#include "../level.h"
#include "dispatch.h"

namespace foretoken::generic {
namespace {

struct Progress {
  int32_t position, kept;
};

// Of a slot; where there is no such slot, nothing that counts.
Progress progress_of(const In& progress, int32_t slot) {
  if (slot < 0 || slot >= progress.shape[0]) return {0, -1};
  const int32_t* of_slot = elements<int32_t>(progress) + 2 * slot;
  return {of_slot[0], of_slot[1]};
}

void draft_rows(const Call&, In rows, In draws, In progress, int64_t capacity, Out columns, Out counters) {
  const int64_t R = rows.shape[0], D = draws.shape[0];
  const int32_t* row = elements<int32_t>(rows);  // (R,2)
  int32_t* column = elements<int32_t>(columns);  // (4,R)
  for (int64_t r = 0; r < R; r++) {
    const int32_t slot = row[2 * r], offset = row[2 * r + 1];
    const auto [start, kept] = progress_of(progress, slot);
    const int64_t position = int64_t{start} + offset;
    const bool reads = kept >= 0 && offset >= -1 - kept && position >= 0 && position < capacity;
    const int64_t place = reads ? slot * capacity + position : -1;
    column[r] = reads ? slot : -1;
    column[R + r] = reads ? static_cast<int32_t>(position) : 0;
    column[2 * R + r] = static_cast<int32_t>(reads && position > 0 ? place - 1 : -1);
    column[3 * R + r] = static_cast<int32_t>(place);
  }
  const int32_t* draw = elements<int32_t>(draws);  // (D,5)
  int32_t* counter = elements<int32_t>(counters);  // (D,4)
  for (int64_t i = 0; i < D; i++, draw += 5, counter += 4) {
    std::memcpy(counter, draw + 2, 3 * sizeof(int32_t));
    counter[3] = draw[1] + progress_of(progress, draw[0]).position;
  }
}

void accept_draft(const Call&, In rows, In read, In drawn, In log_probability, InOut progress, InOut last, InOut step,
                  InOut results) {
  const int64_t R = rows.shape[0], S = progress.shape[0], T = results.shape[0];
  const int32_t *row = elements<int32_t>(rows), *tokens = elements<int32_t>(read), *draws = elements<int32_t>(drawn);
  int32_t most = 0;
  for (int64_t r = 0; r < R; r++) {
    const int32_t slot = row[2 * r];
    if (slot < 0 || slot >= S || row[2 * r + 1] != 0) continue;
    const auto drafted = [&](int64_t i) { return i < R && row[2 * i] == slot && row[2 * i + 1] == i - r; };
    int32_t kept = 0;
    while (drafted(r + kept + 1) && tokens[r + kept + 1] == draws[r + kept]) kept++;
    int32_t* of_slot = elements<int32_t>(progress) + 2 * slot;
    of_slot[0] += kept + 1;
    of_slot[1] = kept;
    elements<int32_t>(last)[slot] = draws[r + kept];
    most = kept > most ? kept : most;
  }
  int32_t* taken = elements<int32_t>(step);
  int32_t* result = elements<int32_t>(results) + taken[0] % T * 3 * R;
  std::memcpy(result, tokens, R * sizeof(int32_t));
  std::memcpy(result + R, draws, R * sizeof(int32_t));
  std::memcpy(result + 2 * R, elements<float>(log_probability), R * sizeof(float));
  taken[0]++;
  taken[1] = most;
}

}  // namespace

void fill_draft(Kernels& table) {
  table.draft_rows = {draft_rows};
  table.accept_draft = {accept_draft};
}

}  // namespace foretoken::generic
