// The arguments of a call that is not a kernel's.
#pragma once
#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "environment.h"
#include "values.h"

namespace foretoken::node {

// The arguments of one call. lib/ has checked types and ranges; what can be stale is checked here.
class Arguments {
 public:
  static constexpr size_t kMost = 4 + kMaxRank;  // one too many is noticed

  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    void* data = nullptr;
    napi_get_cb_info(env, info, &count_, values_, nullptr, &data);
    environment_ = static_cast<Environment*>(data);
    count_ = std::min(count_, kMost);
  }

  napi_env env() const { return env_; }
  Environment& environment() const { return *environment_; }
  napi_value operator[](size_t i) const { return values_[i]; }
  double number(size_t i, double otherwise = 0) const { return to_number(env_, values_[i], otherwise); }
  std::string text(size_t i) const { return to_text(env_, values_[i]); }

  // nullptr: a JavaScript error is pending.
  Device* device(size_t i, const char* op) const {
    Device* found = environment_->device(static_cast<uint32_t>(number(i, -1)));
    if (!found)
      environment_->raise({.code = "DISPOSED", .op = op, .argument = "device", .text = "the device was disposed"});
    return found;
  }
  uint32_t device_id(size_t i) const { return static_cast<uint32_t>(number(i)); }

  // What a callback returns: a value, or the failure thrown.
  napi_value result(const Failure& failure, napi_value value = nullptr) const {
    return failure ? environment_->raise(failure) : value;
  }

  Tensor* tensor(size_t i, const char* op) const {
    Tensor* found = environment_->tensors().find(number(i));
    if (!found)
      environment_->raise({.code = "DISPOSED", .op = op, .argument = "tensor", .text = "the tensor was disposed"});
    return found;
  }

  // The numbers from argument `first` on are dimensions. nullopt: a JavaScript error is pending. Kernels multiply the
  // dimensions of the views they get without a check, in any order: so a 0 does not excuse the others.
  std::optional<View> shape(size_t first, DType dtype, const char* op) const {
    constexpr int64_t kMostElements = ((int64_t{1} << 53) - 1) / 8;
    View view;
    view.dtype = dtype;
    const size_t rank = count_ - first;
    int64_t elements = 1;
    bool fits = rank <= kMaxRank;
    for (size_t i = 0; fits && i < rank; i++) {
      const double dimension = number(first + i, -1);
      const bool whole =
          dimension >= 0 && dimension <= static_cast<double>(kMostElements) && dimension == std::trunc(dimension);
      view.shape[i] = whole ? static_cast<int64_t>(dimension) : 0;
      const bool overflows = __builtin_mul_overflow(elements, std::max<int64_t>(view.shape[i], 1), &elements);
      fits = whole && !overflows && elements <= kMostElements;
    }
    view.rank = static_cast<int8_t>(rank);
    if (fits) return view;
    environment_->raise({.code = "BAD_ARGUMENT",
                         .op = op,
                         .argument = "shape",
                         .wanted = "up to 4 whole numbers, 0 or more, with a product below 2^50"});
    return std::nullopt;
  }

 private:
  napi_env env_;
  Environment* environment_ = nullptr;
  napi_value values_[kMost];
  size_t count_ = kMost;
};

}  // namespace foretoken::node
