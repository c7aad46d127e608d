// The one interface behind which each destination lives, and the view of spans that it is given.
//
// Used by: daemon/batch (calls it), one class per destination (implements it), modules (create it).
// Threads: `send` is called by one thread of the daemon at a time per exporter object; `cancel`
// from any thread. An exporter never retries, never queues, never counts: it makes one request and
// says how it ended. Retry, queueing and the ledger are decided outside (delivery.hpp,
// daemon/batch), the same for all.
#pragma once

#include "config/result.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace oteld::exporters {

// Consecutive spans of one resource and one scope. All views point into the spool and stay valid
// until the batch is settled, which never happens before `send` has returned.
struct SpanRun {
    std::string_view resource;  // An OTLP Resource message.
    std::string_view resource_schema_url;
    std::string_view scope;  // An OTLP InstrumentationScope message.
    std::string_view scope_schema_url;
    std::string_view
        frames;  // Whole `ScopeSpans.spans` fields: {0x12, varint length, Span message} each.
    std::uint32_t spans;
};

struct Batch {
    std::span<const SpanRun> runs;
    std::uint32_t spans;
    std::uint64_t bytes;  // Sum of frames.
};

// Why spans were rejected; names appear in `oteld status`. The spool stores one count per reason.
// Append none.
enum class RejectReason : std::uint8_t {
    refused = 0,    // The backend said no for good (HTTP 400, gRPC INVALID_ARGUMENT ...).
    partial = 1,    // Partial success: the backend took the rest.
    expired = 2,    // Retried until max_elapsed_time.
    too_large = 3,  // A single span above the request limit.
    discarded = 4,  // The exporter was removed from the configuration, or its destination is broken
                    // for good.
};
inline constexpr std::size_t reject_reasons = 5;
[[nodiscard]] std::string_view to_string(RejectReason reason) noexcept;

struct SendResult {
    enum class Outcome : std::uint8_t { delivered, retry_after, rejected };
    Outcome outcome = Outcome::delivered;
    RejectReason reason = RejectReason::refused;  // When rejected.
    std::uint32_t rejected_spans = 0;             // When delivered with partial success.
    std::optional<std::chrono::milliseconds>
        wait;             // When retry_after and the backend named a time (throttled).
    std::string message;  // For people: what went wrong or what the backend warns of; may be empty.
    std::uint64_t request_bytes = 0;  // As sent, after compression.
};

class Exporter {
public:
    virtual ~Exporter() = default;
    // One request. Blocks up to the exporter's own timeout. Throws nothing but std::bad_alloc,
    // which is tried again as retry_after is.
    [[nodiscard]] virtual SendResult send(const Batch& batch) = 0;
    // Makes a running `send` return soon with retry_after, and later ones at once. Safe twice, from
    // any thread.
    virtual void cancel() noexcept = 0;
};

}  // namespace oteld::exporters
