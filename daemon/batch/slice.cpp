#include "daemon/batch/slice.hpp"

#include "daemon/spool/extent_reader.hpp"
#include "shm/span_view.hpp"

#include <algorithm>

namespace oteld::daemon {
namespace {

// Calls `each` for every run of the slice, cut to it.
template <class Each>
void for_each_run(const Slice& slice, Each each) {
    ExtentReader reader(*slice.extent.header);
    exporters::SpanRun run;
    std::uint32_t skip = slice.first;
    std::uint32_t left = slice.spans;
    while (left != 0 && reader.next(run)) {
        if (skip >= run.spans) {
            skip -= run.spans;
            continue;
        }
        const std::uint32_t spans = std::min(run.spans - skip, left);
        if (spans != run.spans) {
            shm::FrameReader frames(run.frames);
            shm::Frame frame;
            std::size_t begin = 0;
            std::size_t end = 0;
            for (std::uint32_t i = 0; i < skip + spans && frames.next(frame); ++i) {
                end += frame.bytes.size();
                if (i < skip) begin = end;
            }
            run.frames = run.frames.substr(begin, end - begin);
            run.spans = spans;
        }
        skip = 0;
        left -= spans;
        each(run);
    }
}

}  // namespace

Slice rest_of(const ExtentRef& extent, std::uint32_t first) noexcept {
    Slice slice{extent, first, extent.header->spans - first, 0};
    for_each_run(slice,
                 [&slice](const exporters::SpanRun& run) { slice.bytes += run.frames.size(); });
    return slice;
}

Slice beginning_of(const Slice& slice, std::uint32_t spans_max, std::uint64_t bytes_max) noexcept {
    if (slice.spans <= spans_max && slice.bytes <= bytes_max) return slice;
    Slice part{slice.extent, slice.first, 0, 0};
    bool full = false;
    for_each_run(slice, [&](const exporters::SpanRun& run) {
        if (full) return;
        shm::FrameReader frames(run.frames);
        shm::Frame frame;
        while (frames.next(frame)) {
            const bool fits =
                part.spans < spans_max && part.bytes + frame.bytes.size() <= bytes_max;
            full = !fits && part.spans != 0;
            if (full) return;
            part.bytes += frame.bytes.size();
            ++part.spans;
        }
    });
    return part;
}

std::vector<Slice> take_front(std::vector<Slice>& slices, std::uint32_t spans) {
    std::vector<Slice> front;
    std::size_t whole = 0;
    while (spans != 0 && whole < slices.size()) {
        Slice& next = slices[whole];
        const Slice part = beginning_of(next, spans, ~0ULL);
        front.push_back(part);
        spans -= part.spans;
        next.first += part.spans;
        next.spans -= part.spans;
        next.bytes -= part.bytes;
        if (next.spans != 0) break;
        ++whole;
    }
    slices.erase(slices.begin(), slices.begin() + static_cast<std::ptrdiff_t>(whole));
    return front;
}

void append_runs(const Slice& slice, std::vector<exporters::SpanRun>& runs) {
    for_each_run(slice, [&runs](const exporters::SpanRun& run) { runs.push_back(run); });
}

}  // namespace oteld::daemon
