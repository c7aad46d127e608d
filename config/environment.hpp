// Where variables come from: the process, or a table in a test.
//
// Used by: config/ for `${env:NAME}` and OTEL_EXPORTER_OTLP_*. Threads: any, as long as nobody
// changes the process's environment at the same time (the daemon never does).
#pragma once

#include <cstdlib>
#include <functional>
#include <optional>
#include <string>

namespace oteld::config {

using Environment = std::function<std::optional<std::string>(const std::string& name)>;

[[nodiscard]] inline Environment process_environment() {
    return [](const std::string& name) -> std::optional<std::string> {
        const char* value = std::getenv(name.c_str());
        if (value == nullptr) return std::nullopt;
        return std::string(value);
    };
}

}  // namespace oteld::config
