#include "exporters/trace_query.hpp"

#include "exporters/sqlite.hpp"
#include "exporters/trace_store_schema.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace oteld::exporters {

namespace {

constexpr int busy_ms = 2000;

constexpr char summary_columns[] =
    "SELECT trace_id, start_ns, end_ns - start_ns, spans, errors, unfinished, pruned, has_root, "
    "name, service, id "
    "FROM traces ";

// A path as a SQLite URI: what has a meaning there is escaped.
std::string uri_of(const std::string& path, const char* options) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string out = "file:";
    for (const char c : path) {
        if (c == '%' || c == '?' || c == '#') {
            out += '%';
            out += digits[static_cast<unsigned char>(c) >> 4];
            out += digits[c & 15];
        } else {
            out += c;
        }
    }
    return out + options;
}

Error error_of(const SqliteFailure& failure, const std::string& path) {
    const std::string store = "the trace store " + path;
    switch (failure.kind) {
        case SqliteFailure::Kind::damaged:
            return {ErrorCode::corrupt,
                    store + " is damaged (" + failure.text +
                        "); the daemon sets it aside and begins a new one with its next batch"};
        case SqliteFailure::Kind::busy:
            return {ErrorCode::busy, store + " is locked by another program; try again"};
        case SqliteFailure::Kind::permission:
        case SqliteFailure::Kind::cannot_open:
            return {ErrorCode::permission,
                    store + " cannot be read (" + failure.text +
                        "); run this as a member of the group that owns it, or as root"};
        default: return {ErrorCode::io, store + " cannot be read: " + failure.text};
    }
}

// As times are stored.
std::int64_t in_63_bits(std::uint64_t ns) {
    return static_cast<std::int64_t>(std::min<std::uint64_t>(ns, INT64_MAX));
}

std::uint64_t unsigned_at(const SqliteStatement& row, int column) {
    return static_cast<std::uint64_t>(row.number(column));
}

TraceSummary summary_of(const SqliteStatement& row) {
    TraceSummary trace;
    trace.trace_id = row.text(0);
    trace.start_unix_ns = unsigned_at(row, 1);
    trace.duration_ns = unsigned_at(row, 2);
    trace.spans = unsigned_at(row, 3);
    trace.errors = unsigned_at(row, 4);
    trace.unfinished = unsigned_at(row, 5);
    trace.pruned = unsigned_at(row, 6);
    trace.has_root = row.number(7) != 0;
    trace.name = row.text(8);
    trace.service = row.text(9);
    trace.services.push_back(trace.service);
    return trace;
}

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

// The ids with a prefix of hex digits lie between these two, the second excluded (empty: no end).
std::pair<std::string, std::string> id_range(const std::string& hex_prefix) {
    std::string first;
    for (std::size_t i = 0; i < hex_prefix.size(); i += 2) {
        const int high = hex_digit(hex_prefix[i]);
        const int low = i + 1 < hex_prefix.size() ? hex_digit(hex_prefix[i + 1]) : 0;
        first += static_cast<char>(high << 4 | low);
    }
    std::string last = first;
    int step = hex_prefix.size() % 2 == 1 ? 16 : 1;
    while (!last.empty()) {
        const int byte = static_cast<unsigned char>(last.back()) + step;
        if (byte < 256) {
            last.back() = static_cast<char>(byte);
            break;
        }
        last.pop_back();
        step = 1;
    }
    return {first, last};
}

}  // namespace

struct TraceQuery::State {
    std::string path;
    Sqlite db;
    std::atomic<bool> cancelled{false};

    // Ends the read transaction that makes several statements see one state.
    template <class Value>
    Result<Value> finish(Value value) {
        const bool good = !db.failed();
        const SqliteFailure failure = db.take_failure();
        db.run("ROLLBACK");
        (void)db.take_failure();
        if (!good) return error_of(failure, path);
        return value;
    }

    std::vector<TraceSummary> summaries(SqliteStatement& rows) {
        std::vector<TraceSummary> traces;
        SqliteStatement services(
            db, "SELECT service FROM trace_services WHERE trace = ? ORDER BY service");
        while (rows.step()) {
            TraceSummary& trace = traces.emplace_back(summary_of(rows));
            services.reset().bind(rows.number(10));
            while (services.step()) {
                if (services.text(0) != trace.service)
                    trace.services.emplace_back(services.text(0));
            }
        }
        return traces;
    }
};

TraceQuery::TraceQuery(std::unique_ptr<State> state) : state_(std::move(state)) {}
TraceQuery::~TraceQuery() = default;
TraceQuery::TraceQuery(TraceQuery&&) noexcept = default;
TraceQuery& TraceQuery::operator=(TraceQuery&&) noexcept = default;

Result<TraceQuery> TraceQuery::open(const std::string& path) {
    if (::access(path.c_str(), R_OK) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            return Error{ErrorCode::not_found, "there is no trace store at " + path};
        }
        return Error{ErrorCode::permission,
                     "the trace store " + path + " cannot be read (" + std::strerror(errno) +
                         "); run this as a member of the group that owns it, or as root"};
    }
    auto state = std::make_unique<State>();
    state->path = path;
    std::int64_t version = 0;
    // The second way is for a directory where this user may not create the log's index and no
    // daemon has left one.
    for (const char* options : {"?mode=ro", "?mode=ro&immutable=1"}) {
        if (options[8] != '\0' && ::access((path + "-wal").c_str(), F_OK) == 0) break;
        if (!state->db.open(uri_of(path, options), true)) continue;
        state->db.interrupt_when(state->cancelled, busy_ms);
        version = state->db.number("PRAGMA user_version");
        if (!state->db.failed() || state->db.failure().kind == SqliteFailure::Kind::damaged) break;
    }
    if (state->db.failed()) return error_of(state->db.failure(), path);
    if (version == 0)
        return Error{ErrorCode::not_found, "the trace store " + path + " is still empty"};
    if (version != trace_store_version) {
        return Error{ErrorCode::unsupported,
                     "the trace store " + path + " has version " + std::to_string(version) +
                         ", this oteld reads version " + std::to_string(trace_store_version) +
                         "; use the oteld that wrote it"};
    }
    return TraceQuery(std::move(state));
}

Result<std::vector<TraceSummary>> TraceQuery::list(const TraceFilter& filter) {
    State& state = *state_;
    state.db.run("BEGIN");
    const std::string sql =
        std::string(summary_columns) +
        "WHERE start_ns >= ? AND end_ns - start_ns >= ? AND errors >= ? AND (?4 = '' OR EXISTS("
        "SELECT 1 FROM trace_services WHERE trace = traces.id AND service = ?4)) AND spans > 0 "
        "ORDER BY start_ns DESC, id DESC LIMIT ?5";
    SqliteStatement rows(state.db, sql.c_str());
    rows.reset()
        .bind(in_63_bits(filter.since_unix_ns))
        .bind(in_63_bits(filter.duration_ns_min))
        .bind(filter.errors ? 1 : 0)
        .bind_text(filter.service)
        .bind(filter.limit == 0 ? -1 : static_cast<std::int64_t>(filter.limit));
    std::vector<TraceSummary> traces = state.summaries(rows);
    rows.reset();
    return state.finish(std::move(traces));
}

Result<std::vector<TraceSummary>> TraceQuery::find(const std::string& hex_prefix,
                                                   std::uint32_t limit) {
    for (const char c : hex_prefix) {
        if (hex_digit(c) < 0) {
            return Error{
                ErrorCode::invalid_argument,
                "\"" + hex_prefix + "\" is no trace id: give its first hexadecimal digits"};
        }
    }
    State& state = *state_;
    const auto [first, last] = id_range(hex_prefix);
    state.db.run("BEGIN");
    const std::string sql = std::string(summary_columns) +
                            "WHERE trace_id >= ?1 AND (?2 = x'' OR trace_id < ?2) AND spans > 0 "
                            "ORDER BY start_ns DESC LIMIT ?3";
    SqliteStatement rows(state.db, sql.c_str());
    rows.reset().bind_blob(first).bind_blob(last).bind(limit);
    std::vector<TraceSummary> traces = state.summaries(rows);
    rows.reset();
    return state.finish(std::move(traces));
}

Result<std::vector<StoredSpan>> TraceQuery::spans(const std::string& trace_id,
                                                  std::uint32_t limit) {
    State& state = *state_;
    state.db.run("BEGIN");
    SqliteStatement rows(
        state.db,
        "SELECT message, spans.service, resource, scope FROM spans JOIN origins ON "
        "origins.id = spans.origin WHERE trace = (SELECT id FROM traces WHERE trace_id = ?) "
        "ORDER BY start_ns, spans.id LIMIT ?");
    rows.reset().bind_blob(trace_id).bind(limit);
    std::vector<StoredSpan> spans;
    while (rows.step()) {
        spans.push_back({std::string(rows.text(0)), std::string(rows.text(1)),
                         std::string(rows.text(2)), std::string(rows.text(3))});
    }
    rows.reset();
    return state.finish(std::move(spans));
}

}  // namespace oteld::exporters
