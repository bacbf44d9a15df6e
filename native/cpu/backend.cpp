// Level detection and choice. Baseline code: runs on any machine.
#include "backend.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "../core/backends.h"
#include "../core/env.h"
#include "table.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace foretoken::cpu {

#if defined(FORETOKEN_ALL_LEVELS)
// Linux hands out the AMX tile registers only on request (XFEATURE 18); every later thread inherits the grant.
static bool request_amx() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

static void detect_levels(Processor& found) {
  __builtin_cpu_init();
  found.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  found.avx512 = found.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  found.avx512bf16 = found.avx512 && __builtin_cpu_supports("avx512bf16");
  unsigned leaf7[4] = {};
  __get_cpuid_count(7, 0, &leaf7[0], &leaf7[1], &leaf7[2], &leaf7[3]);
  bool amx_bf16 = leaf7[3] & (1u << 22), amx_tile = leaf7[3] & (1u << 24);
  found.amx = found.avx512bf16 && amx_bf16 && amx_tile && request_amx();
}
#elif defined(__x86_64__)
static void detect_levels(Processor&) {}
#endif

#if defined(__x86_64__)
static Processor detect() {
  Processor found;
  unsigned a = 0, b = 0, c = 0, d = 0;
  char vendor[13] = {};
  __get_cpuid(0, &a, &b, &c, &d);
  std::memcpy(vendor, &b, 4);
  std::memcpy(vendor + 4, &d, 4);
  std::memcpy(vendor + 8, &c, 4);
  found.vendor = vendor;
  char model[49] = {};
  for (unsigned i = 0; i < 3; i++) {
    unsigned r[4] = {};
    __get_cpuid(0x80000002 + i, &r[0], &r[1], &r[2], &r[3]);
    std::memcpy(model + 16 * i, r, 16);
  }
  found.model = model;
  detect_levels(found);
  return found;
}
#else
static Processor detect() { return {}; }
#endif

const Processor& processor() {
  static const Processor found = detect();
  return found;
}

std::vector<std::string> usable_levels(const Processor& on) {
  std::vector<std::string> levels = {"generic"};
  if (on.avx2) levels.push_back("avx2");
  if (on.avx512) levels.push_back("avx512");
  if (on.avx512bf16) levels.push_back("avx512bf16");
  if (on.amx) levels.push_back("amx");
  return levels;
}

// Intel's vdpbf16ps runs at half the rate of its fp32 FMA (measured: 186 against 350 GFLOP/s on two threads), so Intel
// goes to AMX or stays at avx512; AMD's runs at nearly twice (920 against 502). All levels passed the suite on an Intel
// machine with AMX (2026-11-22); it has not run on AMD yet, where the same instructions mean the same.
constexpr Preference kPreferences[] = {
    {"GenuineIntel", "amx", true, "AMX tiles multiply bf16 fastest here"},
    {"AuthenticAMD", "avx512bf16", true, "AMD's AVX-512 bf16 products run at twice its fp32 rate"},
    {nullptr, "avx512", true, "AVX-512; bf16 products are widened to fp32"},
    {nullptr, "avx2", true, "AVX2 and FMA, no AVX-512"},
    {"GenuineIntel", "avx512bf16", true, "this vendor's fp32 FMA is faster than its bf16 product"},
};
constexpr Preference kPortable = {nullptr, "generic", true, "no AVX2: the portable kernels"};

std::span<const Preference> preferences() { return kPreferences; }

static bool applies(const Preference& preference, const Processor& on) {
  return !preference.vendor || on.vendor == preference.vendor;
}

static bool contains(const std::vector<std::string>& levels, const std::string& level) {
  return std::find(levels.begin(), levels.end(), level) != levels.end();
}

bool recorded(const std::string& level, const Processor& on, std::span<const Preference> from) {
  for (const Preference& preference : from)
    if (level == preference.level && applies(preference, on)) return preference.recorded;
  return level == kPortable.level;
}

const Preference& choose_level(const Processor& on, std::span<const Preference> from) {
  const std::vector<std::string> usable = usable_levels(on);
  for (const Preference& preference : from)
    if (preference.recorded && applies(preference, on) && contains(usable, preference.level)) return preference;
  return kPortable;
}

const Backend* backend(const std::string& level) {
  static std::mutex lock;
  static std::map<std::string, Backend> backends;
  if (!contains(usable_levels(), level)) return nullptr;
  std::lock_guard<std::mutex> guard(lock);
  auto [entry, fresh] = backends.try_emplace(level);
  if (fresh) {
    Backend& made = entry->second;
    made.name = "cpu";
    made.level = entry->first.c_str();
    made.oracle = &generic::table();
#define X(name)                                            \
  if (level == #name) {                                    \
    made.kernels = &name::table();                         \
    made.packed_weight_bytes = &name::packed_weight_bytes; \
  }
    X(generic)
#if defined(FORETOKEN_ALL_LEVELS)
    FORETOKEN_X86_LEVELS(X)
#endif
#undef X
  }
  return &entry->second;
}

}  // namespace foretoken::cpu

namespace foretoken {

ProcessorInfo processor_info() {
  ProcessorInfo info{.vendor = cpu::processor().vendor,
                     .model = cpu::processor().model.c_str(),  // cut at the padding
                     .levels = cpu::usable_levels(),
                     .unrecorded = {},
                     .default_level = cpu::choose_level().level,
                     .reason = cpu::choose_level().reason};
  for (const std::string& level : info.levels)
    if (!cpu::recorded(level)) info.unrecorded.push_back(level);
  return info;
}

const Backend* find_cpu_backend(const std::string& level, Failure& failure) {
  const std::string forced = env::simd();
  const std::string wanted = !level.empty() ? level : !forced.empty() ? forced : cpu::choose_level().level;
  if (const Backend* found = cpu::backend(wanted)) return found;
  std::string usable;
  for (const std::string& candidate : cpu::usable_levels()) usable += (usable.empty() ? "" : ", ") + candidate;
  failure = {.code = "NO_DEVICE",
             .op = "openDevice",
             .argument = level.empty() ? "FORETOKEN_SIMD" : "simd",
             .text = "this processor or build has no such SIMD level",
             .wanted = "one of " + usable,
             .got = wanted};
  return nullptr;
}

}  // namespace foretoken
