#include "settings.h"

#include <cstdlib>
#include <optional>
#include <stdexcept>

#include "card.h"

namespace foretoken::ptx::runtime {
namespace {

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  if (!value) return std::nullopt;
  return value;
}

uint64_t number(const char* name, uint64_t otherwise, uint64_t least, uint64_t most) {
  const auto text = variable(name);
  if (!text || text->empty()) return otherwise;
  char* end = nullptr;
  const uint64_t value = std::strtoull(text->c_str(), &end, 10);
  if (*end || (*text)[0] == '-' || value < least || value > most)
    throw std::invalid_argument(std::string(name) + ": expected a whole number from " + std::to_string(least) + " to " +
                                std::to_string(most) + ", got '" + *text + "'");
  return value;
}

int architecture() {
  const std::string text = variable("PTX_DEVICE").value_or("sm_80");
  const int version = text.rfind("sm_", 0) == 0 ? std::atoi(text.c_str() + 3) : 0;
  if (!find_architecture(version))
    throw std::invalid_argument("PTX_DEVICE: expected sm_75, sm_80, sm_89, sm_90, sm_100 or sm_120, got '" + text +
                                "'");
  return version;
}

Schedule schedule(uint64_t seed) {
  if (variable("PTX_EAGER")) return number("PTX_EAGER", 0, 0, 1) ? Schedule::eager : Schedule::lazy;
  constexpr Schedule drawn[] = {Schedule::eager, Schedule::lazy, Schedule::mixed};
  return drawn[seed % 3];
}

Sanitize sanitize() {
  const std::string text = variable("PTX_SANITIZE").value_or("full");
  if (text == "off") return Sanitize::off;
  if (text == "memory") return Sanitize::memory;
  if (text == "full") return Sanitize::full;
  throw std::invalid_argument("PTX_SANITIZE: expected off, memory or full, got '" + text + "'");
}

// As the driver reads it: a list of indices; the first that is not a device's ends it; an empty one hides them all.
std::vector<int> visible_devices(int count) {
  std::vector<int> visible;
  const auto text = variable("CUDA_VISIBLE_DEVICES");
  if (!text) {
    for (int i = 0; i < count; i++) visible.push_back(i);
    return visible;
  }
  const char* at = text->c_str();
  while (true) {
    char* end = nullptr;
    const long index = std::strtol(at, &end, 10);
    if (end == at || index < 0 || index >= count) return visible;
    for (const int other : visible)
      if (other == index) return {};  // named twice: the driver shows none
    visible.push_back(static_cast<int>(index));
    if (*end != ',') return visible;
    at = end + 1;
  }
}

}  // namespace

Settings read_settings() {
  Settings settings;
  settings.architecture = architecture();
  settings.sm_count = static_cast<int>(number("PTX_SMS", settings.sm_count, 1, 1024));
  settings.memory_bytes = number("PTX_MEMORY", settings.memory_bytes, 1 << 20, 1ull << 40);
  settings.device_count = static_cast<int>(number("PTX_DEVICES", settings.device_count, 0, 8));
  settings.driver_version = static_cast<int>(number("PTX_DRIVER", settings.driver_version, 0, 99990));
  settings.seed = number("PTX_SEED", settings.seed, 0, UINT64_MAX);
  settings.dry = number("PTX_DRY", 0, 0, 1);
  settings.report = variable("PTX_REPORT").value_or("");
  settings.strict = number("PTX_STRICT", 0, 0, 1);
  settings.fuse = number("PTX_FUSE", 0, 0, 1);
  settings.perturb = number("PTX_PERTURB", 0, 0, 1);
  settings.truncate = number("PTX_TRUNCATE", 0, 0, 1);
  settings.sanitize = sanitize();
  settings.schedule = schedule(settings.seed);
  settings.visible_devices = visible_devices(settings.device_count);
  return settings;
}

}  // namespace foretoken::ptx::runtime
