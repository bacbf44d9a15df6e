#include "module.h"

#include <algorithm>
#include <array>

#include "lexer.h"

namespace foretoken::ptx {
namespace {

struct TypeRow {
  std::string_view name;
  int bits;
};
constexpr std::array<TypeRow, 20> kTypes = {{
    {"pred", 1}, {"b8", 8},     {"b16", 16},  {"b32", 32},    {"b64", 64}, {"b128", 128}, {"u8", 8},
    {"u16", 16}, {"u32", 32},   {"u64", 64},  {"s8", 8},      {"s16", 16}, {"s32", 32},   {"s64", 64},
    {"f16", 16}, {"f16x2", 32}, {"bf16", 16}, {"bf16x2", 32}, {"f32", 32}, {"f64", 64},
}};
static_assert(kTypes.size() == static_cast<size_t>(Type::f64) + 1);

constexpr std::array<std::string_view, 51> kSpecialRegisters = {"%tid.x",
                                                                "%tid.y",
                                                                "%tid.z",
                                                                "%ntid.x",
                                                                "%ntid.y",
                                                                "%ntid.z",
                                                                "%ctaid.x",
                                                                "%ctaid.y",
                                                                "%ctaid.z",
                                                                "%nctaid.x",
                                                                "%nctaid.y",
                                                                "%nctaid.z",
                                                                "%laneid",
                                                                "%warpid",
                                                                "%nwarpid",
                                                                "%smid",
                                                                "%nsmid",
                                                                "%gridid",
                                                                "%is_explicit_cluster",
                                                                "%clusterid.x",
                                                                "%clusterid.y",
                                                                "%clusterid.z",
                                                                "%nclusterid.x",
                                                                "%nclusterid.y",
                                                                "%nclusterid.z",
                                                                "%cluster_ctaid.x",
                                                                "%cluster_ctaid.y",
                                                                "%cluster_ctaid.z",
                                                                "%cluster_nctaid.x",
                                                                "%cluster_nctaid.y",
                                                                "%cluster_nctaid.z",
                                                                "%cluster_ctarank",
                                                                "%cluster_nctarank",
                                                                "%lanemask_eq",
                                                                "%lanemask_le",
                                                                "%lanemask_lt",
                                                                "%lanemask_ge",
                                                                "%lanemask_gt",
                                                                "%clock",
                                                                "%clock_hi",
                                                                "%clock64",
                                                                "%globaltimer",
                                                                "%globaltimer_lo",
                                                                "%globaltimer_hi",
                                                                "%total_smem_size",
                                                                "%aggr_smem_size",
                                                                "%dynamic_smem_size",
                                                                "%reserved_smem_offset_begin",
                                                                "%reserved_smem_offset_end",
                                                                "%reserved_smem_offset_cap",
                                                                "%envreg"};
static_assert(kSpecialRegisters.size() == static_cast<size_t>(SpecialRegister::envreg) + 1);

}  // namespace

std::optional<Type> type_named(std::string_view name) {
  for (size_t i = 0; i < kTypes.size(); ++i)
    if (kTypes[i].name == name) return static_cast<Type>(i);
  return std::nullopt;
}

int type_bits(Type type) { return kTypes[static_cast<size_t>(type)].bits; }

std::string_view special_register_name(SpecialRegister special) {
  return kSpecialRegisters[static_cast<size_t>(special)];
}

std::optional<SpecialRegister> special_register_named(std::string_view name) {
  for (size_t i = 0; i < kSpecialRegisters.size(); ++i)
    if (kSpecialRegisters[i] == name) return static_cast<SpecialRegister>(i);
  return std::nullopt;
}

Function* Module::find_function(std::string_view function_name) const {
  const auto found = function_index.find(function_name);
  return found == function_index.end() ? nullptr : functions[found->second].get();
}

std::string Module::debug_string(std::string_view label) const {
  const auto found = debug_labels.find(label);
  if (found == debug_labels.end()) return std::string(label);
  std::string bytes;
  Lexer lexer(*this, found->second);
  while (lexer.accept(".b8")) do {
      const uint32_t byte = lexer.expect_uint32("byte");
      if (byte == 0) return bytes;
      bytes.push_back(static_cast<char>(byte));
    } while (lexer.accept(","));
  return bytes;
}

std::string describe_location(const Module& module, int32_t location) {
  if (location < 0) return "unknown line";
  std::string text;
  for (int32_t at = location; at >= 0; at = module.locations[at].inlined_at) {
    const SourceLocation& source = module.locations[at];
    const auto file = module.files.find(source.file);
    const std::string path = file == module.files.end() ? "file " + std::to_string(source.file) : file->second;
    text +=
        (text.empty() ? "" : ", inlined at ") + path.substr(path.rfind('/') + 1) + ":" + std::to_string(source.line);
  }
  return text;
}

std::string statement_text(const Module& module, const Statement& statement) {
  std::string text;
  bool blank = false;
  for (char c : std::string_view(module.text).substr(statement.text_offset, statement.text_length)) {
    const bool is_blank = c == ' ' || c == '\t' || c == '\n' || c == '\r';
    if (blank && !is_blank && !text.empty()) text.push_back(' ');
    if (!is_blank) text.push_back(c);
    blank = is_blank;
  }
  return text;
}

ParseError statement_error(const Module& module, const Function& function, const Statement& statement,
                           const std::string& message) {
  const auto line = 1 + std::count(module.text.begin(), module.text.begin() + statement.text_offset, '\n');
  return ParseError(module.name + ":" + std::to_string(line) + ": " + message +
                    (function.is_kernel ? "; in kernel " : "; in function ") + std::string(function.name) + ", at " +
                    describe_location(module, statement.location) + ": `" + statement_text(module, statement) + "`");
}

}  // namespace foretoken::ptx
