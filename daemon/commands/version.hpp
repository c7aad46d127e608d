// `oteld --version`: this program's version and what it can read.
//
// Used by: daemon/main.cpp. Threads: any.
#pragma once

#include <string>

namespace oteld::daemon {

[[nodiscard]] std::string version_text();  // Lines end with '\n'; the first is "oteld 1.2.3".
[[nodiscard]] int version_command();

}  // namespace oteld::daemon
