// The document of `oteld status --json`: written by the daemon into its status page, read back by
// `oteld status`.
//
// Used by: daemon.cpp, daemon/commands/status.cpp. Threads: any; no state.
// Names are frozen with schema_version: a change that breaks a reader raises it; new fields do not.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "config/result.hpp"
#include "daemon/status/snapshot.hpp"

namespace oteld::status {

inline constexpr int schema_version = 1;

// Above bytes_max the applications that were seen last stay, the others are left out, and a note
// says so.
std::string to_json(const Snapshot& snapshot, std::size_t bytes_max = std::size_t{4} << 20);

// Unknown fields are skipped, missing ones keep their defaults; another schema_version fails with
// unsupported.
Result<Snapshot> from_json(std::string_view document);

// The document with line breaks and indentation, for people. It must be valid.
std::string indent_json(std::string_view document);

// Names as the document has them.
std::string_view to_string(Verdict verdict) noexcept;
std::string_view to_string(Phase phase) noexcept;
std::string_view to_string(Life life) noexcept;
std::string_view to_string(ExporterState state) noexcept;

}  // namespace oteld::status
