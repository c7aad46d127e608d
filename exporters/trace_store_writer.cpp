#include "exporters/trace_store_writer.hpp"

#include "exporters/text.hpp"
#include "exporters/trace_store_schema.hpp"

#include <algorithm>
#include <utility>

namespace oteld::exporters {

namespace {

constexpr std::size_t origins_cached_max = 1024;

std::int64_t clamped(std::uint64_t unix_ns) {
    return static_cast<std::int64_t>(std::min<std::uint64_t>(unix_ns, INT64_MAX));
}

}  // namespace

TraceStoreWriter::TraceStoreWriter(Sqlite& db)
    : db_(db),
      find_origin_(db,
                   "SELECT id, service FROM origins WHERE resource = ? AND scope = ? "
                   "AND resource_schema_url = ? AND scope_schema_url = ?"),
      add_origin_(db,
                  "INSERT INTO origins(resource, scope, resource_schema_url, scope_schema_url, "
                  "service) VALUES(?, ?, ?, ?, ?)"),
      count_origin_(db, count_origin_sql),
      find_trace_(db, "SELECT id FROM traces WHERE trace_id = ?"),
      add_trace_(
          db,
          "INSERT INTO traces(trace_id, start_ns, end_ns, spans, errors, unfinished, "
          "pruned, has_root, name_start_ns, name, service, updated_ms) "
          "VALUES(?, 9223372036854775807, 0, 0, 0, 0, 0, 0, 9223372036854775807, '', '', ?)"),
      update_trace_(db,
                    "UPDATE traces SET start_ns = min(start_ns, ?), end_ns = max(end_ns, ?), "
                    "spans = spans + ?, errors = errors + ?, unfinished = unfinished + ?, "
                    "updated_ms = ? WHERE id = ?"),
      name_trace_(db,
                  "UPDATE traces SET has_root = ?1, name_start_ns = ?2, name = ?3, service = ?4 "
                  "WHERE id = ?5 "
                  "AND (?1 > has_root OR (?1 = has_root AND ?2 < name_start_ns))"),
      give_way_(db,
                "UPDATE traces SET spans = spans - 1, errors = errors - ?1, "
                "unfinished = unfinished - 1 WHERE id = ?2"),
      add_service_(db, "INSERT OR IGNORE INTO trace_services(trace, service) VALUES(?, ?)"),
      add_span_(db,
                "INSERT INTO spans(trace, span_id, parent_id, origin, service, name, start_ns, "
                "duration_ns, status, error, unfinished, message) "
                "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT(trace, span_id) DO NOTHING"),
      find_span_(db,
                 "SELECT id, unfinished, error, origin, message = ? FROM spans "
                 "WHERE trace = ? AND span_id = ?"),
      drop_span_(db, "DELETE FROM spans WHERE id = ?") {}

std::uint32_t TraceStoreWriter::write(const Batch& batch, std::uint64_t unix_ms) {
    unix_ms_ = static_cast<std::int64_t>(unix_ms);
    updates_.clear();
    origin_spans_.clear();
    conflicting_ = 0;
    for (const SpanRun& run : batch.runs) {
        if (db_.failed()) break;
        write_run(run);
    }
    if (!db_.failed()) write_trace_updates();
    updates_.clear();
    return conflicting_;
}

void TraceStoreWriter::write_run(const SpanRun& run) {
    const Origin origin = origin_of(run);
    shm::FrameReader frames(run.frames);
    for (shm::Frame frame; !db_.failed() && frames.next(frame);) {
        write_span(shm::Span(frame.span), frame.span, origin);
    }
}

void TraceStoreWriter::write_span(const shm::Span& span, std::string_view message,
                                  const Origin& origin) {
    TraceUpdate& trace = trace_of(span.trace_id);
    const std::int64_t start = clamped(span.start_unix_ns);
    const std::int64_t end = std::max(clamped(span.end_unix_ns), start);
    const bool error = span.status_code == 2;
    const bool unfinished = is_unfinished(span);
    const auto insert = [&] {
        add_span_.reset()
            .bind(trace.row)
            .bind_blob(span.span_id)
            .bind_blob(span.parent_span_id)
            .bind(origin.row)
            .bind_text(origin.service)
            .bind_text(span.name)
            .bind(start)
            .bind(end - start)
            .bind(span.status_code)
            .bind(error ? 1 : 0)
            .bind(unfinished ? 1 : 0)
            .bind_blob(message)
            .execute();
        return !db_.failed() && db_.changes() != 0;
    };
    if (!insert() && (db_.failed() || !replaces(span, message, trace) || !insert())) return;
    origin_spans_[origin.row] += 1;
    trace.start_ns = std::min(trace.start_ns, start);
    trace.end_ns = std::max(trace.end_ns, end);
    trace.spans += 1;
    trace.errors += error ? 1 : 0;
    trace.unfinished += unfinished ? 1 : 0;
    const bool is_root = span.parent_span_id.empty();
    if (is_root > trace.has_root || (is_root == trace.has_root && start < trace.name_start_ns)) {
        trace.has_root = is_root;
        trace.name_start_ns = start;
        trace.name = span.name;
        trace.service = origin.service;
    }
    add_service_.reset().bind(trace.row).bind_text(origin.service).execute();
}

// A span with these ids is there. The same one: it came again. One that was recovered as unfinished
// gives way to the finished one. Anything else is another span with the same ids, which cannot be
// stored and is counted.
bool TraceStoreWriter::replaces(const shm::Span& span, std::string_view message,
                                const TraceUpdate& trace) {
    find_span_.reset().bind_blob(message).bind(trace.row).bind_blob(span.span_id);
    if (!find_span_.step()) return false;
    const std::int64_t row = find_span_.number(0);
    const bool was_unfinished = find_span_.number(1) != 0;
    const bool was_error = find_span_.number(2) != 0;
    const std::int64_t origin = find_span_.number(3);
    const bool same = find_span_.number(4) != 0;
    find_span_.reset();
    if (same) return false;
    if (!was_unfinished) {
        ++conflicting_;
        return false;
    }
    if (is_unfinished(span)) return false;
    drop_span_.reset().bind(row).execute();
    give_way_.reset().bind(was_error ? 1 : 0).bind(trace.row).execute();
    origin_spans_[origin] -= 1;
    return !db_.failed();
}

void TraceStoreWriter::write_trace_updates() {
    for (const auto& [id, trace] : updates_) {
        if (trace.spans == 0) continue;
        update_trace_.reset()
            .bind(trace.start_ns)
            .bind(trace.end_ns)
            .bind(trace.spans)
            .bind(trace.errors)
            .bind(trace.unfinished)
            .bind(unix_ms_)
            .bind(trace.row)
            .execute();
        name_trace_.reset()
            .bind(trace.has_root ? 1 : 0)
            .bind(trace.name_start_ns)
            .bind_text(trace.name)
            .bind_text(trace.service)
            .bind(trace.row)
            .execute();
    }
    for (const auto& [row, spans] : origin_spans_)
        count_origin_.reset().bind(spans).bind(row).execute();
}

TraceStoreWriter::Origin TraceStoreWriter::origin_of(const SpanRun& run) {
    std::string key;
    for (const std::string_view part :
         {run.resource, run.scope, run.resource_schema_url, run.scope_schema_url}) {
        key.append(std::to_string(part.size())).append(":").append(part);
    }
    if (const auto found = origins_.find(key); found != origins_.end()) return found->second;

    Origin origin;
    find_origin_.reset().bind_blob(run.resource).bind_blob(run.scope);
    find_origin_.bind_text(run.resource_schema_url).bind_text(run.scope_schema_url);
    if (find_origin_.step()) {
        origin = {find_origin_.number(0), std::string(find_origin_.text(1))};
    } else {
        origin.service = shm::Resource(run.resource).attribute("service.name").text();
        add_origin_.reset().bind_blob(run.resource).bind_blob(run.scope);
        add_origin_.bind_text(run.resource_schema_url)
            .bind_text(run.scope_schema_url)
            .bind_text(origin.service)
            .execute();
        origin.row = db_.last_row();
    }
    find_origin_.reset();
    if (origins_.size() >= origins_cached_max) origins_.clear();
    if (!db_.failed()) origins_.emplace(std::move(key), origin);
    return origin;
}

TraceStoreWriter::TraceUpdate& TraceStoreWriter::trace_of(std::string_view trace_id) {
    TraceUpdate& trace = updates_[trace_id];
    if (trace.row != 0) return trace;
    if (find_trace_.reset().bind_blob(trace_id).step()) {
        trace.row = find_trace_.number(0);
    } else {
        add_trace_.reset().bind_blob(trace_id).bind(unix_ms_).execute();
        trace.row = db_.last_row();
    }
    find_trace_.reset();
    return trace;
}

}  // namespace oteld::exporters
