// Writes a batch into the tables of a trace store: origins, traces, spans.
//
// Used by: trace_store.cpp, within one transaction per batch. Threads: one at a time. Ends before
// its connection, which keeps what failed.
#pragma once

#include "exporters/exporter.hpp"
#include "exporters/sqlite.hpp"
#include "shm/span_view.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>

namespace oteld::exporters {

class TraceStoreWriter {
public:
    explicit TraceStoreWriter(Sqlite& db);

    // How many spans have the ids of another span and were left out.
    std::uint32_t write(const Batch& batch, std::uint64_t unix_ms);
    // A row of origins that was seen may be gone.
    void forget_origins() { origins_.clear(); }

private:
    // What one batch adds to one trace.
    struct TraceUpdate {
        std::int64_t row = 0;
        std::int64_t start_ns = INT64_MAX;
        std::int64_t end_ns = 0;
        std::int64_t spans = 0;
        std::int64_t errors = 0;
        std::int64_t unfinished = 0;
        bool has_root = false;
        std::int64_t name_start_ns = INT64_MAX;
        std::string_view name;  // Points into the batch.
        std::string service;
    };
    struct Origin {
        std::int64_t row = 0;
        std::string service;
    };

    void write_run(const SpanRun& run);
    void write_span(const shm::Span& span, std::string_view message, const Origin& origin);
    bool replaces(const shm::Span& span, std::string_view message, const TraceUpdate& trace);
    void write_trace_updates();
    Origin origin_of(const SpanRun& run);
    TraceUpdate& trace_of(std::string_view trace_id);

    Sqlite& db_;
    SqliteStatement find_origin_, add_origin_, count_origin_;
    SqliteStatement find_trace_, add_trace_, update_trace_, name_trace_, give_way_;
    SqliteStatement add_service_;
    SqliteStatement add_span_, find_span_, drop_span_;
    std::unordered_map<std::string, Origin> origins_;  // By everything that makes a run's origin.

    // Of the batch under way.
    std::int64_t unix_ms_ = 0;
    std::map<std::string_view, TraceUpdate> updates_;    // Keys point into it.
    std::map<std::int64_t, std::int64_t> origin_spans_;  // What it adds to or takes from an origin.
    std::uint32_t conflicting_ = 0;                      // Spans with the ids of another span.
};

}  // namespace oteld::exporters
