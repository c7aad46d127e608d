// What a person typed after `oteld`, checked: a verb with its options, or a text and an exit code.
//
// Used by: daemon/main.cpp. Threads: any; no state. CLI11 is named in the .cpp alone; its own
// messages are not shown. Exit codes: 0 help and version, 2 (usage) with a sentence and the nearest
// known word.
#pragma once

#include <string>
#include <variant>

#include "daemon/commands/load.hpp"
#include "daemon/commands/rings.hpp"
#include "daemon/commands/run.hpp"
#include "daemon/commands/status.hpp"
#include "daemon/commands/traces.hpp"

namespace oteld::daemon {

inline constexpr int exit_usage = 2;

struct ValidateOptions {
    std::string config;  // empty: what `oteld run` would take
};
struct ShowVersion {};

// Nothing to run: print `text` (to standard output when the code is 0, else to standard error) and
// exit.
struct Finished {
    int exit_code = 0;
    std::string text;
};

using Command = std::variant<Finished, ShowVersion, RunOptions, StatusOptions, ValidateOptions,
                             RingsOptions, TracesOptions, LoadOptions>;

Command parse_command_line(int argc, const char* const* argv);

}  // namespace oteld::daemon
