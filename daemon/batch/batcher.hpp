// Decides when a batch is sent and what is in it: by spans, by bytes, or because the oldest span
// waits too long.
//
// Used by: export_worker, one object an exporter. Threads: the owner's, under its lock.
// Deciding only: no clock, no I/O. Spans of different extents never change their order.
//
//   waiting                                              plan
//   nothing                                              idle
//   batch_spans_min spans or batch_bytes_max bytes       send
//   the oldest since flush_timeout, or flush asked for   send
//   else                                                 wait until the oldest has waited
//   flush_timeout
#pragma once

#include "config/settings.hpp"
#include "daemon/batch/slice.hpp"

#include <chrono>
#include <deque>
#include <vector>

namespace oteld::daemon {

class Batcher {
public:
    using Time = std::chrono::nanoseconds;  // Since anything, never backwards.

    explicit Batcher(const config::SendingQueue& settings) : settings_(settings) {}

    void add(const Slice& slice, Time now);
    struct Plan {
        enum class Kind { idle, wait, send } kind = Kind::idle;
        Time at{0};  // wait: ask again then.
    };
    [[nodiscard]] Plan plan(Time now, bool flush) const;
    // Takes the next batch: at most batch_spans_max spans and batch_bytes_max bytes, at least one
    // span.
    [[nodiscard]] std::vector<Slice> take();

    [[nodiscard]] std::uint64_t spans() const noexcept { return spans_; }
    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

private:
    struct Waiting {
        Slice slice;
        Time since;
    };

    config::SendingQueue settings_;
    std::deque<Waiting> waiting_;
    std::uint64_t spans_ = 0;
    std::uint64_t bytes_ = 0;
};

}  // namespace oteld::daemon
