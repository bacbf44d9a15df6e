// Where the kernel says what this process may use.
#pragma once
#include <string>
#include <vector>

namespace foretoken {

// Folders of the cgroups that limit this process with a controller ("cpu", "memory"), its own and those around it, of
// version 2 or 1. Empty where there are none.
std::vector<std::string> cgroup_folders(const std::string& controller);

}  // namespace foretoken
