#include "arena.h"

namespace foretoken {

Arena::Arena(int64_t bytes) {
  const BlockId whole = new_block();
  blocks_[whole].bytes = bytes;
  set_free(whole);
}

BlockId Arena::new_block() {
  if (unused_.empty()) {
    blocks_.emplace_back();
    return static_cast<BlockId>(blocks_.size() - 1);
  }
  const BlockId id = unused_.back();
  unused_.pop_back();
  blocks_[id] = {};
  return id;
}

void Arena::set_free(BlockId id) {
  blocks_[id].free = true;
  free_.insert(key(id));
}

BlockId Arena::take(int64_t bytes, Owner from) {
  const auto best = free_.lower_bound({from, bytes, 0, 0});
  if (best == free_.end() || std::get<0>(*best) != from) return kNone;
  const BlockId id = std::get<3>(*best);
  free_.erase(best);
  blocks_[id].free = false;
  if (blocks_[id].bytes == bytes) return id;

  const BlockId rest = new_block();  // may move blocks_
  Block& block = blocks_[id];
  blocks_[rest] = {.offset = block.offset + bytes,
                   .bytes = block.bytes - bytes,
                   .owner = from,
                   .free = false,
                   .previous = id,
                   .next = block.next};
  if (block.next != kNone) blocks_[block.next].previous = rest;
  block.bytes = bytes;
  block.next = rest;
  set_free(rest);
  return id;
}

// The next block must be out of the index of free ones.
void Arena::absorb_next(BlockId id) {
  Block& block = blocks_[id];
  const BlockId gone = block.next;
  block.bytes += blocks_[gone].bytes;
  block.next = blocks_[gone].next;
  if (block.next != kNone) blocks_[block.next].previous = id;
  unused_.push_back(gone);
}

void Arena::give_back(BlockId id) {
  const auto joins = [&](BlockId neighbour) {
    return neighbour != kNone && blocks_[neighbour].free && blocks_[neighbour].owner == blocks_[id].owner;
  };
  if (const BlockId next = blocks_[id].next; joins(next)) {
    free_.erase(key(next));
    absorb_next(id);
  }
  if (const BlockId previous = blocks_[id].previous; joins(previous)) {
    free_.erase(key(previous));
    absorb_next(previous);
    id = previous;
  }
  set_free(id);
}

int64_t Arena::release(Owner owner) {
  std::vector<BlockId> freed;
  for (auto at = free_.lower_bound({owner, 0, 0, 0}); at != free_.end() && std::get<0>(*at) == owner;) {
    freed.push_back(std::get<3>(*at));
    at = free_.erase(at);
  }
  int64_t bytes = 0;
  for (const BlockId id : freed) {
    blocks_[id].free = false;
    bytes += blocks_[id].bytes;
  }
  for (Block& block : blocks_)
    if (block.owner == owner) block.owner = 0;
  for (const BlockId id : freed) give_back(id);
  return bytes;
}

}  // namespace foretoken
