// OTLP in its JSON form, made from spans in wire format: lowerCamelCase, ids in hex, enums as
// integers, 64-bit integers as strings, bytes in base64, NaN and Infinity as strings, fields with
// their default value left out.
//
// Used by: the file exporter; `oteld rings --json` uses append_json_span. Threads: free functions
// on the caller's string. https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
#pragma once

#include "exporters/exporter.hpp"
#include "shm/span_view.hpp"

#include <string>
#include <string_view>

namespace oteld::exporters {

// One TracesData object, without a line end. Runs that follow each other and share resource or
// scope share their envelope.
void append_traces_data(std::string& out, const Batch& batch);

void append_json_span(std::string& out, const shm::Span& span);

}  // namespace oteld::exporters
