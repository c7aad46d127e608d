#include "daemon/batch/batcher.hpp"

#include <algorithm>

namespace oteld::daemon {

void Batcher::add(const Slice& slice, Time now) {
    if (slice.spans == 0) return;
    waiting_.push_back({slice, now});
    spans_ += slice.spans;
    bytes_ += slice.bytes;
}

Batcher::Plan Batcher::plan(Time now, bool flush) const {
    if (waiting_.empty()) return {};
    const Time at = waiting_.front().since + settings_.flush_timeout;
    const bool enough = spans_ >= std::max<std::uint64_t>(settings_.batch_spans_min, 1) ||
                        bytes_ >= settings_.batch_bytes_max || spans_ >= settings_.batch_spans_max;
    if (enough || flush || now >= at) return {Plan::Kind::send, now};
    return {Plan::Kind::wait, at};
}

std::vector<Slice> Batcher::take() {
    std::vector<Slice> batch;
    std::uint64_t spans_left = std::max<std::uint64_t>(settings_.batch_spans_max, 1);
    std::uint64_t bytes_left = settings_.batch_bytes_max;
    while (!waiting_.empty() && spans_left != 0) {
        Waiting& next = waiting_.front();
        const Slice part = beginning_of(
            next.slice, static_cast<std::uint32_t>(std::min<std::uint64_t>(spans_left, UINT32_MAX)),
            bytes_left);
        // It may be one span that is larger than what is left: that one begins the next batch, or
        // is this one.
        if (part.bytes > bytes_left && !batch.empty()) break;
        batch.push_back(part);
        spans_ -= part.spans;
        bytes_ -= part.bytes;
        spans_left -= part.spans;
        bytes_left -= std::min(bytes_left, part.bytes);
        if (part.spans == next.slice.spans) {
            waiting_.pop_front();
            continue;
        }
        next.slice.first += part.spans;
        next.slice.spans -= part.spans;
        next.slice.bytes -= part.bytes;
        break;
    }
    return batch;
}

}  // namespace oteld::daemon
