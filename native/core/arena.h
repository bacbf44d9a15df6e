// Placement in one range of addresses: best fit, split and coalesced. Knows offsets, never memory.
#pragma once
#include <cstdint>
#include <set>
#include <tuple>
#include <vector>

namespace foretoken {

using BlockId = uint32_t;

class Arena {
 public:
  // Who may reuse a block once it is free: everyone (0), or a recording.
  using Owner = uint32_t;

  struct Block {
    int64_t offset = 0, bytes = 0;
    Owner owner = 0;
    bool free = false;
    BlockId previous = kNone, next = kNone;  // neighbours by address
  };
  static constexpr BlockId kNone = UINT32_MAX;

  explicit Arena(int64_t bytes);

  // A block of exactly these bytes from the owner's free ones, the smallest that fits and the lowest among equals;
  // kNone where there is none. `bytes` must be a multiple of the alignment the caller wants.
  BlockId take(int64_t bytes, Owner from);
  void give_back(BlockId id);

  // Hands a block to another owner.
  void transfer(BlockId id, Owner to) { blocks_[id].owner = to; }
  // All blocks of an owner become everyone's. Returns the bytes of those that are free.
  int64_t release(Owner owner);

  const Block& operator[](BlockId id) const { return blocks_[id]; }

  // Calls visit(block) for everyone's free blocks, largest first, until it returns false.
  template <class Visit>
  void visit_free(Visit visit) const {
    auto end = free_.lower_bound({1, 0, 0, 0});
    while (end != free_.begin())
      if (!visit(blocks_[std::get<3>(*--end)])) return;
  }

 private:
  using Key = std::tuple<Owner, int64_t, int64_t, BlockId>;  // owner, bytes, offset

  Key key(BlockId id) const { return {blocks_[id].owner, blocks_[id].bytes, blocks_[id].offset, id}; }
  BlockId new_block();
  void set_free(BlockId id);
  void absorb_next(BlockId id);

  std::vector<Block> blocks_;
  std::vector<BlockId> unused_;
  std::set<Key> free_;
};

}  // namespace foretoken
