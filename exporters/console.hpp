// Exporter "debug": spans as text for people on standard output. basic: a line per batch; normal: a
// line per span; detailed: everything in it.
//
// Used by: daemon/pipeline.cpp. Threads: as Exporter says. Colours, pages and waits for nothing: it
// may be a log.
#pragma once

#include "config/settings.hpp"
#include "exporters/exporter.hpp"

#include <memory>
#include <string>

namespace oteld::exporters {

[[nodiscard]] Result<std::unique_ptr<Exporter>> make_console(
    const config::ExporterSettings& settings);
// The same to another descriptor, which stays the caller's: for tests.
[[nodiscard]] std::unique_ptr<Exporter> make_console(config::Debug settings, int fd);

// What it writes for a batch.
[[nodiscard]] std::string console_text(const Batch& batch, config::Debug::Verbosity verbosity);

}  // namespace oteld::exporters
