#include "exporters/trace_store.hpp"

#include "exporters/sqlite.hpp"
#include "exporters/text.hpp"
#include "exporters/trace_store_schema.hpp"
#include "shm/span_view.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

namespace oteld::exporters {

namespace {

using Outcome = SendResult::Outcome;
using Kind = SqliteFailure::Kind;

constexpr int busy_ms = 2000;
constexpr std::size_t origins_cached_max = 1024;
constexpr std::int64_t prune_step_spans = 4096;
constexpr std::uint64_t prune_reserve_bytes_max =
    8ULL << 20;  // Pruned ahead, so that not every batch prunes.
constexpr std::uint64_t wal_bytes_max =
    64ULL << 20;  // Beyond it somebody's read transaction holds the log.
constexpr std::size_t damaged_files_kept = 2;

std::int64_t clamped(std::uint64_t unix_ns) {
    return static_cast<std::int64_t>(std::min<std::uint64_t>(unix_ns, INT64_MAX));
}

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

// The statements of one open store. Ends before its connection.
struct Statements {
    explicit Statements(Sqlite& db)
        : find_origin(db,
                      "SELECT id, service FROM origins WHERE resource = ? AND scope = ? AND "
                      "resource_schema_url = ? "
                      "AND scope_schema_url = ?"),
          add_origin(db,
                     "INSERT INTO origins(resource, scope, resource_schema_url, scope_schema_url, "
                     "service) "
                     "VALUES(?, ?, ?, ?, ?)"),
          count_origin(db, "UPDATE origins SET spans = spans + ? WHERE id = ?"),
          drop_origins(db, "DELETE FROM origins WHERE spans <= 0"),
          find_trace(db, "SELECT id FROM traces WHERE trace_id = ?"),
          add_trace(db,
                    "INSERT INTO traces(trace_id, start_ns, end_ns, spans, errors, unfinished, "
                    "pruned, has_root, "
                    "name_start_ns, name, service, updated_ms) VALUES(?, 9223372036854775807, 0, "
                    "0, 0, 0, 0, 0, "
                    "9223372036854775807, '', '', ?)"),
          update_trace(
              db,
              "UPDATE traces SET start_ns = min(start_ns, ?), end_ns = max(end_ns, ?), spans = "
              "spans + ?, "
              "errors = errors + ?, unfinished = unfinished + ?, updated_ms = ? WHERE id = ?"),
          name_trace(db,
                     "UPDATE traces SET has_root = ?1, name_start_ns = ?2, name = ?3, service = ?4 "
                     "WHERE id = ?5 "
                     "AND (?1 > has_root OR (?1 = has_root AND ?2 < name_start_ns))"),
          add_service(db, "INSERT OR IGNORE INTO trace_services(trace, service) VALUES(?, ?)"),
          add_span(db,
                   "INSERT INTO spans(trace, span_id, parent_id, origin, service, name, start_ns, "
                   "duration_ns, "
                   "status, error, unfinished, message) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                   "ON CONFLICT(trace, span_id) DO NOTHING"),
          find_span(db,
                    "SELECT id, unfinished, error, origin, message = ? FROM spans WHERE trace = ? "
                    "AND span_id = ?"),
          drop_span(db, "DELETE FROM spans WHERE id = ?"),
          oldest_trace(db, "SELECT id, updated_ms FROM traces ORDER BY updated_ms, id LIMIT 1"),
          prune_spans(db,
                      "DELETE FROM spans WHERE id IN (SELECT id FROM spans WHERE trace = ? ORDER "
                      "BY id LIMIT ?) "
                      "RETURNING origin, error, unfinished"),
          note_pruned(
              db,
              "UPDATE traces SET spans = spans - ?1, pruned = pruned + ?1, errors = errors - ?2, "
              "unfinished = unfinished - ?3 WHERE id = ?4"),
          drop_trace(db, "DELETE FROM traces WHERE id = ?"),
          drop_services(db, "DELETE FROM trace_services WHERE trace = ?"),
          pages(db, "PRAGMA page_count"),
          free_pages(db, "PRAGMA freelist_count"),
          page_bytes(db.number("PRAGMA page_size", 4096)) {}

    SqliteStatement find_origin, add_origin, count_origin, drop_origins;
    SqliteStatement find_trace, add_trace, update_trace, name_trace, add_service;
    SqliteStatement add_span, find_span, drop_span;
    SqliteStatement oldest_trace, prune_spans, note_pruned, drop_trace, drop_services;
    SqliteStatement pages, free_pages;
    std::int64_t page_bytes;
};

class TraceStore final : public Exporter {
public:
    TraceStore(const config::TraceStore& settings, std::string path, UnixMs now)
        : settings_(settings), path_(std::move(path)), now_(std::move(now)) {
        settings_.bytes_max = std::max(settings_.bytes_max, trace_store_bytes_min);
    }
    ~TraceStore() override { close(); }

    SendResult send(const Batch& batch) override;
    void cancel() noexcept override { cancelled_.store(true, std::memory_order_relaxed); }

private:
    std::string open();
    std::string create_file();
    std::string prepare();
    void close() noexcept;

    std::optional<SendResult> write(const Batch& batch);
    void write_run(const SpanRun& run);
    void write_span(const shm::Span& span, std::string_view message, const Origin& origin);
    bool replaces(const shm::Span& span, std::string_view message, const TraceUpdate& trace);
    void write_trace_updates();
    Origin origin_of(const SpanRun& run);
    TraceUpdate& trace_of(std::string_view trace_id);

    void prune();
    bool prune_step(std::int64_t trace);
    [[nodiscard]] std::uint64_t file_bytes();
    [[nodiscard]] std::uint64_t live_bytes();
    void give_back_pages();
    [[nodiscard]] bool log_is_held();

    SendResult failed(const SqliteFailure& failure);
    std::string set_aside();
    [[nodiscard]] std::string failure_text(const SqliteFailure& failure) const;
    [[nodiscard]] bool at_file_size_limit() const;
    static SendResult retry(std::string message) {
        return {.outcome = Outcome::retry_after, .message = std::move(message)};
    }

    config::TraceStore settings_;
    std::string path_;
    UnixMs now_;
    Sqlite db_;
    std::optional<Statements> statements_;
    std::unordered_map<std::string, Origin> origins_;  // By everything that makes a run's origin.
    std::map<std::string_view, TraceUpdate>
        updates_;  // Of the batch under way; keys point into it.
    std::map<std::int64_t, std::int64_t>
        origin_spans_;               // Spans that the batch adds to or takes from an origin.
    std::uint32_t conflicting_ = 0;  // Spans with the ids of another span.
    std::string notice_;             // What the next delivered result says.
    std::atomic<bool> cancelled_{false};
};

SendResult TraceStore::send(const Batch& batch) {
    if (cancelled_.load(std::memory_order_relaxed)) return retry("Cancelled.");
    if (db_.is_open() && db_.has_moved()) close();
    // Twice: a damaged file is set aside, and the batch goes into the new one.
    for (int attempt = 0;; ++attempt) {
        const std::string problem = open();
        if (problem.empty() && !db_.failed()) {
            if (log_is_held()) {
                return retry("The write-ahead log of " + path_ +
                             " grows because another program holds a read open: "
                             "close it (fuser " +
                             path_ + " names it).");
            }
            if (auto result = write(batch)) return std::move(*result);
        }
        if (!problem.empty() && !db_.failed()) return retry(problem);
        const SqliteFailure failure = db_.take_failure();
        if (failure.kind != Kind::damaged || attempt > 0) return failed(failure);
        const std::string kept = set_aside();
        if (!kept.empty()) return retry(kept);
    }
}

// ---- Opening ----

std::string TraceStore::open() {
    if (db_.is_open()) return {};
    if (std::string problem = create_file(); !problem.empty()) return problem;
    if (!db_.open(path_, false)) return failure_text(db_.failure());
    db_.interrupt_when(cancelled_, busy_ms);
    return prepare();
}

// Made here and not by SQLite, for its mode: spans are for the daemon's group, not for the world.
std::string TraceStore::create_file() {
    const int fd =
        ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
    const int error = errno;
    if (fd >= 0) {
        struct stat status {};
        const bool regular = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
        ::close(fd);
        return regular ? std::string()
                       : path_ + " is no regular file: move it away or set trace_store.path.";
    }
    if (error == ENOENT || error == ENOTDIR) {
        return "The directory of the trace store " + path_ +
               " does not exist: create it, or set trace_store.path.";
    }
    SqliteFailure failure;
    failure.error_number = error;
    failure.text = std::strerror(error);
    failure.kind = error == ENOSPC || error == EDQUOT                    ? Kind::full
                   : error == EACCES || error == EPERM || error == EROFS ? Kind::permission
                                                                         : Kind::cannot_open;
    return failure_text(failure);
}

std::string TraceStore::prepare() {
    // auto_vacuum must come before the first table; both pragmas are no-ops on a file that has
    // tables.
    db_.run(
        "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
        "PRAGMA temp_store=MEMORY; PRAGMA cache_size=-2048; PRAGMA journal_size_limit=8388608;");
    db_.keep_wal_files();
    const std::int64_t version = db_.number("PRAGMA user_version");
    if (db_.failed()) return failure_text(db_.failure());
    if (version == 0) {
        if (db_.number("SELECT count(*) FROM sqlite_master") != 0) {
            close();
            return path_ + " is another program's database: move it away or set trace_store.path.";
        }
        const std::string marks =
            "PRAGMA application_id=" + std::to_string(trace_store_application) +
            "; PRAGMA user_version=" + std::to_string(trace_store_version) + "; COMMIT;";
        if (!db_.run("BEGIN IMMEDIATE") || !db_.run(trace_store_schema) ||
            !db_.run(marks.c_str())) {
            return failure_text(db_.failure());
        }
    } else if (version != trace_store_version) {
        close();
        return path_ + " was written by another version of oteld (store version " +
               std::to_string(version) + ", this one writes " +
               std::to_string(trace_store_version) + "): move it away.";
    }
    statements_.emplace(db_);
    return db_.failed() ? failure_text(db_.failure()) : std::string();
}

void TraceStore::close() noexcept {
    statements_.reset();
    origins_.clear();
    db_.close();
}

// ---- Writing ----

std::optional<SendResult> TraceStore::write(const Batch& batch) {
    updates_.clear();
    origin_spans_.clear();
    conflicting_ = 0;
    db_.run("BEGIN IMMEDIATE");
    for (const SpanRun& run : batch.runs) {
        if (db_.failed()) break;
        write_run(run);
    }
    if (!db_.failed()) write_trace_updates();
    if (!db_.failed()) prune();
    if (!db_.failed()) db_.run("COMMIT");
    updates_.clear();
    if (db_.failed()) return std::nullopt;
    give_back_pages();
    (void)db_.take_failure();  // The batch is in; a page that could not be given back is tried
                               // again next time.

    SendResult result{.rejected_spans = conflicting_,
                      .message = std::exchange(notice_, {}),
                      .request_bytes = batch.bytes};
    if (conflicting_ != 0) {
        result.reason = RejectReason::partial;
        if (!result.message.empty()) result.message += ' ';
        result.message +=
            std::to_string(conflicting_) +
            " spans have the trace and span id of another span in the store: ids must be unique.";
    }
    return result;
}

void TraceStore::write_run(const SpanRun& run) {
    const Origin origin = origin_of(run);
    shm::FrameReader frames(run.frames);
    for (shm::Frame frame; !db_.failed() && frames.next(frame);) {
        write_span(shm::Span(frame.span), frame.span, origin);
    }
}

void TraceStore::write_span(const shm::Span& span, std::string_view message, const Origin& origin) {
    TraceUpdate& trace = trace_of(span.trace_id);
    const std::int64_t start = clamped(span.start_unix_ns);
    const std::int64_t end = std::max(clamped(span.end_unix_ns), start);
    const bool error = span.status_code == 2;
    const bool unfinished = is_unfinished(span);
    const auto insert = [&] {
        statements_->add_span.reset()
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
    statements_->add_service.reset().bind(trace.row).bind_text(origin.service).execute();
}

// A span with these ids is there. The same one: it came again. One that was recovered as unfinished
// gives way to the finished one. Anything else is another span with the same ids, which cannot be
// stored and is counted.
bool TraceStore::replaces(const shm::Span& span, std::string_view message,
                          const TraceUpdate& trace) {
    SqliteStatement& find = statements_->find_span;
    find.reset().bind_blob(message).bind(trace.row).bind_blob(span.span_id);
    if (!find.step()) return false;
    const std::int64_t row = find.number(0);
    const bool was_unfinished = find.number(1) != 0;
    const bool was_error = find.number(2) != 0;
    const std::int64_t origin = find.number(3);
    const bool same = find.number(4) != 0;
    find.reset();
    if (same) return false;
    if (!was_unfinished) {
        ++conflicting_;
        return false;
    }
    if (is_unfinished(span)) return false;
    statements_->drop_span.reset().bind(row).execute();
    statements_->note_pruned.reset()
        .bind(1)
        .bind(was_error ? 1 : 0)
        .bind(1)
        .bind(trace.row)
        .execute();
    origin_spans_[origin] -= 1;
    return !db_.failed();
}

void TraceStore::write_trace_updates() {
    const auto now = static_cast<std::int64_t>(now_());
    for (const auto& [id, trace] : updates_) {
        if (trace.spans == 0) continue;
        statements_->update_trace.reset()
            .bind(trace.start_ns)
            .bind(trace.end_ns)
            .bind(trace.spans)
            .bind(trace.errors)
            .bind(trace.unfinished)
            .bind(now)
            .bind(trace.row)
            .execute();
        statements_->name_trace.reset()
            .bind(trace.has_root ? 1 : 0)
            .bind(trace.name_start_ns)
            .bind_text(trace.name)
            .bind_text(trace.service)
            .bind(trace.row)
            .execute();
    }
    for (const auto& [row, spans] : origin_spans_)
        statements_->count_origin.reset().bind(spans).bind(row).execute();
}

Origin TraceStore::origin_of(const SpanRun& run) {
    std::string key;
    for (const std::string_view part :
         {run.resource, run.scope, run.resource_schema_url, run.scope_schema_url}) {
        key.append(std::to_string(part.size())).append(":").append(part);
    }
    if (const auto found = origins_.find(key); found != origins_.end()) return found->second;

    Origin origin;
    SqliteStatement& find = statements_->find_origin;
    find.reset().bind_blob(run.resource).bind_blob(run.scope);
    find.bind_text(run.resource_schema_url).bind_text(run.scope_schema_url);
    if (find.step()) {
        origin = {find.number(0), std::string(find.text(1))};
    } else {
        origin.service = shm::Resource(run.resource).attribute("service.name").text();
        SqliteStatement& add = statements_->add_origin;
        add.reset().bind_blob(run.resource).bind_blob(run.scope);
        add.bind_text(run.resource_schema_url)
            .bind_text(run.scope_schema_url)
            .bind_text(origin.service)
            .execute();
        origin.row = db_.last_row();
    }
    find.reset();
    if (origins_.size() >= origins_cached_max) origins_.clear();
    if (!db_.failed()) origins_.emplace(std::move(key), origin);
    return origin;
}

TraceUpdate& TraceStore::trace_of(std::string_view trace_id) {
    TraceUpdate& trace = updates_[trace_id];
    if (trace.row != 0) return trace;
    SqliteStatement& find = statements_->find_trace;
    if (find.reset().bind_blob(trace_id).step()) {
        trace.row = find.number(0);
    } else {
        statements_->add_trace.reset()
            .bind_blob(trace_id)
            .bind(static_cast<std::int64_t>(now_()))
            .execute();
        trace.row = db_.last_row();
    }
    find.reset();
    return trace;
}

// ---- Bounds ----

void TraceStore::prune() {
    const std::uint64_t reserve = std::min(settings_.bytes_max / 8, prune_reserve_bytes_max);
    const auto age_max_ms =
        static_cast<std::int64_t>(std::chrono::milliseconds(settings_.age_max).count());
    const std::int64_t oldest_kept_ms =
        age_max_ms > 0 ? static_cast<std::int64_t>(now_()) - age_max_ms : INT64_MIN;
    const bool too_large = live_bytes() > settings_.bytes_max - reserve / 2;
    bool pruned = false;
    origin_spans_.clear();
    while (!db_.failed()) {
        SqliteStatement& oldest = statements_->oldest_trace;
        const bool any = oldest.reset().step();
        const std::int64_t trace = any ? oldest.number(0) : 0;
        const bool too_old = any && oldest.number(1) < oldest_kept_ms;
        oldest.reset();
        if (!any || (!too_old && !(too_large && live_bytes() > settings_.bytes_max - reserve)))
            break;
        pruned = true;
        prune_step(trace);
    }
    if (!pruned || db_.failed()) return;
    for (const auto& [row, spans] : origin_spans_)
        statements_->count_origin.reset().bind(spans).bind(row).execute();
    statements_->drop_origins.reset().execute();
    origins_.clear();  // A row that it names may be gone.
}

// A trace goes whole; one with very many spans goes in steps, its first spans first.
bool TraceStore::prune_step(std::int64_t trace) {
    std::int64_t spans = 0;
    std::int64_t errors = 0;
    std::int64_t unfinished = 0;
    SqliteStatement& step = statements_->prune_spans;
    step.reset().bind(trace).bind(prune_step_spans);
    while (step.step()) {
        origin_spans_[step.number(0)] -= 1;
        spans += 1;
        errors += step.number(1);
        unfinished += step.number(2);
    }
    step.reset();
    if (spans == prune_step_spans) {
        return statements_->note_pruned.reset()
            .bind(spans)
            .bind(errors)
            .bind(unfinished)
            .bind(trace)
            .execute();
    }
    statements_->drop_services.reset().bind(trace).execute();
    return statements_->drop_trace.reset().bind(trace).execute();
}

std::uint64_t TraceStore::file_bytes() {
    SqliteStatement& pages = statements_->pages;
    const std::int64_t bytes = pages.reset().step() ? pages.number(0) * statements_->page_bytes : 0;
    pages.reset();
    return static_cast<std::uint64_t>(bytes);
}

std::uint64_t TraceStore::live_bytes() {
    SqliteStatement& pages = statements_->free_pages;
    const std::int64_t free = pages.reset().step() ? pages.number(0) * statements_->page_bytes : 0;
    pages.reset();
    return file_bytes() - static_cast<std::uint64_t>(free);
}

// Free pages are used again; they go back to the file system only when the file is above its bound
// (a setting that was lowered, a burst).
void TraceStore::give_back_pages() {
    const std::uint64_t bytes = file_bytes();
    if (bytes <= settings_.bytes_max) return;
    const std::uint64_t pages =
        (bytes - settings_.bytes_max) / static_cast<std::uint64_t>(statements_->page_bytes) + 1;
    db_.run(("PRAGMA incremental_vacuum(" + std::to_string(pages) + ")").c_str());
}

bool TraceStore::log_is_held() {
    struct stat status {};
    if (::stat((path_ + "-wal").c_str(), &status) != 0) return false;
    if (static_cast<std::uint64_t>(status.st_size) <= wal_bytes_max) return false;
    const bool held = db_.number("PRAGMA wal_checkpoint(TRUNCATE)", 1) != 0;
    (void)db_.take_failure();
    return held;
}

// ---- Failures ----

SendResult TraceStore::failed(const SqliteFailure& failure) {
    std::string text = failure_text(failure);
    close();  // Rolls back; the next batch begins from a clean state.
    return retry(std::move(text));
}

// Empty when the damaged file is out of the way, else what to do.
std::string TraceStore::set_aside() {
    close();
    const std::uint64_t unix_ms = now_();
    const auto seconds = static_cast<std::time_t>(unix_ms / 1000);
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    char stamp[32];
    std::strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%S", &parts);
    const std::string kept =
        path_ + ".damaged-" + stamp + "." + std::to_string(1000 + unix_ms % 1000).substr(1) + "Z";
    if (::rename(path_.c_str(), kept.c_str()) != 0) {
        return "The trace store " + path_ + " is damaged and cannot be set aside (" +
               std::strerror(errno) + "): move it away.";
    }
    ::rename((path_ + "-wal").c_str(), (kept + "-wal").c_str());
    ::unlink((path_ + "-shm").c_str());
    notice_ = "The trace store was damaged; it was set aside as " + kept + " and a new one begun.";

    // Never more than a few of them, or a bad disk fills itself.
    std::vector<std::filesystem::path> others;
    const std::string prefix = std::filesystem::path(path_).filename().string() + ".damaged-";
    std::error_code ignored;
    const std::filesystem::path directory = std::filesystem::path(path_).parent_path();
    for (auto at =
             std::filesystem::directory_iterator(directory.empty() ? "." : directory, ignored);
         !ignored && at != std::filesystem::directory_iterator(); at.increment(ignored)) {
        const std::string name = at->path().filename().string();
        if (name.starts_with(prefix) && name.ends_with("Z")) others.push_back(at->path());
    }
    std::sort(others.begin(), others.end());
    for (std::size_t i = 0; i + damaged_files_kept < others.size(); ++i) {
        std::filesystem::remove(others[i], ignored);
        std::filesystem::remove(others[i].string() + "-wal", ignored);
    }
    return {};
}

std::string TraceStore::failure_text(const SqliteFailure& failure) const {
    const std::string store = "The trace store " + path_;
    if (failure.error_number == EFBIG || at_file_size_limit()) {
        return store + " reached the file-size limit of the daemon: raise LimitFSIZE= (ulimit -f).";
    }
    switch (failure.kind) {
        case Kind::full:
            return "The disk of the trace store " + path_ +
                   " is full: free some space, or lower max_size of the trace store; the spans "
                   "wait.";
        case Kind::busy:
            return store + " is locked by another program: close it (fuser " + path_ +
                   " names it).";
        case Kind::permission:
            return store + " cannot be written (" + failure.text +
                   "): give the daemon's user write access to the file and its directory (systemd: "
                   "StateDirectory=, ReadWritePaths=).";
        case Kind::cannot_open:
            return store + " cannot be opened (" + failure.text +
                   "): look at its directory, or set trace_store.path.";
        case Kind::damaged: return store + " is damaged (" + failure.text + ").";
        case Kind::interrupted: return "Cancelled while writing to the trace store.";
        case Kind::none:
        case Kind::other: break;
    }
    std::string text = store + " failed: " + failure.text;
    if (failure.error_number != 0)
        text.append(" (").append(std::strerror(failure.error_number)).append(")");
    return text + ". The spans wait and are tried again.";
}

// SQLite reports EFBIG as any other failed write.
bool TraceStore::at_file_size_limit() const {
    rlimit limit{};
    if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return false;
    for (const char* suffix : {"", "-wal"}) {
        struct stat status {};
        if (::stat((path_ + suffix).c_str(), &status) == 0 &&
            static_cast<rlim_t>(status.st_size) >= limit.rlim_cur) {
            return true;
        }
    }
    return false;
}

std::uint64_t system_unix_ms() {
    using std::chrono::system_clock;
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                          system_clock::now().time_since_epoch())
                                          .count());
}

}  // namespace

std::string trace_store_path(const config::TraceStore& settings,
                             const std::string& state_directory) {
    return settings.path.empty() ? state_directory + "/" + trace_store_name : settings.path;
}

Result<std::unique_ptr<Exporter>> make_trace_store(const config::ExporterSettings& settings,
                                                   const std::string& state_directory) {
    const auto* store = std::get_if<config::TraceStore>(&settings.what);
    if (store == nullptr) {
        return Error{ErrorCode::invalid_argument,
                     "exporter " + settings.name + " has no trace_store settings"};
    }
    if (store->path.empty() && state_directory.empty()) {
        return Error{ErrorCode::invalid_argument,
                     "exporter " + settings.name +
                         " has no place: set path, or OTELD_STATE_DIR to a directory"};
    }
    return make_trace_store(*store, trace_store_path(*store, state_directory), system_unix_ms);
}

std::unique_ptr<Exporter> make_trace_store(const config::TraceStore& settings,
                                           const std::string& path, UnixMs now) {
    return std::make_unique<TraceStore>(settings, path, std::move(now));
}

}  // namespace oteld::exporters
