// Bytes with a shadow: which of them may be touched, and which hold a defined value.
//
// Three parallel maps over one range of addresses: the cells; a bit per byte "undefined"; a bit per byte "no access"
// (outside of every allocation); and over them one state byte per page of 256 bytes, which tells when all of the page
// is accessible and defined, so that the normal access costs one look. All maps are reserved lazily by the
// operating system: a range of a terabyte costs what is touched.
#pragma once
#include <cstdint>
#include <cstring>
#include <map>
#include <string>

namespace foretoken::machine {

class Memory {
 public:
  static constexpr uint32_t kPageBytes = 256;
  // A page's state: untouched, clean, or a combination of the others.
  static constexpr uint8_t kUntouched = 0;         // never allocated, or all of it freed; the bits are not kept up
  static constexpr uint8_t kClean = 1;             // all accessible and defined; the bits are not kept up
  static constexpr uint8_t kSomeInaccessible = 2;  // look at the bits
  static constexpr uint8_t kSomeUndefined = 4;     // look at the bits
  static constexpr uint8_t kAllUndefined = 8;      // accessible, never written; the bits are not kept up

  // Addresses [base, base + bytes): nothing accessible. The cells live elsewhere: the addresses themselves stay
  // unmapped.
  Memory(uint64_t base, uint64_t bytes);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // The same maps for other addresses, everything inaccessible again: memory that is used over and over. bytes at most
  // those of the constructor.
  void reuse(uint64_t base, uint64_t bytes);

  uint64_t base() const { return base_; }
  uint64_t size() const { return size_; }
  bool contains(uint64_t address) const { return address - base_ < size_; }

  // [address, address + bytes) becomes accessible with undefined contents. What lies between allocations is a redzone.
  void allocate(uint64_t address, uint64_t bytes, std::string name = {});
  void release(uint64_t address);  // of an allocation's first byte; any later access is use after free
  // No access to a stretch inside an allocation, until that is released: what lies between parts of a workspace.
  void forbid(uint64_t address, uint64_t bytes);
  bool is_allocated(uint64_t address) const { return allocations_.count(address) != 0; }

  // Where the byte at this address is kept. [address, address + n) is contiguous here too.
  uint8_t* cell(uint64_t address) const { return cells_ + (address - base_); }

  // Bit i of the result: byte address + i may not be touched / is undefined. At most 64 bytes.
  uint64_t inaccessible(uint64_t address, uint32_t bytes) const {
    return clean(address, bytes) ? 0 : inaccessible_exact(address, bytes);
  }
  uint64_t undefined(uint64_t address, uint32_t bytes) const {
    return clean(address, bytes) ? 0 : undefined_exact(address, bytes);
  }
  // True if every byte is accessible. bytes <= kPageBytes.
  bool accessible(uint64_t address, uint32_t bytes) const {
    const uint8_t first = pages_[(address - base_) / kPageBytes],
                  last = pages_[(address + bytes - 1 - base_) / kPageBytes];
    if (first != kUntouched && last != kUntouched && !((first | last) & kSomeInaccessible)) [[likely]]
      return true;
    return inaccessible_exact(address, bytes) == 0;
  }
  // True if every byte is accessible and defined. bytes <= kPageBytes.
  bool clean(uint64_t address, uint32_t bytes) const {
    return pages_[(address - base_) / kPageBytes] == kClean &&
           pages_[(address + bytes - 1 - base_) / kPageBytes] == kClean;
  }
  // The normal access, of at most 64 bytes that do not cross a multiple of 64: if no byte of their page is
  // inaccessible, true, and which of them are undefined.
  bool look(uint64_t address, uint32_t bytes, uint64_t& undefined_bits) const {
    const uint64_t offset = address - base_;
    const uint8_t state = pages_[offset / kPageBytes];
    undefined_bits = 0;
    if (state == kClean) return true;
    if (state != kSomeUndefined) return false;
    uint64_t word;
    std::memcpy(&word, undefined_ + offset / 64 * 8, 8);
    undefined_bits = word >> (offset % 64) & (bytes == 64 ? ~uint64_t{0} : (uint64_t{1} << bytes) - 1);
    return true;
  }
  // True if every page of the range is accessible and defined as a whole.
  bool clean_pages(uint64_t first, uint64_t last) const {
    uint8_t difference = 0;
    for (uint64_t page = (first - base_) / kPageBytes, end = (last - base_) / kPageBytes; page <= end; ++page)
      difference |= pages_[page] ^ kClean;
    return difference == 0;
  }
  // Bit i of `undefined_bits` says that byte address + i is undefined from now on. At most 64 bytes, all accessible.
  void set_undefined(uint64_t address, uint32_t bytes, uint64_t undefined_bits) {
    if (undefined_bits || !clean(address, bytes)) set_undefined_exact(address, bytes, undefined_bits);
  }
  // Any number of bytes, all accessible: for copies, initialisers, operations in flight.
  void mark_defined(uint64_t address, uint64_t bytes);
  void mark_undefined(uint64_t address, uint64_t bytes);
  // First address in the range that may not be touched / is undefined; address + bytes when there is none.
  uint64_t first_inaccessible(uint64_t address, uint64_t bytes) const;
  uint64_t first_undefined(uint64_t address, uint64_t bytes) const;
  // Definedness of a copied range; destination accessible, not overlapping.
  void copy_definedness(uint64_t destination, const Memory& from, uint64_t source, uint64_t bytes);

  // "4 bytes past the end of dx, 4096 bytes at 0x…", "inside w, freed", for messages.
  std::string describe(uint64_t address) const;

 private:
  uint64_t inaccessible_exact(uint64_t address, uint32_t bytes) const;
  uint64_t undefined_exact(uint64_t address, uint32_t bytes) const;
  void set_undefined_exact(uint64_t address, uint32_t bytes, uint64_t undefined_bits);
  void set_undefined_word(uint64_t offset, uint32_t bytes, uint64_t undefined_bits);
  void spell_out(uint64_t page);  // brings the page's bits up to date
  void settle(uint64_t page);     // the page's state from its bits
  void mark(uint64_t address, uint64_t bytes, bool undefined);

  struct Allocation {
    uint64_t bytes = 0;
    std::string name;
  };
  uint64_t base_, size_, reserved_;
  uint8_t* cells_ = nullptr;
  uint8_t* undefined_ = nullptr;     // bit per byte
  uint8_t* inaccessible_ = nullptr;  // bit per byte
  uint8_t* pages_ = nullptr;
  std::map<uint64_t, Allocation> allocations_, freed_;
  std::map<uint64_t, uint64_t> forbidden_;  // first byte -> bytes
};

// Generic addresses. Shared addresses are (rank of the block in its cluster) << 24 | offset, as on the hardware; the
// generic address of a shared or local one is the window's start plus it. All else is global, which also holds .const.
constexpr uint64_t kSharedWindow = 0x1'0000'0000;
constexpr uint64_t kSharedWindowBytes = 0x1000'0000;  // 16 blocks of a cluster, 16 MiB each
constexpr uint64_t kLocalWindow = 0x2'0000'0000;
constexpr uint64_t kLocalWindowBytes = 0x1000'0000;
constexpr uint64_t kParameterWindow = 0x3'0000'0000;  // the kernel's parameters: cvta.param, tensor maps
constexpr uint64_t kFunctionWindow = 0x4'0000'0000;   // + 16 × index in Module::functions: function pointers
constexpr uint64_t kCallArea = 0x8000'0000;           // .param of .func calls: this plus the offset in the call area
constexpr uint32_t kSharedRankShift = 24;
constexpr uint32_t kSharedBase = 0x400;  // the first kilobyte of a block's shared memory belongs to the system

inline bool is_shared(uint64_t generic) { return generic - kSharedWindow < kSharedWindowBytes; }
inline bool is_local(uint64_t generic) { return generic - kLocalWindow < kLocalWindowBytes; }

}  // namespace foretoken::machine
