// Reads a trace store: which traces there are, and the spans of one.
//
// Used by: `oteld traces`. Threads: one at a time. Opens the file read-only, with or without a
// daemon that writes it; each call sees one consistent state. Never creates, repairs or locks out
// anything.
#pragma once

#include "config/result.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace oteld::exporters {

struct TraceFilter {
    std::string service;  // Empty: all. A trace in which this service took part.
    bool errors = false;  // Only traces with a span of status ERROR.
    std::uint64_t duration_ns_min = 0;
    std::uint64_t since_unix_ns = 0;  // Traces that started then or later.
    std::uint32_t limit = 20;         // 0: all.
};

struct TraceSummary {
    std::string trace_id;  // Bytes.
    std::uint64_t start_unix_ns = 0;
    std::uint64_t duration_ns = 0;  // From the first start to the last end of its spans.
    std::uint64_t spans = 0;
    std::uint64_t errors = 0;
    std::uint64_t unfinished = 0;
    std::uint64_t pruned = 0;  // Spans that were deleted to make room.
    bool has_root = false;     // Without one, name and service are those of the earliest span.
    std::string name;
    std::string service;
    std::vector<std::string> services;  // All of them, that of the root first.

    // Spans that failed, without those whose only error is that their process died.
    [[nodiscard]] std::uint64_t failed() const {
        return errors > unfinished ? errors - unfinished : 0;
    }
};

struct StoredSpan {
    std::string message;  // OTLP Span.
    std::string service;
    std::string resource;  // OTLP Resource.
    std::string scope;     // OTLP InstrumentationScope.
};

class TraceQuery {
public:
    // not_found: no store there yet. permission, corrupt, busy, unsupported: the message says what
    // to do.
    [[nodiscard]] static Result<TraceQuery> open(const std::string& path);
    ~TraceQuery();
    TraceQuery(TraceQuery&&) noexcept;
    TraceQuery& operator=(TraceQuery&&) noexcept;

    // Newest start first.
    [[nodiscard]] Result<std::vector<TraceSummary>> list(const TraceFilter& filter);
    // Traces whose id in hex begins like this (lower or upper case), at most `limit`, newest first.
    [[nodiscard]] Result<std::vector<TraceSummary>> find(const std::string& hex_prefix,
                                                         std::uint32_t limit);
    // The spans of a trace by start time, at most `limit` of them.
    [[nodiscard]] Result<std::vector<StoredSpan>> spans(const std::string& trace_id,
                                                        std::uint32_t limit);

private:
    struct State;
    explicit TraceQuery(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace oteld::exporters
