#include "exporters/trace_store_bounds.hpp"

#include "exporters/trace_store_schema.hpp"

#include <algorithm>
#include <chrono>

namespace oteld::exporters {

namespace {

constexpr std::int64_t prune_step_spans = 4096;
// Pruned ahead, so that not every batch prunes.
constexpr std::uint64_t prune_reserve_bytes_max = 8ULL << 20;

}  // namespace

TraceStoreBounds::TraceStoreBounds(Sqlite& db, const config::TraceStore& settings)
    : db_(db),
      settings_(settings),
      oldest_trace_(db, "SELECT id, updated_ms FROM traces ORDER BY updated_ms, id LIMIT 1"),
      prune_spans_(db,
                   "DELETE FROM spans WHERE id IN "
                   "(SELECT id FROM spans WHERE trace = ? ORDER BY id LIMIT ?) "
                   "RETURNING origin, error, unfinished"),
      note_pruned_(db,
                   "UPDATE traces SET spans = spans - ?1, pruned = pruned + ?1, "
                   "errors = errors - ?2, unfinished = unfinished - ?3 WHERE id = ?4"),
      drop_trace_(db, "DELETE FROM traces WHERE id = ?"),
      drop_services_(db, "DELETE FROM trace_services WHERE trace = ?"),
      count_origin_(db, count_origin_sql),
      drop_origins_(db, "DELETE FROM origins WHERE spans <= 0"),
      pages_(db, "PRAGMA page_count"),
      free_pages_(db, "PRAGMA freelist_count"),
      page_bytes_(db.number("PRAGMA page_size", 4096)) {}

bool TraceStoreBounds::prune(std::uint64_t unix_ms) {
    const std::uint64_t reserve = std::min(settings_.bytes_max / 8, prune_reserve_bytes_max);
    const auto age_max_ms =
        static_cast<std::int64_t>(std::chrono::milliseconds(settings_.age_max).count());
    const std::int64_t oldest_kept_ms =
        age_max_ms > 0 ? static_cast<std::int64_t>(unix_ms) - age_max_ms : INT64_MIN;
    const bool too_large = live_bytes() > settings_.bytes_max - reserve / 2;
    bool pruned = false;
    origin_spans_.clear();
    while (!db_.failed()) {
        const bool any = oldest_trace_.reset().step();
        const std::int64_t trace = any ? oldest_trace_.number(0) : 0;
        const bool too_old = any && oldest_trace_.number(1) < oldest_kept_ms;
        oldest_trace_.reset();
        if (!any || (!too_old && !(too_large && live_bytes() > settings_.bytes_max - reserve)))
            break;
        pruned = true;
        prune_step(trace);
    }
    if (!pruned || db_.failed()) return pruned;
    for (const auto& [row, spans] : origin_spans_)
        count_origin_.reset().bind(spans).bind(row).execute();
    drop_origins_.reset().execute();
    return true;
}

// A trace goes whole; one with very many spans goes in steps, its first spans first.
void TraceStoreBounds::prune_step(std::int64_t trace) {
    std::int64_t spans = 0;
    std::int64_t errors = 0;
    std::int64_t unfinished = 0;
    prune_spans_.reset().bind(trace).bind(prune_step_spans);
    while (prune_spans_.step()) {
        origin_spans_[prune_spans_.number(0)] -= 1;
        spans += 1;
        errors += prune_spans_.number(1);
        unfinished += prune_spans_.number(2);
    }
    prune_spans_.reset();
    if (spans == prune_step_spans) {
        note_pruned_.reset().bind(spans).bind(errors).bind(unfinished).bind(trace).execute();
        return;
    }
    drop_services_.reset().bind(trace).execute();
    drop_trace_.reset().bind(trace).execute();
}

void TraceStoreBounds::give_back_pages() {
    const std::uint64_t bytes = bytes_of(pages_);
    if (bytes <= settings_.bytes_max) return;
    const std::uint64_t pages =
        (bytes - settings_.bytes_max) / static_cast<std::uint64_t>(page_bytes_) + 1;
    db_.run(("PRAGMA incremental_vacuum(" + std::to_string(pages) + ")").c_str());
}

std::uint64_t TraceStoreBounds::live_bytes() {
    const std::uint64_t free = bytes_of(free_pages_);
    return bytes_of(pages_) - free;
}

std::uint64_t TraceStoreBounds::bytes_of(SqliteStatement& pages) const {
    const std::int64_t bytes = pages.reset().step() ? pages.number(0) * page_bytes_ : 0;
    pages.reset();
    return static_cast<std::uint64_t>(bytes);
}

}  // namespace oteld::exporters
