// `${env:NAME}`, `${env:NAME:-default}`, `${NAME}` and `$$` in the scalars of a configuration.
//
// Used by: config/load.cpp, after the YAML has been parsed and before types are decided: so a value
// can become a number, a boolean or nothing, and never YAML structure. Keys are left alone, and
// what a variable holds is not looked at again. Threads: any.
#pragma once

#include "config/environment.hpp"
#include "config/yaml.hpp"

#include <string>
#include <vector>

namespace oteld::config {

inline constexpr std::size_t substituted_bytes_max = 64 << 10;  // Of one scalar.

// Rewrites the tree in place. Mistakes go to `problems`; a variable that is unset or empty and has
// no default becomes nothing, with a line in `warnings`.
void substitute(YamlNode& node, const std::string& source, const Environment& environment,
                Problems& problems, std::vector<std::string>& warnings);

}  // namespace oteld::config
