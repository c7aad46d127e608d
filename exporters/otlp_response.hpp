// Reads what an OTLP backend answers, and words what people are told about it. A tiny reader of
// protobuf's wire format: three messages with a few fields each do not need generated code.
//
// Used by: otlp_grpc.cpp, otlp_http.cpp. Threads: any. Nothing that comes from the backend is
// trusted: what is shown is cut, and control characters in it are escaped.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace oteld::exporters {

// ExportTraceServiceResponse.partial_success
struct PartialSuccess {
    std::uint32_t rejected_spans = 0;
    std::string_view message;
};

// google.rpc.Status with RetryInfo, if that is among its details.
struct Status {
    std::int32_t code = 0;
    std::string_view message;
    std::optional<std::chrono::milliseconds> retry_delay;
};

// Nothing for what is not such a message. The views are into `bytes`.
[[nodiscard]] std::optional<PartialSuccess> parse_export_response(std::string_view bytes) noexcept;
[[nodiscard]] std::optional<Status> parse_status(std::string_view bytes) noexcept;

// The backend's own words, fit for one line of a terminal.
[[nodiscard]] std::string quoted(std::string_view words);

// What a partial success is told as; empty when there is nothing to tell.
[[nodiscard]] std::string partial_success_text(std::string_view endpoint,
                                               const PartialSuccess& partial);

}  // namespace oteld::exporters
