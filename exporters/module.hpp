// Makes an exporter that brings a heavy library: loads its module, which stays loaded, and calls
// its factory.
//
// Used by: daemon/pipeline.cpp, tests. Threads: start-up only. A module that was not named is never
// opened.
//
// A module exports one C symbol, the factory; on failure it returns null and puts a sentence into
// `error`.
#pragma once

#include "config/result.hpp"
#include "config/settings.hpp"
#include "exporters/exporter.hpp"

#include <memory>
#include <string>

namespace oteld::exporters {

using CreateV1 = Exporter*(const config::ExporterSettings*, std::string* error);
inline constexpr const char* create_v1_symbol = "oteld_exporter_create_v1";

// Of kind otlp_grpc or otlp_http, from `modules_directory`.
[[nodiscard]] Result<std::unique_ptr<Exporter>> make_from_module(
    const config::ExporterSettings& settings, const std::string& modules_directory);

}  // namespace oteld::exporters
