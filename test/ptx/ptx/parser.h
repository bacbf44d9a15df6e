// PTX text to Module. Both throw ParseError for anything not understood.
#pragma once
#include <memory>
#include <string>

#include "module.h"

namespace foretoken::ptx {

// Everything but the bodies: directives, variables, signatures. `name` appears in messages.
std::unique_ptr<Module> parse_module(std::string text, std::string name);

// Fills registers, variables and body of a function that has one. Does nothing the second time.
void parse_body(Module& module, Function& function);

}  // namespace foretoken::ptx
