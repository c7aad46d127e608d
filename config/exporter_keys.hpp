// The keys of each exporter, and of the shm receiver: from a map in the file to settings.
//
// Used by: config/load.cpp. Threads: one. Mistakes go to the report; what is returned then is not
// to be used.
#pragma once

#include "config/schema.hpp"
#include "config/settings.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace oteld::config {

// The types that may stand before the "/" of an exporter's id, aliases included.
[[nodiscard]] const std::vector<std::string_view>& exporter_types();
[[nodiscard]] std::optional<ExporterSettings::Kind> exporter_kind(std::string_view type);

[[nodiscard]] ExporterSettings read_exporter(const Member& member, ExporterSettings::Kind kind,
                                             Report& report);

[[nodiscard]] Shm read_shm(const Member& member, Report& report);

}  // namespace oteld::config
