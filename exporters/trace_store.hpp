// Exporter "trace_store": the spans of the last days in one SQLite file, for `oteld traces`. The
// default when nothing else is configured.
//
// Used by: daemon/pipeline.cpp (writes); trace_query.hpp reads the same file, also while this
// writes. Made of trace_store_file.hpp, trace_store_writer.hpp and trace_store_bounds.hpp. Threads:
// as Exporter says. A batch is one transaction; a span that comes again changes nothing. Bounded:
// when the live bytes come near `bytes_max`, or a trace has not grown for `age_max`, the traces
// that grew longest ago go first. A damaged file is set aside, said, and a new one begun. A crash
// of the machine may lose the last seconds (no fsync per batch), a crash of the daemon nothing.
#pragma once

#include "config/settings.hpp"
#include "exporters/exporter.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace oteld::exporters {

inline constexpr char trace_store_name[] = "traces.db";

// Where the store is, from its settings and the state directory.
[[nodiscard]] std::string trace_store_path(const config::TraceStore& settings,
                                           const std::string& state_directory);

// Opens nothing yet: a disk that is full or not there is a reason to retry, not one to refuse the
// start.
[[nodiscard]] Result<std::unique_ptr<Exporter>> make_trace_store(
    const config::ExporterSettings& settings, const std::string& state_directory);

// For tests: the same with a clock (Unix milliseconds).
using UnixMs = std::function<std::uint64_t()>;
[[nodiscard]] std::unique_ptr<Exporter> make_trace_store(const config::TraceStore& settings,
                                                         const std::string& path, UnixMs now);

}  // namespace oteld::exporters
