// How a request over OTLP ended: the specification's retry tables, and sentences for people that
// name the endpoint, the cause and what to do.
//
// Used by: otlp_grpc.cpp, otlp_http.cpp. Threads: any. Knows no network library: codes and texts
// come in.
#pragma once

#include "exporters/exporter.hpp"
#include "exporters/otlp_response.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace oteld::exporters {

// https://opentelemetry.io/docs/specs/otlp/#failures
[[nodiscard]] bool grpc_code_is_retryable(int code, bool has_retry_info) noexcept;
[[nodiscard]] bool http_code_is_retryable(int code) noexcept;
[[nodiscard]] std::string grpc_code_name(int code);

// The request was answered with success; `response` is the uncompressed answer.
[[nodiscard]] SendResult outcome_of_success(std::string_view endpoint, std::string_view response);

// `text` is what gRPC or the backend said; `status` what lay in grpc-status-details-bin.
[[nodiscard]] SendResult outcome_of_grpc_failure(std::string_view endpoint, int code,
                                                 std::string_view text,
                                                 const std::optional<Status>& status);

struct HttpFailure {
    int code = 0;
    std::string_view content_type;
    std::string_view body;
    std::string_view location;
    std::optional<std::chrono::milliseconds> retry_after;
};
[[nodiscard]] SendResult outcome_of_http_failure(std::string_view endpoint,
                                                 const HttpFailure& failure);

// No answer: try again. `cause` is the network library's; known causes gain what to do about them.
[[nodiscard]] SendResult outcome_of_no_answer(std::string_view endpoint, std::string_view cause);
// True when `cause` alone says what to do, and nobody needs to look further.
[[nodiscard]] bool cause_is_known(std::string_view cause);
[[nodiscard]] SendResult outcome_of_timeout(std::string_view endpoint,
                                            std::chrono::milliseconds timeout);
[[nodiscard]] SendResult outcome_of_cancel(std::string_view endpoint);

[[nodiscard]] SendResult outcome_of_too_large(std::uint64_t bytes, std::uint64_t bytes_max);
[[nodiscard]] SendResult outcome_of_large_response(std::string_view endpoint,
                                                   std::uint64_t bytes_max);

}  // namespace oteld::exporters
