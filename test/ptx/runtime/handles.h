// Opaque handles: numbers that are never used twice and that no host code can dereference.
#pragma once
#include <cstdint>
#include <map>
#include <memory>

#include "error.h"

namespace foretoken::ptx::runtime {

template <class Handle, class Object>
class Handles {
 public:
  explicit Handles(uint64_t kind) : next_(0x5eed'0000'0000'0000 + (kind << 40)) {}

  Handle add(std::shared_ptr<Object> object) {
    next_ += 16;
    const auto handle = reinterpret_cast<Handle>(next_);
    objects_.emplace(handle, std::move(object));
    return handle;
  }
  // Throws "invalid resource handle" for one that was destroyed or never was.
  const std::shared_ptr<Object>& find(Handle handle) const {
    const auto found = objects_.find(handle);
    if (found == objects_.end())
      throw Error(cudaErrorInvalidResourceHandle, "a handle that was destroyed or never was");
    return found->second;
  }
  bool contains(Handle handle) const { return objects_.contains(handle); }
  std::shared_ptr<Object> take(Handle handle) {
    std::shared_ptr<Object> object = find(handle);
    objects_.erase(handle);
    return object;
  }
  const std::map<Handle, std::shared_ptr<Object>>& all() const { return objects_; }
  template <class Condition>
  void remove_if(Condition condition) {
    std::erase_if(objects_, [&](const auto& entry) { return condition(*entry.second); });
  }
  void clear() { objects_.clear(); }

 private:
  uint64_t next_;
  std::map<Handle, std::shared_ptr<Object>> objects_;
};

}  // namespace foretoken::ptx::runtime
