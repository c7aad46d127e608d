// What oteld does without a file: OTEL_EXPORTER_OTLP_* when set, else the local trace store.
//
// Used by: config/load.cpp. Threads: any. The variables mean what the OpenTelemetry specification
// says (README.md, "The environment"); an empty one counts as not set.
#pragma once

#include "config/load.hpp"

namespace oteld::config {

// Whether any OTEL_EXPORTER_OTLP_* variable that concerns traces is set.
[[nodiscard]] bool otlp_environment_is_set(const Environment& environment);

// One exporter, "otlp_http" or "otlp_grpc".
[[nodiscard]] Loaded load_otlp_environment(const Environment& environment);

// One exporter, "trace_store", with its defaults.
[[nodiscard]] Loaded embedded_default();

}  // namespace oteld::config
