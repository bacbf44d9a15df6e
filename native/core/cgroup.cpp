#include "cgroup.h"

#include "text_file.h"

namespace foretoken {

// Lines of /proc/self/cgroup: "0::/path" for version 2, "4:cpu,cpuacct:/path" for version 1.
std::vector<std::string> cgroup_folders(const std::string& controller) {
  const std::string root = "/sys/fs/cgroup", mount = root + "/" + controller;
  std::vector<std::string> folders = {root, mount};
  const std::string groups = read_text("/proc/self/cgroup");
  for (size_t start = 0, end; (end = groups.find('\n', start)) != std::string::npos; start = end + 1) {
    const std::string line = groups.substr(start, end - start);
    const size_t path_start = line.find(":/");
    if (path_start == std::string::npos) continue;
    const bool version2 = line.starts_with("0::");
    if (!version2 && line.find(controller) == std::string::npos) continue;
    for (std::string path = line.substr(path_start + 1); path.size() > 1; path.resize(path.rfind('/')))
      folders.push_back((version2 ? root : mount) + path);
  }
  return folders;
}

}  // namespace foretoken
