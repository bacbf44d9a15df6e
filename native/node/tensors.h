// Tensors behind integer handles. Several tensors may share one storage: views of it.
#pragma once
#include <cstdint>
#include <vector>

#include "../core/allocator.h"
#include "../core/view.h"

namespace foretoken::node {

// Slot index in the low bits, generation above: exact in a double, and never 0. A slot's generation changes when its
// tensor is disposed, so an old handle is recognised, never followed.
using Handle = int64_t;
constexpr int kIndexBits = 22;
constexpr uint32_t kMostGenerations = 1u << 31;

using StorageId = uint32_t;

struct Storage {
  Allocator::Block block;
  uint32_t device = 0, references = 0;
  uint32_t recording = 0;  // 0, or the recording that it was allocated in
};

struct Tensor {
  View view;
  StorageId storage = 0;
  uint32_t device = 0;
  uint32_t generation = 1;
  bool live = false;
};

class Tensors {
 public:
  // nullptr: never was, or was disposed.
  Tensor* find(double handle) {
    if (!(handle > 0 && handle < 0x1p53)) return nullptr;
    const Handle bits = static_cast<Handle>(handle);
    const size_t index = bits & ((1 << kIndexBits) - 1);
    if (index >= slots_.size()) return nullptr;
    Tensor& tensor = slots_[index];
    return tensor.live && tensor.generation == static_cast<uint64_t>(bits >> kIndexBits) ? &tensor : nullptr;
  }

  Storage& storage(StorageId id) { return storages_[id]; }

  // References start at 0: `add` takes the first.
  StorageId add_storage(const Storage& storage) {
    if (unused_storages_.empty()) {
      storages_.push_back(storage);
      return static_cast<StorageId>(storages_.size() - 1);
    }
    const StorageId id = unused_storages_.back();
    unused_storages_.pop_back();
    storages_[id] = storage;
    return id;
  }
  void forget_storage(StorageId id) { unused_storages_.push_back(id); }

  // 0 when there are too many.
  Handle add(const View& view, StorageId storage) {
    size_t index = slots_.size();
    if (!unused_slots_.empty()) {
      index = unused_slots_.back();
      unused_slots_.pop_back();
    } else if (index < size_t{1} << kIndexBits) {
      slots_.emplace_back();
    } else {
      return 0;
    }
    Tensor& slot = slots_[index];
    slot.view = view;
    slot.storage = storage;
    slot.device = storages_[storage].device;
    slot.live = true;
    storages_[storage].references++;
    return static_cast<Handle>(slot.generation) << kIndexBits | static_cast<Handle>(index);
  }

  // The caller drops the reference to the storage.
  void remove(Tensor& tensor) {
    tensor.live = false;
    if (++tensor.generation < kMostGenerations) unused_slots_.push_back(static_cast<uint32_t>(&tensor - slots_.data()));
  }

  // A closed device's memory is gone at once: no storage of it is freed one by one.
  void remove_all(uint32_t device) {
    for (Tensor& tensor : slots_)
      if (tensor.live && tensor.device == device) {
        if (--storages_[tensor.storage].references == 0) forget_storage(tensor.storage);
        remove(tensor);
      }
  }

 private:
  std::vector<Tensor> slots_;
  std::vector<uint32_t> unused_slots_;
  std::vector<Storage> storages_;
  std::vector<StorageId> unused_storages_;
};

}  // namespace foretoken::node
