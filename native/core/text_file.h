// Small text files of the system (/proc, /sys), through C stdio: <fstream> would add half a megabyte to the addon.
#pragma once
#include <string>

namespace foretoken {

// The file's text; empty when it cannot be read.
std::string read_text(const std::string& path);

// The number that the file begins with, or `otherwise`.
double read_number(const std::string& path, double otherwise);

}  // namespace foretoken
