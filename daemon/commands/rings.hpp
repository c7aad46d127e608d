// `oteld rings`: what lies in ring files, read with no help from a daemon or an application.
//
// Used by: daemon/main.cpp. Threads: one. Read-only: it never changes a file, so it is safe beside
// both.
#pragma once

#include <string>
#include <vector>

namespace oteld::daemon {

struct RingsOptions {
    std::vector<std::string> files;  // empty: every ring file of the directory
    std::string directory;           // empty: where a daemon would be
    bool spans = false;              // show finished and open spans too
    bool json = false;
};

// Exit code: 0, or 1 when a file is corrupt, of the future, or cannot be read; each is named with
// the reason.
[[nodiscard]] int rings_command(const RingsOptions& options);

}  // namespace oteld::daemon
