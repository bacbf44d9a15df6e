// Drafts, as ../cpu/generic/draft.cpp has them.
#include "launch.cuh"
#include "reduce.cuh"
#include "table.h"

namespace foretoken::cuda {
namespace {

constexpr int kThreads = 256;

struct Progress {
  int32_t position, kept;
};

__device__ Progress progress_of(const int32_t* progress /*(S,2)*/, int64_t S, int32_t slot) {
  if (slot < 0 || slot >= S) return {0, -1};
  return {progress[2 * slot], progress[2 * slot + 1]};
}

// ---- draft_rows: a thread a row, and a thread a draw ---------------------------------------------------------------

__device__ void place_row(const int32_t* row /*(2)*/, Progress text, int64_t capacity, int32_t* column, int64_t R) {
  const int32_t slot = row[0], offset = row[1];
  const int64_t position = int64_t{text.position} + offset;
  const bool reads = text.kept >= 0 && offset >= -1 - text.kept && position >= 0 && position < capacity;
  const int64_t place = reads ? slot * capacity + position : -1;
  column[0] = reads ? slot : -1;
  column[R] = reads ? static_cast<int32_t>(position) : 0;
  column[2 * R] = static_cast<int32_t>(reads && position > 0 ? place - 1 : -1);
  column[3 * R] = static_cast<int32_t>(place);
}

__global__ void __launch_bounds__(kThreads)
    draft_rows_kernel(const int32_t* rows /*(R,2)*/, const int32_t* draws /*(D,5)*/, const int32_t* progress /*(S,2)*/,
                      int64_t capacity, int32_t* columns /*(4,R)*/, int32_t* counters /*(D,4)*/, int64_t R, int64_t D,
                      int64_t S) {
  const int64_t i = thread_index();
  if (i < R) place_row(rows + 2 * i, progress_of(progress, S, rows[2 * i]), capacity, columns + i, R);
  if (i >= D) return;
  const int32_t* draw = draws + 5 * i;
  for (int part = 0; part < 3; part++) counters[4 * i + part] = draw[2 + part];
  counters[4 * i + 3] = draw[1] + progress_of(progress, S, draw[0]).position;
}

void draft_rows(const Call& call, In rows, In draws, In progress, int64_t capacity, Out columns, Out counters) {
  const int64_t R = rows.shape[0], D = draws.shape[0];
  launch(call, ceil_div(R > D ? R : D, kThreads), kThreads, draft_rows_kernel, elements<int32_t>(rows),
         elements<int32_t>(draws), elements<int32_t>(progress), capacity, elements<int32_t>(columns),
         elements<int32_t>(counters), R, D, progress.shape[0]);
}

// ---- accept_draft: one block, whose threads take the rows in turn --------------------------------------------------

struct Verdict {
  const int32_t *rows /*(R,2)*/, *read, *drawn, *log_probability /*(R), as bits*/;
  int64_t R;

  // How much is kept of the draft behind row r, which begins one.
  __device__ int32_t kept_behind(int64_t r) const {
    const int32_t slot = rows[2 * r];
    int32_t kept = 0;
    for (int64_t i = r + 1; i < R && rows[2 * i] == slot && rows[2 * i + 1] == i - r; i++, kept++)
      if (read[i] != drawn[i - 1]) break;
    return kept;
  }
};

__global__ void __launch_bounds__(kThreads)
    accept_draft_kernel(Verdict verdict, int32_t* progress /*(S,2)*/, int32_t* last /*(S)*/, int32_t* step /*(2)*/,
                        int32_t* results /*(T,3,R)*/, int64_t S, int64_t T) {
  const int64_t R = verdict.R;
  const int32_t taken = step[0];
  int32_t* result = results + taken % T * 3 * R;
  int32_t most = 0;
  for (int64_t r = threadIdx.x; r < R; r += kThreads) {
    result[r] = verdict.read[r];
    result[R + r] = verdict.drawn[r];
    result[2 * R + r] = verdict.log_probability[r];
    const int32_t slot = verdict.rows[2 * r];
    if (slot < 0 || slot >= S || verdict.rows[2 * r + 1] != 0) continue;
    const int32_t kept = verdict.kept_behind(r);
    progress[2 * slot] += kept + 1;
    progress[2 * slot + 1] = kept;
    last[slot] = verdict.drawn[r + kept];
    most = kept > most ? kept : most;
  }
  most = block_reduce(most, Largest());  // all have read step[0] before it is written
  if (threadIdx.x > 0) return;
  step[0] = taken + 1;
  step[1] = most;
}

void accept_draft(const Call& call, In rows, In read, In drawn, In log_probability, InOut progress, InOut last,
                  InOut step, InOut results) {
  const Verdict verdict = {elements<int32_t>(rows), elements<int32_t>(read), elements<int32_t>(drawn),
                           elements<int32_t>(log_probability), rows.shape[0]};
  launch(call, 1, kThreads, accept_draft_kernel, verdict, elements<int32_t>(progress), elements<int32_t>(last),
         elements<int32_t>(step), elements<int32_t>(results), progress.shape[0], results.shape[0]);
}

}  // namespace

void fill_draft(Kernels& table) {
  table.draft_rows = {draft_rows};
  table.accept_draft = {accept_draft};
}

}  // namespace foretoken::cuda
