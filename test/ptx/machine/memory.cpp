#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <sstream>

namespace foretoken::machine {

namespace {

constexpr uint64_t kPage = Memory::kPageBytes;
constexpr uint64_t kPageBitBytes = kPage / 8;

uint8_t* reserve(uint64_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return static_cast<uint8_t*>(p);
}

uint64_t low_bits(uint32_t count) { return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }

// `count` <= 64 bits of a bitmap from bit `first` on; the bitmap has eight bytes of padding.
uint64_t get_bits(const uint8_t* bitmap, uint64_t first, uint32_t count) {
  if (first % 64 + count <= 64) {
    uint64_t word;
    std::memcpy(&word, bitmap + first / 64 * 8, 8);
    return word >> (first % 64) & low_bits(count);
  }
  unsigned __int128 window = 0;
  std::memcpy(&window, bitmap + first / 8, 9);
  return static_cast<uint64_t>(window >> (first % 8)) & low_bits(count);
}

void set_bits(uint8_t* bitmap, uint64_t first, uint32_t count, uint64_t bits) {
  unsigned __int128 window = 0;
  std::memcpy(&window, bitmap + first / 8, 9);
  const unsigned __int128 field = static_cast<unsigned __int128>(low_bits(count)) << (first % 8);
  window = (window & ~field) | ((static_cast<unsigned __int128>(bits) << (first % 8)) & field);
  std::memcpy(bitmap + first / 8, &window, 9);
}

}  // namespace

Memory::Memory(uint64_t base, uint64_t bytes)
    : base_(base), size_(bytes), reserved_((bytes + kPage - 1) / kPage * kPage) {
  cells_ = reserve(reserved_ + 64);
  undefined_ = reserve(reserved_ / 8 + 64);
  inaccessible_ = reserve(reserved_ / 8 + 64);
  pages_ = reserve(reserved_ / kPage + 64);
}

Memory::~Memory() {
  munmap(cells_, reserved_ + 64);
  munmap(undefined_, reserved_ / 8 + 64);
  munmap(inaccessible_, reserved_ / 8 + 64);
  munmap(pages_, reserved_ / kPage + 64);
}

void Memory::reuse(uint64_t base, uint64_t bytes) {
  std::memset(pages_, kUntouched, (size_ + kPage - 1) / kPage);
  base_ = base;
  size_ = bytes;
  allocations_.clear();
  freed_.clear();
  forbidden_.clear();
}

void Memory::spell_out(uint64_t page) {
  const uint8_t state = pages_[page];
  if (state & (kSomeInaccessible | kSomeUndefined)) return;
  std::memset(inaccessible_ + page * kPageBitBytes, state == kUntouched ? 0xff : 0, kPageBitBytes);
  std::memset(undefined_ + page * kPageBitBytes, state == kAllUndefined ? 0xff : 0, kPageBitBytes);
}

void Memory::settle(uint64_t page) {
  uint64_t undefined[kPageBitBytes / 8], inaccessible[kPageBitBytes / 8];
  std::memcpy(undefined, undefined_ + page * kPageBitBytes, kPageBitBytes);
  std::memcpy(inaccessible, inaccessible_ + page * kPageBitBytes, kPageBitBytes);
  uint8_t state = 0;
  for (uint64_t word : inaccessible)
    if (word) state |= kSomeInaccessible;
  for (uint64_t word : undefined)
    if (word) state |= kSomeUndefined;
  pages_[page] = state ? state : kClean;
}

uint64_t Memory::inaccessible_exact(uint64_t address, uint32_t bytes) const {
  if (address < base_ || address - base_ > size_ || size_ - (address - base_) < bytes) return low_bits(bytes);
  uint64_t result = 0;
  for (uint32_t done = 0; done < bytes;) {
    const uint64_t offset = address - base_ + done;
    const uint32_t here = static_cast<uint32_t>(std::min<uint64_t>(bytes - done, kPage - offset % kPage));
    const uint8_t state = pages_[offset / kPage];
    if (state == kUntouched) result |= low_bits(here) << done;
    if (state & (kSomeInaccessible | kSomeUndefined)) result |= get_bits(inaccessible_, offset, here) << done;
    done += here;
  }
  return result;
}

uint64_t Memory::undefined_exact(uint64_t address, uint32_t bytes) const {
  uint64_t result = 0;
  for (uint32_t done = 0; done < bytes;) {
    const uint64_t offset = address - base_ + done;
    const uint32_t here = static_cast<uint32_t>(std::min<uint64_t>(bytes - done, kPage - offset % kPage));
    const uint8_t state = pages_[offset / kPage];
    if (state & kAllUndefined) result |= low_bits(here) << done;
    if (state & (kSomeInaccessible | kSomeUndefined)) result |= get_bits(undefined_, offset, here) << done;
    done += here;
  }
  return result;
}

// The bits of a stretch that lies in one word of the bitmap, and with it in one page.
void Memory::set_undefined_word(uint64_t offset, uint32_t bytes, uint64_t undefined_bits) {
  const uint64_t page = offset / kPage;
  const uint8_t state = pages_[page];
  if (state == kClean && undefined_bits == 0) return;
  spell_out(page);
  uint8_t* at = undefined_ + offset / 64 * 8;
  const uint64_t field = low_bits(bytes) << (offset % 64);
  uint64_t word;
  std::memcpy(&word, at, 8);
  word = (word & ~field) | (undefined_bits << (offset % 64) & field);
  std::memcpy(at, &word, 8);
  // A page that fills up piece by piece is looked at as a whole only when another of its words is full.
  if (word != 0)
    pages_[page] = kSomeUndefined | (state & kSomeInaccessible);
  else
    settle(page);
}

void Memory::set_undefined_exact(uint64_t address, uint32_t bytes, uint64_t undefined_bits) {
  for (uint32_t done = 0; done < bytes;) {
    const uint64_t offset = address - base_ + done;
    const uint32_t here = static_cast<uint32_t>(std::min<uint64_t>(bytes - done, 64 - offset % 64));
    set_undefined_word(offset, here, undefined_bits >> done & low_bits(here));
    done += here;
  }
}

void Memory::mark(uint64_t address, uint64_t bytes, bool undefined) {
  const uint64_t begin = address - base_, end = begin + bytes;
  for (uint64_t offset = begin; offset < end;) {
    const uint64_t page = offset / kPage;
    const uint64_t here = std::min(end, (page + 1) * kPage) - offset;
    if (here == kPage && !(pages_[page] & kSomeInaccessible)) {
      pages_[page] = undefined ? kAllUndefined : kClean;
    } else if (!(pages_[page] == kClean && !undefined) && !(pages_[page] == kAllUndefined && undefined)) {
      spell_out(page);
      for (uint64_t done = 0; done < here; done += 64)
        set_bits(undefined_, offset + done, static_cast<uint32_t>(std::min<uint64_t>(64, here - done)),
                 undefined ? ~uint64_t{0} : 0);
      settle(page);
    }
    offset += here;
  }
}

void Memory::mark_defined(uint64_t address, uint64_t bytes) { mark(address, bytes, false); }
void Memory::mark_undefined(uint64_t address, uint64_t bytes) { mark(address, bytes, true); }

void Memory::allocate(uint64_t address, uint64_t bytes, std::string name) {
  const uint64_t begin = address - base_, end = begin + bytes;
  for (uint64_t offset = begin; offset < end;) {
    const uint64_t page = offset / kPage;
    const uint64_t here = std::min(end, (page + 1) * kPage) - offset;
    if (here == kPage) {
      pages_[page] = kAllUndefined;
    } else {
      spell_out(page);
      for (uint64_t done = 0; done < here; done += 64) {
        const uint32_t count = static_cast<uint32_t>(std::min<uint64_t>(64, here - done));
        set_bits(undefined_, offset + done, count, ~uint64_t{0});
        set_bits(inaccessible_, offset + done, count, 0);
      }
      settle(page);
    }
    offset += here;
  }
  // Freed ranges never overlap each other, so only the last one that starts before this one can reach into it.
  auto it = freed_.upper_bound(address);
  if (it != freed_.begin() && std::prev(it)->first + std::prev(it)->second.bytes > address) --it;
  while (it != freed_.end() && it->first < address + bytes) it = freed_.erase(it);
  allocations_[address] = {bytes, std::move(name)};
}

void Memory::release(uint64_t address) {
  auto it = allocations_.find(address);
  if (it == allocations_.end()) return;
  const uint64_t begin = address - base_, end = begin + it->second.bytes;
  for (uint64_t offset = begin; offset < end;) {
    const uint64_t page = offset / kPage;
    const uint64_t here = std::min(end, (page + 1) * kPage) - offset;
    if (here == kPage) {
      pages_[page] = kUntouched;
    } else {
      spell_out(page);
      for (uint64_t done = 0; done < here; done += 64) {
        const uint32_t count = static_cast<uint32_t>(std::min<uint64_t>(64, here - done));
        set_bits(undefined_, offset + done, count, 0);
        set_bits(inaccessible_, offset + done, count, ~uint64_t{0});
      }
      settle(page);
    }
    offset += here;
  }
  forbidden_.erase(forbidden_.lower_bound(address), forbidden_.lower_bound(base_ + end));
  freed_[address] = it->second;
  allocations_.erase(it);
}

void Memory::forbid(uint64_t address, uint64_t bytes) {
  for (uint64_t done = 0; done < bytes;) {
    const uint64_t offset = address - base_ + done, page = offset / kPage;
    const uint32_t here = static_cast<uint32_t>(std::min({bytes - done, uint64_t{64}, (page + 1) * kPage - offset}));
    spell_out(page);
    set_bits(undefined_, offset, here, 0);
    set_bits(inaccessible_, offset, here, ~uint64_t{0});
    settle(page);
    done += here;
  }
  forbidden_[address] = bytes;
}

uint64_t Memory::first_inaccessible(uint64_t address, uint64_t bytes) const {
  if (address < base_ || address - base_ > size_ || size_ - (address - base_) < bytes) return address;
  for (uint64_t at = address; at < address + bytes;) {
    const uint64_t page_end = base_ + ((at - base_) / kPage + 1) * kPage;
    const uint64_t end = std::min(address + bytes, page_end);
    const uint8_t state = pages_[(at - base_) / kPage];
    if (state == kUntouched) return at;
    if (!(state & kSomeInaccessible)) {
      at = end;
      continue;
    }
    const uint32_t here = static_cast<uint32_t>(std::min<uint64_t>(64, end - at));
    if (const uint64_t bits = inaccessible_exact(at, here)) return at + __builtin_ctzll(bits);
    at += here;
  }
  return address + bytes;
}

uint64_t Memory::first_undefined(uint64_t address, uint64_t bytes) const {
  for (uint64_t at = address; at < address + bytes;) {
    const uint64_t page_end = base_ + ((at - base_) / kPage + 1) * kPage;
    const uint64_t end = std::min(address + bytes, page_end);
    if (!(pages_[(at - base_) / kPage] & (kSomeUndefined | kAllUndefined))) {
      at = end;
      continue;
    }
    const uint32_t here = static_cast<uint32_t>(std::min<uint64_t>(64, end - at));
    if (const uint64_t bits = undefined_exact(at, here)) return at + __builtin_ctzll(bits);
    at += here;
  }
  return address + bytes;
}

void Memory::copy_definedness(uint64_t destination, const Memory& from, uint64_t source, uint64_t bytes) {
  for (uint64_t done = 0; done < bytes;) {
    const uint64_t next = from.first_undefined(source + done, bytes - done) - source;
    if (next > done) mark_defined(destination + done, next - done);
    done = next;
    if (done == bytes) break;
    const uint32_t here = static_cast<uint32_t>(std::min<uint64_t>(64, bytes - done));
    set_undefined_exact(destination + done, here, from.undefined_exact(source + done, here));
    done += here;
  }
}

std::string Memory::describe(uint64_t address) const {
  std::ostringstream text;
  auto tell = [&](const char* where, uint64_t distance, const std::pair<const uint64_t, Allocation>& a,
                  const char* of) {
    text << distance << " bytes " << where << (a.second.name.empty() ? "" : " " + a.second.name) << " the " << of
         << " of " << a.second.bytes << " bytes at 0x" << std::hex << a.first << std::dec;
  };
  auto inside = [&](const std::map<uint64_t, Allocation>& map) {
    auto it = map.upper_bound(address);
    if (it == map.begin()) return map.end();
    --it;
    return address - it->first < it->second.bytes ? it : map.end();
  };
  if (auto it = inside(allocations_); it != allocations_.end()) {
    if (auto gap = forbidden_.upper_bound(address); gap != forbidden_.begin())
      if (--gap; address - gap->first < gap->second)
        text << "between two parts of a workspace, " << address - gap->first << " bytes past the first, ";
    tell("into", address - it->first, *it, "allocation");
    return text.str();
  }
  if (auto it = inside(freed_); it != freed_.end()) {
    tell("into", address - it->first, *it, "freed allocation");
    return text.str();
  }
  auto after = allocations_.lower_bound(address);
  const bool has_before = after != allocations_.begin();
  auto before = has_before ? std::prev(after) : after;
  if (has_before) {
    const uint64_t past = address - before->first - before->second.bytes;
    if (after == allocations_.end() || past <= after->first - address) {
      tell("past", past, *before, "allocation");
      return text.str();
    }
  }
  if (after == allocations_.end()) return "there is no allocation";
  tell("before", after->first - address, *after, "allocation");
  return text.str();
}

}  // namespace foretoken::machine
