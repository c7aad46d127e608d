// `oteld status`: whether spans arrive, and what became of each.
//
// Used by: daemon/main.cpp. Threads: one.
#pragma once

#include <string>

namespace oteld::daemon {

struct StatusOptions {
    bool json = false;
    bool watch = false;     // redraw each second until q or ctrl-c; with json: one document a line
    std::string directory;  // empty: where a daemon would be
};

// Exit code: 0 healthy, 1 degraded, 3 not running, 4 cannot tell.
[[nodiscard]] int status_command(const StatusOptions& options);

}  // namespace oteld::daemon
