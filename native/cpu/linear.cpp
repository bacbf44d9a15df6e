// Products with a weight, from the product engine (gemm.h): packing, tasks, and what happens to a block of sums.
#include "blocks.h"
#include "gemm.h"
#include "simd.h"

namespace FORETOKEN_LEVEL_NAMESPACE {

constexpr int64_t kTaskRows = 64;
constexpr int64_t kPackColumns = 64;  // columns of B that a packing task takes

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

// Columns of a task of kTaskRows rows: as wide as leaves 64 tasks, between 64 and 256.
static int64_t task_columns(int64_t m, int64_t n) {
  int64_t columns = 256;
  while (columns > 64 && divide_up(m, kTaskRows) * divide_up(n, columns) < 64) columns /= 2;
  return columns;
}

// Of few rows, whose time is that of reading a packed weight: one task a thread, since the reading starts anew with
// each (d = 256, f = 704 in L3, two threads: a step's products 168 µs, in tasks of 64 columns 183).
constexpr int64_t kFewRows = 16;

// Tasks of a result, down × across. Neighbours share rows of A where all of B stays in L2, else columns of B.
constexpr int64_t kResidentBytes = 1 << 20;
struct TaskGrid {
  int64_t down, across;
  bool rows_first;
  int64_t row(int64_t task) const { return rows_first ? task / across : task % down; }
  int64_t column(int64_t task) const { return rows_first ? task % across : task / down; }
};

// ---- what becomes of a block of sums ------------------------------------------------------------------------------

// Where elements lie; data may be nullptr.
struct Elements {
  void* data;
  DType dtype;
  explicit Elements(const View& view) : data(view.data), dtype(view.dtype) {}
};

// y = sums + bias? + residual?, rounded to y's dtype.
struct Epilogue {
  Elements bias, residual, y;
  int64_t n;  // columns of y

  Epilogue(const In& bias_, const In& residual_, const Out& y_)
      : bias(bias_), residual(residual_), y(y_), n(last_dimension(y_)) {}
};

// Whether the sums can be y itself.
static bool stores_sums(const Epilogue& epilogue) {
  return epilogue.y.dtype == DType::f32 && !epilogue.bias.data && !epilogue.residual.data;
}

template <class Bias, class Residual, class Y>
static void finish_row(const float* sums, const Bias* bias, const Residual* residual, Y* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kWidth) {
    int64_t left = n - i;
    Vec sum = load(sums + i);
    if (left >= kWidth) {
      if (bias) sum = add(sum, load(bias + i));
      if (residual) sum = add(sum, load(residual + i));
      store(y + i, sum);
    } else {
      if (bias) sum = add(sum, load_n(bias + i, left));
      if (residual) sum = add(sum, load_n(residual + i, left));
      store_n(y + i, sum, left);
    }
  }
}

// body(pointer to the element at `offset`), of type float or bf16; nullptr when there are none.
template <class Body>
static void with_pointer(const Elements& elements, int64_t offset, Body body) {
  if (elements.dtype == DType::bf16)
    body(elements.data ? static_cast<bf16*>(elements.data) + offset : nullptr);
  else
    body(elements.data ? static_cast<float*>(elements.data) + offset : nullptr);
}

// Rows × columns at (row, column) of y from sums with `stride` between rows.
static void finish_block(const float* sums, int64_t stride, const Epilogue& epilogue, int64_t row, int64_t rows,
                         int64_t column, int64_t columns) {
  int64_t n = epilogue.n;
  with_pointer(epilogue.bias, column, [&](auto* bias) {
    with_pointer(epilogue.residual, row * n + column, [&](auto* residual) {
      with_pointer(epilogue.y, row * n + column, [&](auto* y) {
        for (int64_t r = 0; r < rows; r++)
          finish_row(sums + r * stride, bias, residual ? residual + r * n : nullptr, y + r * n, columns);
      });
    });
  });
}

// ---- rows times a weight --------------------------------------------------------------------------------------------

// y (m×n) = a (m×k, its rows side by side)·b. b is packed already, or is packed on the way: whole in a phase of its own
// where several tasks use each column, else by the task that needs it.
struct RowProduct {
  DType dtype;
  const void* a;
  Matrix b;            // k×n
  const void* packed;  // or nullptr
  int64_t m;
  bool accumulate;  // onto y; for sums that are y
};

static bool packs_first(const RowProduct& product) { return !product.packed && product.m > kTaskRows; }
static bool packs_by_task(const RowProduct& product) { return !product.packed && product.m <= kTaskRows; }

// Bytes of workspace for all, and for each worker: its own packed columns and its block of sums.
struct RowWorkspace {
  int64_t packed, worker_packed, worker_sums;
};

static bool of_few_rows(const RowProduct& product) { return product.packed && product.m <= kFewRows; }

static int64_t task_columns(const RowProduct& product, int threads) {
  int64_t n = product.b.columns;
  return of_few_rows(product) ? share_columns(n, threads) : task_columns(product.m, n);
}

static RowWorkspace row_workspace(const RowProduct& product, const Epilogue& epilogue, int threads) {
  int64_t k = product.b.rows, n = product.b.columns, columns = task_columns(product, threads);
  RowWorkspace bytes = {};
  if (packs_first(product)) bytes.packed = packed_bytes(product.dtype, k, n);
  if (packs_by_task(product)) bytes.worker_packed = packed_bytes(product.dtype, k, smaller(columns, n));
  if (!stores_sums(epilogue)) bytes.worker_sums = smaller(kTaskRows, product.m) * columns * 4;
  return bytes;
}

static size_t workspace_bytes(const RowProduct& product, const Epilogue& epilogue, int threads) {
  RowWorkspace bytes = row_workspace(product, epilogue, threads);
  return bytes.packed + threads * (bytes.worker_packed + bytes.worker_sums);
}

static void pack_all(const Call& call, const Matrix& b, void* packed) {
  parallel_for(call, divide_up(b.columns, kPackColumns), [&](int64_t task, int) {
    pack_b(b, task * kPackColumns, smaller((task + 1) * kPackColumns, b.columns), packed);
  });
}

// Columns [first, first + count) of a matrix as one of its own.
static Matrix columns_of(const Matrix& b, int64_t first, int64_t count) {
  int64_t step = (b.transposed ? b.stride : 1) * bytes_per_element(b.dtype);
  return {static_cast<const char*>(b.data) + first * step, b.dtype, b.rows, count, b.stride, b.transposed};
}

// ---- few rows -------------------------------------------------------------------------------------------------------

// All that a task reads of its arguments, side by side: what the caller has just written travels line by line to the
// other threads, each of which waits for it.
struct FewRows {
  const void *a, *packed;  // (m,k), (k,n)
  char* sums;              // (m,width) per worker; nullptr where y takes them
  int64_t m, k, width;     // width: columns of a task
  Epilogue epilogue;
  DType dtype;
  bool accumulate;
};

// Asks for lines that another core has written all together, rather than meet them one after the other.
static void fetch(const void* first, int64_t bytes) {
  for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(static_cast<const char*>(first) + b);
}

static void multiply_columns(const FewRows& work, int64_t column, int worker) {
  int64_t m = work.m, n = work.epilogue.n, k = work.k, columns = smaller(work.width, n - column);
  if (worker > 0) fetch(work.a, m * k * bytes_per_element(work.dtype));
  const void* panel = packed_panel(work.dtype, work.packed, k, column);
  if (!work.sums) {
    float* y = static_cast<float*>(work.epilogue.y.data) + column;
    return gemm_block(work.dtype, work.a, k, panel, m, columns, k, y, n, work.accumulate);
  }
  float* sums = reinterpret_cast<float*>(work.sums) + worker * m * work.width;
  gemm_block(work.dtype, work.a, k, panel, m, columns, k, sums, work.width, false);
  finish_block(sums, work.width, work.epilogue, 0, m, column, columns);
}

static void multiply_few_rows(const Call& call, const RowProduct& product, const Epilogue& epilogue) {
  int64_t n = product.b.columns, width = share_columns(n, call.parallel ? call.parallel->threads : 1);
  char* sums = stores_sums(epilogue) ? nullptr : static_cast<char*>(call.workspace);
  const FewRows work = {product.a, product.packed, sums,          product.m,         product.b.rows,
                        width,     epilogue,       product.dtype, product.accumulate};
  parallel_for(call, divide_up(n, width),
               [work](int64_t task, int worker) { multiply_columns(work, task * work.width, worker); });
}

static void multiply_rows(const Call& call, const RowProduct& product, const Epilogue& epilogue) {
  if (of_few_rows(product)) return multiply_few_rows(call, product, epilogue);
  int64_t m = product.m, k = product.b.rows, n = product.b.columns;
  int threads = call.parallel ? call.parallel->threads : 1;
  int64_t height = smaller(kTaskRows, m), width = task_columns(product, threads);
  RowWorkspace bytes = row_workspace(product, epilogue, threads);
  char* workspace = static_cast<char*>(call.workspace);
  const void* packed = product.packed;
  if (packs_first(product)) {
    pack_all(call, product.b, workspace);
    packed = workspace;
  }
  TaskGrid grid = {divide_up(m, kTaskRows), divide_up(n, width), packed_bytes(product.dtype, k, n) <= kResidentBytes};
  parallel_for(call, grid.down * grid.across, [&](int64_t task, int worker) {
    int64_t row = grid.row(task) * kTaskRows, column = grid.column(task) * width;
    int64_t rows = smaller(height, m - row), columns = smaller(width, n - column);
    char* own = workspace + bytes.packed + worker * (bytes.worker_packed + bytes.worker_sums);
    const void* panel = own;
    if (packed)
      panel = packed_panel(product.dtype, packed, k, column);
    else
      pack_b(columns_of(product.b, column, columns), 0, columns, own);
    const char* a = static_cast<const char*>(product.a) + row * k * bytes_per_element(product.dtype);
    if (stores_sums(epilogue)) {
      float* y = static_cast<float*>(epilogue.y.data) + row * n + column;
      return gemm_block(product.dtype, a, k, panel, rows, columns, k, y, n, product.accumulate);
    }
    float* sums = reinterpret_cast<float*>(own + bytes.worker_packed);
    gemm_block(product.dtype, a, k, panel, rows, columns, k, sums, width, false);
    finish_block(sums, width, epilogue, row, rows, column, columns);
  });
}

static RowProduct linear_product(In x, In weight, Out y) {
  int64_t n = last_dimension(y), k = last_dimension(x);
  Matrix b = {weight.data, x.dtype, k, n, k, true};
  return {x.dtype, x.data, b, weight.layout == Layout::packed ? weight.data : nullptr, row_count(x), false};
}

static void linear(const Call& call, In x, In weight, In bias, In residual, Out y) {
  multiply_rows(call, linear_product(x, weight, y), {bias, residual, y});
}

static size_t linear_workspace(const Machine& machine, In x, In weight, In bias, In residual, Out y) {
  return workspace_bytes(linear_product(x, weight, y), {bias, residual, y}, machine.threads);
}

// dx in bf16 is summed in a block, then added to and rounded once; dx in f32 takes the sums itself.
static Epilogue input_epilogue(const InOut& dx, bool accumulate) {
  bool reads = accumulate && dx.dtype != DType::f32;
  return {{}, reads ? In{dx} : In{}, Out{dx}};
}

static RowProduct input_product(In dy, In weight, InOut dx, bool accumulate) {
  int64_t n = last_dimension(dy), k = last_dimension(dx);
  return {dy.dtype, dy.data, {weight.data, dy.dtype, n, k, k, false}, nullptr, row_count(dy), accumulate};
}

static void linear_backward_input(const Call& call, In dy, In weight, InOut dx, bool accumulate) {
  multiply_rows(call, input_product(dy, weight, dx, accumulate), input_epilogue(dx, accumulate));
}

static size_t linear_backward_input_workspace(const Machine& machine, In dy, In weight, InOut dx, bool accumulate) {
  return workspace_bytes(input_product(dy, weight, dx, accumulate), input_epilogue(dx, accumulate), machine.threads);
}

// ---- gradient of the weight -----------------------------------------------------------------------------------------

// dweight (n×k) = dyᵀ·x, summed over slabs of rows, in order: within a slab, dyᵀ is laid along the rows and x is
// packed.
constexpr int64_t kSlabRows = 512;  // a multiple of every step of k

struct SlabWorkspace {
  int64_t stride;  // elements between rows of dyᵀ
  int64_t transposed, packed;
};

static SlabWorkspace slab_workspace(const In& dy, const In& x) {
  int64_t rows = smaller(kSlabRows, row_count(dy)), stride = round_up(rows, 32) + 32;
  int64_t transposed = round_up(last_dimension(dy) * stride * bytes_per_element(dy.dtype), 64);
  return {stride, transposed, packed_bytes(dy.dtype, rows, last_dimension(x))};
}

static size_t linear_backward_weight_workspace(const Machine&, In dy, In x, InOut, InOut, bool) {
  SlabWorkspace bytes = slab_workspace(dy, x);
  return bytes.transposed + bytes.packed;
}

// sums[0, count) (+)= the rows of dy, one after the other.
template <class T>
static void sum_columns(const T* dy, int64_t stride, int64_t rows, float* sums, int64_t count, bool accumulate) {
  for (int64_t i = 0; i < count; i += kWidth) {
    int64_t left = count - i;
    Vec sum = !accumulate ? zero() : left >= kWidth ? load(sums + i) : load_n(sums + i, left);
    const T* from = dy + i;
    if (left >= kWidth) {
      for (int64_t r = 0; r < rows; r++) sum = add(sum, load(from + r * stride));
      store(sums + i, sum);
    } else {
      for (int64_t r = 0; r < rows; r++) sum = add(sum, load_n(from + r * stride, left));
      store_n(sums + i, sum, left);
    }
  }
}

static void sum_bias(const In& dy, int64_t row, int64_t rows, int64_t column, int64_t columns, const InOut& dbias,
                     bool accumulate) {
  int64_t n = last_dimension(dy);
  with_pointer(Elements(dy), row * n + column, [&](auto* gradient) {
    sum_columns(gradient, n, rows, static_cast<float*>(dbias.data) + column, columns, accumulate);
  });
}

static void linear_backward_weight(const Call& call, In dy, In x, InOut dweight, InOut dbias, bool accumulate) {
  int64_t m = row_count(dy), n = last_dimension(dy), k = last_dimension(x), element = bytes_per_element(dy.dtype);
  SlabWorkspace bytes = slab_workspace(dy, x);
  char* transposed = static_cast<char*>(call.workspace);
  char* packed = transposed + bytes.transposed;
  int64_t transpose_tasks = divide_up(n, kPackColumns), width = task_columns(n, k);
  int64_t row = 0;
  do {  // at least once: no rows give zeros
    int64_t rows = smaller(kSlabRows, m - row);
    bool onto = accumulate || row > 0;
    const char* gradient = static_cast<const char*>(dy.data) + row * n * element;
    Matrix b = {static_cast<const char*>(x.data) + row * k * element, x.dtype, rows, k, k, false};
    parallel_for(call, transpose_tasks + divide_up(k, kPackColumns), [&](int64_t task, int) {
      if (task >= transpose_tasks) {
        int64_t column = (task - transpose_tasks) * kPackColumns;
        return pack_b(b, column, smaller(column + kPackColumns, k), packed);
      }
      int64_t column = task * kPackColumns, columns = smaller(kPackColumns, n - column);
      transpose(dy.dtype, gradient + column * element, n, rows, columns, transposed + column * bytes.stride * element,
                bytes.stride);
      if (given(dbias)) sum_bias(dy, row, rows, column, columns, dbias, onto);
    });
    int64_t down = divide_up(n, kTaskRows);
    parallel_for(call, down * divide_up(k, width), [&](int64_t task, int) {
      int64_t first = task % down * kTaskRows, column = task / down * width;
      float* to = static_cast<float*>(dweight.data) + first * k + column;
      gemm_block(dy.dtype, transposed + first * bytes.stride * element, bytes.stride,
                 packed_panel(dy.dtype, packed, rows, column), smaller(kTaskRows, n - first),
                 smaller(width, k - column), rows, to, k, onto);
    });
    row += rows;
  } while (row < m);
}

// ---- packing ahead --------------------------------------------------------------------------------------------------

int64_t packed_weight_bytes(DType dtype, int64_t n, int64_t k) {
  if (dtype == DType::f64) return n * k * bytes_per_element(dtype);  // the oracle's, which is row-major
  return packed_bytes(dtype, k, n);
}

static void pack_weight(const Call& call, In weight, Out packed) {
  int64_t n = row_count(weight), k = last_dimension(weight);
  pack_all(call, {weight.data, weight.dtype, k, n, k, true}, packed.data);
}

void fill_linear(Kernels& table) {
  table.linear = {linear, linear_workspace};
  table.linear_backward_input = {linear_backward_input, linear_backward_input_workspace};
  table.linear_backward_weight = {linear_backward_weight, linear_backward_weight_workspace};
  table.pack_weight = {pack_weight};
}

}  // namespace FORETOKEN_LEVEL_NAMESPACE
