#include "exporters/trace_store.hpp"

#include "exporters/trace_store_bounds.hpp"
#include "exporters/trace_store_file.hpp"
#include "exporters/trace_store_writer.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <new>
#include <optional>
#include <utility>

namespace oteld::exporters {

namespace {

constexpr std::uint64_t bytes_min = 1ULL << 20;

SendResult retry(std::string message) {
    return {.outcome = SendResult::Outcome::retry_after, .message = std::move(message)};
}

class TraceStore final : public Exporter {
public:
    TraceStore(const config::TraceStore& settings, std::string path, UnixMs now)
        : settings_(settings), now_(std::move(now)), file_(std::move(path)) {
        settings_.bytes_max = std::max(settings_.bytes_max, bytes_min);
    }
    ~TraceStore() override { close(); }

    SendResult send(const Batch& batch) override {
        try {
            return send_once(batch);
        } catch (const std::bad_alloc&) {
            close();  // Rolls back: the batch comes again.
            throw;
        }
    }
    void cancel() noexcept override { cancelled_.store(true, std::memory_order_relaxed); }

private:
    SendResult send_once(const Batch& batch);
    std::string open();
    void close() noexcept;
    std::optional<SendResult> write(const Batch& batch);

    config::TraceStore settings_;
    UnixMs now_;
    TraceStoreFile file_;
    // While the file is open.
    std::optional<TraceStoreWriter> writer_;
    std::optional<TraceStoreBounds> bounds_;
    std::string notice_;  // What the next delivered result says.
    std::atomic<bool> cancelled_{false};
};

SendResult TraceStore::send_once(const Batch& batch) {
    if (cancelled_.load(std::memory_order_relaxed)) return retry("Cancelled.");
    Sqlite& db = file_.connection();
    if (db.is_open() && db.has_moved()) close();
    // Twice: a damaged file is set aside, and the batch goes into the new one.
    for (int attempt = 0;; ++attempt) {
        const std::string problem = open();
        if (problem.empty() && !db.failed()) {
            if (file_.log_is_held()) {
                return retry("The write-ahead log of " + file_.path() +
                             " grows because another program holds a read open: "
                             "close it (fuser " +
                             file_.path() + " names it).");
            }
            if (auto result = write(batch)) return std::move(*result);
        }
        if (!problem.empty() && !db.failed()) return retry(problem);
        const SqliteFailure failure = db.take_failure();
        if (failure.kind != SqliteFailure::Kind::damaged || attempt > 0) {
            std::string text = file_.failure_text(failure);
            close();  // Rolls back; the next batch begins from a clean state.
            return retry(std::move(text));
        }
        close();
        const Result<std::string> kept = file_.set_aside(now_());
        if (!kept) return retry(kept.error().message);
        notice_ =
            "The trace store was damaged; it was set aside as " + *kept + " and a new one begun.";
    }
}

std::string TraceStore::open() {
    Sqlite& db = file_.connection();
    if (db.is_open()) return {};
    if (std::string problem = file_.open(cancelled_); !problem.empty()) return problem;
    writer_.emplace(db);
    bounds_.emplace(db, settings_);
    return {};
}

// Statements end before their connection.
void TraceStore::close() noexcept {
    bounds_.reset();
    writer_.reset();
    file_.close();
}

std::optional<SendResult> TraceStore::write(const Batch& batch) {
    Sqlite& db = file_.connection();
    db.run("BEGIN IMMEDIATE");
    const std::uint64_t unix_ms = now_();
    const std::uint32_t conflicting = writer_->write(batch, unix_ms);
    if (!db.failed() && bounds_->prune(unix_ms)) writer_->forget_origins();
    if (!db.failed()) db.run("COMMIT");
    if (db.failed()) return std::nullopt;
    bounds_->give_back_pages();
    (void)db.take_failure();  // The batch is in; a page that could not be given back is tried
                              // again next time.

    SendResult result{.rejected_spans = conflicting,
                      .message = std::exchange(notice_, {}),
                      .request_bytes = batch.bytes};
    if (conflicting != 0) {
        result.reason = RejectReason::partial;
        if (!result.message.empty()) result.message += ' ';
        result.message +=
            std::to_string(conflicting) +
            " spans have the trace and span id of another span in the store: ids must be unique.";
    }
    return result;
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
