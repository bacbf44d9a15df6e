#include "fatbin.h"

#include <dlfcn.h>

#include <cstring>
#include <stdexcept>

namespace foretoken::ptx::runtime {
namespace {

constexpr uint32_t kWrapperMagic = 0x466243b1, kMagic = 0xba55ed50;
constexpr uint64_t kLz4 = 0x2000, kZstd = 0x8000, kExact = 0x100000;

struct Wrapper {
  uint32_t magic, version;
  const std::byte* data;
  void* unused;
};

template <class T>
T at(const std::byte* from, size_t offset) {
  T value;
  std::memcpy(&value, from + offset, sizeof(value));
  return value;
}

// zstd's header is not installed where its library is, as every Debian system has the one and few the other; and the
// library is only needed once a compressed image is. So two functions are looked up by name.
struct Zstd {
  size_t (*decompress)(void* to, size_t capacity, const void* from, size_t bytes) = nullptr;
  unsigned (*is_error)(size_t code) = nullptr;
};

const Zstd& zstd() {
  static const Zstd functions = [] {
    void* library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) throw std::runtime_error(std::string("libzstd.so.1 is needed to read the kernels: ") + dlerror());
    Zstd found;
    found.decompress = reinterpret_cast<decltype(found.decompress)>(dlsym(library, "ZSTD_decompress"));
    found.is_error = reinterpret_cast<decltype(found.is_error)>(dlsym(library, "ZSTD_isError"));
    if (!found.decompress || !found.is_error) throw std::runtime_error("libzstd.so.1 lacks ZSTD_decompress");
    return found;
  }();
  return functions;
}

FatEntry read_entry(const std::byte* entry) {
  FatEntry read;
  const auto header = at<uint32_t>(entry, 4);
  const auto flags = at<uint64_t>(entry, 40);
  const auto name_offset = at<uint32_t>(entry, 32), name_bytes = at<uint32_t>(entry, 36);
  read.kind = at<uint16_t>(entry, 0) == 1 ? FatEntry::Kind::ptx : FatEntry::Kind::machine_code;
  read.architecture = static_cast<int>(at<uint32_t>(entry, 28));
  read.exact = flags & kExact;
  read.zstd = flags & kZstd;
  read.name = "an unnamed object";
  if (name_offset) read.name.assign(reinterpret_cast<const char*>(entry) + name_offset, name_bytes);
  if (flags & kLz4)
    throw std::runtime_error("a kernel image of " + read.name +
                             " is LZ4-compressed: compile with --compress-mode=size");
  const bool compressed = read.zstd;
  read.plain_bytes = compressed ? at<uint64_t>(entry, 56) : 0;
  read.stored = {entry + header, compressed ? at<uint32_t>(entry, 16) : at<uint64_t>(entry, 8)};
  return read;
}

bool runs_on(const FatEntry& entry, int architecture) {
  if (entry.exact) return entry.architecture == architecture;
  if (entry.kind == FatEntry::Kind::machine_code && entry.architecture / 10 != architecture / 10) return false;
  return entry.architecture <= architecture;
}

}  // namespace

std::vector<FatEntry> read_fat_binary(const void* pointer) {
  Wrapper wrapper;
  std::memcpy(&wrapper, pointer, sizeof(wrapper));
  if (wrapper.magic != kWrapperMagic || wrapper.version != 1) throw std::runtime_error("unknown fat binary wrapper");
  const std::byte* data = wrapper.data;
  if (at<uint32_t>(data, 0) != kMagic || at<uint16_t>(data, 4) != 1) throw std::runtime_error("unknown fat binary");
  std::vector<FatEntry> entries;
  const std::byte* entry = data + at<uint16_t>(data, 6);
  const std::byte* end = entry + at<uint64_t>(data, 8);
  while (entry < end) {
    const auto kind = at<uint16_t>(entry, 0);
    if (kind == 1 || kind == 2) entries.push_back(read_entry(entry));
    entry += at<uint32_t>(entry, 4) + at<uint64_t>(entry, 8);
  }
  return entries;
}

std::string contents(const FatEntry& entry) {
  const char* stored = reinterpret_cast<const char*>(entry.stored.data());
  if (!entry.zstd) return std::string(stored, entry.stored.size());
  std::string plain(entry.plain_bytes, '\0');
  const size_t bytes = zstd().decompress(plain.data(), plain.size(), stored, entry.stored.size());
  if (zstd().is_error(bytes) || bytes != plain.size())
    throw std::runtime_error("a kernel image of " + entry.name + " is corrupt: zstd cannot decompress it");
  return plain;
}

const FatEntry* choose(const std::vector<FatEntry>& entries, FatEntry::Kind kind, int architecture) {
  const FatEntry* best = nullptr;
  const auto rank = [](const FatEntry& entry) { return 2 * entry.architecture + entry.exact; };
  for (const FatEntry& entry : entries)
    if (entry.kind == kind && runs_on(entry, architecture) && (!best || rank(entry) > rank(*best))) best = &entry;
  return best;
}

std::string describe(const std::vector<FatEntry>& entries) {
  std::string text;
  for (const FatEntry& entry : entries) {
    const bool ptx = entry.kind == FatEntry::Kind::ptx;
    text += (text.empty() ? "" : ", ") + (ptx ? "compute" + entry.target().substr(2) : entry.target());
  }
  return text;
}

}  // namespace foretoken::ptx::runtime
