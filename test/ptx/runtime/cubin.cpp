#include "cubin.h"

#include <elf.h>

#include <cstring>
#include <stdexcept>
#include <vector>

namespace foretoken::ptx::runtime {
namespace {

// Attributes in .nv.info: {format, attribute, value of 16 bits}, and with this format that many bytes behind.
constexpr uint8_t kSized = 4;
constexpr uint8_t kRegisterCount = 0x2f;  // sized: {symbol, registers}

template <class T>
T at(std::string_view from, size_t offset) {
  if (offset > from.size() || from.size() - offset < sizeof(T)) throw std::runtime_error("a kernel's ELF is truncated");
  T value;
  std::memcpy(&value, from.data() + offset, sizeof(value));
  return value;
}

std::string name_at(std::string_view elf, size_t offset) {
  const size_t end = elf.find('\0', offset);
  if (end == elf.npos) throw std::runtime_error("a kernel's ELF is truncated");
  return std::string(elf.substr(offset, end - offset));
}

}  // namespace

std::map<std::string, uint32_t> registers_of_kernels(std::string_view elf) {
  const auto header = at<Elf64_Ehdr>(elf, 0);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) throw std::runtime_error("a kernel's machine code is no ELF");
  std::vector<Elf64_Shdr> sections;
  for (size_t i = 0; i < header.e_shnum; i++)
    sections.push_back(at<Elf64_Shdr>(elf, header.e_shoff + i * sizeof(Elf64_Shdr)));

  std::map<std::string, uint32_t> registers;
  for (const Elf64_Shdr& section : sections) {
    if (name_at(elf, sections.at(header.e_shstrndx).sh_offset + section.sh_name) != ".nv.info") continue;
    const Elf64_Shdr& symbols = sections.at(section.sh_link);
    const size_t end = section.sh_offset + section.sh_size;
    for (size_t offset = section.sh_offset; offset < end;) {
      const auto format = at<uint8_t>(elf, offset), attribute = at<uint8_t>(elf, offset + 1);
      if (format == kSized && attribute == kRegisterCount) {
        const size_t symbol = at<uint32_t>(elf, offset + 4);
        const auto found = at<Elf64_Sym>(elf, symbols.sh_offset + symbol * sizeof(Elf64_Sym));
        const std::string name = name_at(elf, sections.at(symbols.sh_link).sh_offset + found.st_name);
        registers[name] = at<uint32_t>(elf, offset + 8);
      }
      offset += 4 + (format == kSized ? at<uint16_t>(elf, offset + 2) : 0);
    }
  }
  return registers;
}

}  // namespace foretoken::ptx::runtime
