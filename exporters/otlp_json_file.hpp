// Exporter "file": OTLP-JSON lines, one TracesData a line, to a file with rotation, a pipe, or
// standard output.
//
// Used by: daemon/pipeline.cpp. Threads: as Exporter says.
// A line is whole or not there: what was written of a line that did not fit is cut off again, and
// the rest of a line that a killed daemon left is cut off when the file is opened. One daemon
// writes a file at a time (flock). A file that was moved or removed is begun anew, so external log
// rotation needs no signal. Never calls fsync. Rotation: before a line would pass
// `rotation_bytes_max`, traces.jsonl becomes traces-20261124T201204.123Z.jsonl; of those the newest
// `rotation_backups_max` stay (0: all).
#pragma once

#include "config/settings.hpp"
#include "exporters/exporter.hpp"

#include <memory>

namespace oteld::exporters {

// Opens nothing yet: a directory that is missing or full is a reason to retry, not one to refuse
// the start.
[[nodiscard]] Result<std::unique_ptr<Exporter>> make_otlp_json_file(
    const config::ExporterSettings& settings);

}  // namespace oteld::exporters
