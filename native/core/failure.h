// What went wrong on the native side, in the parts that an error message is made of.
#pragma once
#include <string>

namespace foretoken {

struct Failure {
  std::string code = {};  // stable: "OUT_OF_MEMORY", …; empty: nothing went wrong
  std::string op = {}, argument = {};
  std::string text = {}, wanted = {}, got = {};
  std::string remedy = {};  // what to do about it: a sentence

  explicit operator bool() const { return !code.empty(); }
};

}  // namespace foretoken
