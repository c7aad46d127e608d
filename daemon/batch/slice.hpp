// A part of a committed extent: what one request carries of it.
//
// Used by: batcher (cuts), export_worker (turns slices into the runs that exporters take), settle
// (names what was settled). Threads: values; what they point at is immutable until it is settled.
#pragma once

#include "daemon/spool/spool.hpp"
#include "exporters/exporter.hpp"

#include <cstdint>
#include <vector>

namespace oteld::daemon {

struct Slice {
    ExtentRef extent;
    std::uint32_t first = 0;  // Span in the extent.
    std::uint32_t spans = 0;
    std::uint64_t bytes = 0;  // Of their frames.
};

// All spans from `first` on.
[[nodiscard]] Slice rest_of(const ExtentRef& extent, std::uint32_t first) noexcept;

// The longest beginning of `slice` with at most that many spans and bytes, but never less than one
// span.
[[nodiscard]] Slice beginning_of(const Slice& slice, std::uint32_t spans_max,
                                 std::uint64_t bytes_max) noexcept;

// Removes the first `spans` spans from a list of slices and returns them.
[[nodiscard]] std::vector<Slice> take_front(std::vector<Slice>& slices, std::uint32_t spans);

// Appends the runs of a slice.
void append_runs(const Slice& slice, std::vector<exporters::SpanRun>& runs);

}  // namespace oteld::daemon
