#include "text_file.h"

#include <cstdio>
#include <cstdlib>

namespace foretoken {

std::string read_text(const std::string& path) {
  std::string text;
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (!file) return text;
  char chunk[4096];
  while (size_t count = std::fread(chunk, 1, sizeof chunk, file)) text.append(chunk, count);
  std::fclose(file);
  return text;
}

double read_number(const std::string& path, double otherwise) {
  const std::string text = read_text(path);
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  return end == text.c_str() ? otherwise : number;
}

}  // namespace foretoken
