// From what a person typed (a YAML file, OTEL_EXPORTER_OTLP_*, or nothing at all) to checked
// Settings.
//
// Used by: `oteld run`, `oteld validate`. Threads: any; reads files and the environment, keeps no
// state. Never stops at the first mistake: all of them come back at once, in the order of the file.
// Never opens the network: a configuration can be checked on a machine without any.
#pragma once

#include "config/environment.hpp"
#include "config/problem.hpp"
#include "config/settings.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace oteld::config {

struct Loaded {
    Settings settings;  // To be used only when there are no problems.
    Problems problems;
    std::vector<std::string> warnings;  // Whole lines, place included. They stop nobody.

    [[nodiscard]] bool valid() const { return problems.empty(); }
};

inline constexpr const char* default_path = "/etc/oteld/oteld.yaml";

// The daemon's order: the file that was named (a missing one is a problem); else
// /etc/oteld/oteld.yaml if there is one; else OTEL_EXPORTER_OTLP_* if any is set; else the embedded
// default.
[[nodiscard]] Loaded load(const std::string& config_path, const Environment& environment,
                          const std::string& fallback_path = default_path);

[[nodiscard]] Loaded load_file(const std::string& path, const Environment& environment);

// `source` is the name that messages carry.
[[nodiscard]] Loaded load_text(std::string_view yaml, const std::string& source,
                               const Environment& environment);

}  // namespace oteld::config
