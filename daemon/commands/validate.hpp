// `oteld validate`: checks a configuration without starting anything, and offline.
//
// Used by: daemon/main.cpp. Threads: one. All mistakes go to standard error, one a line; a summary
// of what would be exported goes to standard output.
#pragma once

#include <string>

namespace oteld {

// `config_path` empty: what `oteld run` would take. Returns the exit code: 0, or 78 (EX_CONFIG).
[[nodiscard]] int validate_command(const std::string& config_path);

}  // namespace oteld
