// What the tests of batches and of those who send them have in common.
#pragma once

#include "daemon/batch/batcher.hpp"
#include "fake_spool.hpp"

#include <chrono>
#include <vector>

namespace oteld::test {

inline config::SendingQueue queue(std::uint32_t min, std::uint32_t max,
                                  std::uint64_t bytes_max = 1 << 20) {
    config::SendingQueue settings;
    settings.batch_spans_min = min;
    settings.batch_spans_max = max;
    settings.batch_bytes_max = bytes_max;
    settings.flush_timeout = std::chrono::milliseconds(200);
    return settings;
}

inline std::uint32_t spans_in(const std::vector<daemon::Slice>& batch) {
    std::uint32_t spans = 0;
    for (const daemon::Slice& slice : batch) spans += slice.spans;
    return spans;
}

}  // namespace oteld::test
