// `oteld run`: the daemon, from reading its configuration to its last words.
//
// Used by: daemon/main.cpp. Threads: the main thread; returns when SIGTERM or SIGINT has been
// obeyed. Exit codes: 0 stopped when asked to, 1 cannot run (another daemon, no permission), 78 the
// configuration is not valid. Errors go to standard error as sentences.
#pragma once

#include <string>

namespace oteld::daemon {

struct RunOptions {
    std::string config_path;  // Empty: /etc/oteld/oteld.yaml if it is there, else the environment,
                              // else the default.
};

struct RunEnd {
    int exit_code;
    bool at_once = false;  // Threads are left behind: the process has to end without tidying up.
};
[[nodiscard]] RunEnd run_command(const RunOptions& options);

// $OTELD_STATE_DIR, else $STATE_DIRECTORY, else /var/lib/oteld if writable, else the user's own.
[[nodiscard]] std::string state_directory();

}  // namespace oteld::daemon
