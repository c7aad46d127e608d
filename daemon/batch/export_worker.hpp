// One exporter at work: its queue, its batches, its retries, on threads of its own.
//
// Used by: pipeline.cpp (makes it), the drain thread (enqueues), status (asks). Threads: enqueue,
// status, flush and stop from any; each consumer thread has an Exporter object of its own. A slow
// or hanging exporter delays nobody else: its spans wait in the spool, and here only their places.
// Decisions are the Batcher's and Delivery's; this carries them out.
#pragma once

#include "config/settings.hpp"
#include "daemon/batch/batcher.hpp"
#include "daemon/batch/settle.hpp"
#include "exporters/delivery.hpp"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace oteld::daemon {

// What happened to one exporter since the daemon started, for status.
struct ExporterFacts {
    enum class State { idle, ok, retrying, rejecting } state = State::idle;
    std::string words;            // The last answer in words.
    std::string warning;          // The last warning of a backend that took a batch.
    std::int64_t last_ok_ns = 0;  // Unix time.
    std::int64_t failing_since_ns = 0;
    std::int64_t last_error_ns = 0;
    std::string last_error;
    std::uint64_t attempts = 0;  // Of the request that is being retried.
    std::uint64_t errors = 0;
    std::uint64_t requests = 0;
    std::uint64_t sent_bytes = 0;
    std::uint64_t delivered = 0;
    RejectCounts rejected{};
    std::uint64_t queue_spans = 0;
    std::uint64_t queue_bytes = 0;
    std::uint64_t in_flight_spans = 0;
};

class ExportWorker {
public:
    // One thread for each object of `consumers`. `word` is the exporter's in the spool.
    ExportWorker(config::ExporterSettings settings, unsigned word,
                 std::vector<std::unique_ptr<exporters::Exporter>> consumers, Inbox& inbox);
    ~ExportWorker();
    ExportWorker(const ExportWorker&) = delete;
    ExportWorker& operator=(const ExportWorker&) = delete;

    void start();
    // Part of an extent that this exporter has not settled yet.
    void enqueue(std::span<const Slice> slices);
    // From now on nothing waits for a fuller batch.
    void flush();
    // Nothing is queued and no request is under way.
    [[nodiscard]] bool idle() const;
    // Cancels what is under way and joins; what was not settled stays in the spool. Safe twice.
    void stop();

    [[nodiscard]] const config::ExporterSettings& settings() const noexcept { return settings_; }
    [[nodiscard]] unsigned word() const noexcept { return word_; }
    [[nodiscard]] ExporterFacts facts() const;

private:
    void consume(exporters::Exporter& exporter);
    void deliver(exporters::Exporter& exporter, std::vector<Slice> slices,
                 const exporters::Delivery::Random& random);
    [[nodiscard]] bool deliver_part(exporters::Exporter& exporter, const exporters::Batch& batch,
                                    std::vector<Slice> slices,
                                    const exporters::Delivery::Random& random);
    [[nodiscard]] bool sleep_until(exporters::Delivery::Time at);
    [[nodiscard]] exporters::SendResult send(exporters::Exporter& exporter,
                                             const exporters::Batch& batch);
    void note_answer(const exporters::SendResult& result, std::uint32_t attempts);
    void settle(std::vector<Slice> slices, const exporters::Delivery::Action& action);

    const config::ExporterSettings settings_;
    const unsigned word_;
    Inbox& inbox_;
    std::vector<std::unique_ptr<exporters::Exporter>> consumers_;
    std::vector<std::thread> threads_;

    // Unix time since which a file or a store is being written; 0: none is. Relaxed: for people.
    std::atomic<std::int64_t> writing_since_ns_{0};
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    // Guarded by mutex_.
    Batcher batcher_;
    ExporterFacts facts_;
    bool flushing_ = false;
    bool stopping_ = false;
};

}  // namespace oteld::daemon
