// Keeps a trace store within its size and its age: the traces that grew longest ago go first.
//
// Used by: trace_store.cpp, with each batch. Threads: one at a time. Ends before its connection,
// which keeps what failed.
#pragma once

#include "config/settings.hpp"
#include "exporters/sqlite.hpp"

#include <cstdint>
#include <map>

namespace oteld::exporters {

class TraceStoreBounds {
public:
    TraceStoreBounds(Sqlite& db, const config::TraceStore& settings);

    // Within the batch's transaction. True when traces are gone, and origins perhaps with them.
    bool prune(std::uint64_t unix_ms);
    // After it. Free pages are used again; they go back to the file system only when the file is
    // above its bound (a setting that was lowered, a burst).
    void give_back_pages();

private:
    void prune_step(std::int64_t trace);
    [[nodiscard]] std::uint64_t live_bytes();
    [[nodiscard]] std::uint64_t bytes_of(SqliteStatement& pages) const;

    Sqlite& db_;
    const config::TraceStore settings_;
    SqliteStatement oldest_trace_, prune_spans_, note_pruned_, drop_trace_, drop_services_;
    SqliteStatement count_origin_, drop_origins_;
    SqliteStatement pages_, free_pages_;
    std::int64_t page_bytes_;
    std::map<std::int64_t, std::int64_t> origin_spans_;  // What pruning takes from an origin.
};

}  // namespace oteld::exporters
