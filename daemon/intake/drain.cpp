#include "daemon/intake/drain.hpp"

#include "daemon/spool/extent_writer.hpp"

#include <algorithm>
#include <csignal>
#include <ctime>

namespace oteld::daemon {
namespace {

// What a step must at least find room for: below it a fresh block is taken, so that blocks end well
// filled.
constexpr std::size_t payload_bytes_wanted = 4096;

std::uint64_t realtime_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

struct Drain::Taken {
    std::uint64_t cursor = 0;   // Behind the last record that was dealt with.
    std::uint64_t stop_at = 0;  // Do not begin a record here or behind.
    std::uint32_t malformed = 0;
    std::uint32_t skipped = 0;
    std::size_t room_needed = 0;  // The next record needs that much in a fresh block.
    bool corrupt = false;
};

Drain::Drain(Spool& spool, const DaemonClock& clock, std::string_view stop_after)
    : spool_(spool), clock_(clock) {
    if (stop_after == "spool_commit") stop_signal_ = SIGSTOP;
    if (stop_after == "spool_commit:kill") stop_signal_ = SIGKILL;
}

ExtentRef Drain::commit(const ExtentDraft& draft) {
    const ExtentRef extent = spool_.commit(draft);
    if (__builtin_expect(stop_signal_ != 0, 0) && draft.spans != 0) {
        const int once = stop_signal_;
        stop_signal_ = 0;
        (void)::raise(once);
    }
    counts_.spans += draft.spans;
    counts_.malformed += draft.malformed;
    counts_.skipped += draft.skipped;
    return extent;
}

void Drain::note_refusal(Refusal refusal) noexcept { counts_.last_refusal = refusal; }

Drain::Step Drain::step(Segment& segment, std::uint32_t index, std::uint64_t until,
                        std::uint64_t created_ticks, std::optional<ExtentRef>& extent) {
    extent.reset();
    Lane& lane = segment.lanes()[index];
    if (lane.cursor == until) return Step::nothing;
    std::size_t wanted = payload_bytes_wanted;
    // Twice when the rest of the block is too small for the next record.
    for (int attempt = 0; attempt < 2; ++attempt) {
        const Spool::Place place = spool_.place(wanted);
        if (place.payload == nullptr) return Step::spool_full;
        ExtentWriter writer(place.payload, place.room, next_extent_number());
        TickConverter clock(segment.clock(), created_ticks, clock_, read_ticks());
        shm::LaneReader reader(lane.view, {shm::LaneState::ready, lane.cursor, until});
        Taken taken;
        taken.cursor = lane.cursor;
        taken.stop_at = lane.cursor + extent_lane_bytes;
        take_records(segment, reader, writer, clock, taken);
        counts_.times_clamped += clock.clamped();
        if (segment.map().truncated()) {
            segment.quarantine("its file was truncated");
            return Step::quarantined;
        }
        if (taken.cursor == lane.cursor && !taken.corrupt) {
            wanted = taken.room_needed;
            continue;
        }
        if (taken.corrupt) {
            // Where the next record begins is unknown. At least one is lost; the producer's counter
            // knows better.
            const std::uint64_t ended =
                __atomic_load_n(&lane.view.producer->ended, __ATOMIC_RELAXED);
            const std::uint64_t known =
                lane.drained + writer.spans() + lane.malformed + taken.malformed;
            const std::uint64_t possible = (until - taken.cursor) / sizeof(detail::SpanRecord) + 1;
            const std::uint64_t lost = ended > known ? ended - known : 1;
            taken.malformed += static_cast<std::uint32_t>(std::min(lost, possible));
            taken.cursor = until;
            note_refusal(Refusal::wire);
        }
        ExtentDraft draft;
        draft.lane = {segment.map().identity(), index};
        draft.row = segment.row;
        draft.cursor_from = lane.cursor;
        draft.spans = writer.spans();
        draft.malformed = taken.malformed;
        draft.skipped = taken.skipped;
        draft.payload_bytes = writer.finish();
        draft.now_ns = realtime_ns();
        draft.after = {taken.cursor, lane.drained + draft.spans, lane.malformed + draft.malformed,
                       lane.skipped + draft.skipped};
        // Pads alone are worth no extent: nothing is lost when they are stepped over again.
        if (draft.spans + draft.malformed + draft.skipped != 0) {
            const ExtentRef committed = commit(draft);
            if (draft.spans != 0) extent = committed;
        }
        lane.cursor = draft.after.cursor_to;
        lane.drained = draft.after.drained;
        lane.malformed = draft.after.malformed;
        lane.skipped = draft.after.skipped;
        segment.publish(lane);
        return Step::drained;
    }
    return Step::spool_full;
}

void Drain::take_records(Segment& segment, shm::LaneReader& reader, ExtentWriter& writer,
                         TickConverter& clock, Taken& taken) {
    while (reader.cursor() < taken.stop_at && writer.spans() < extent_spans_max) {
        const shm::LaneRecord record = reader.next();
        switch (record.kind) {
            case shm::LaneRecord::Kind::span:
                if (!take_span(segment, record, writer, clock, taken)) return;
                break;
            case shm::LaneRecord::Kind::unknown: ++taken.skipped; break;
            case shm::LaneRecord::Kind::corrupt: taken.corrupt = true; return;
            case shm::LaneRecord::Kind::end: taken.cursor = reader.cursor(); return;
        }
        taken.cursor = reader.cursor();
    }
}

// False: there is no room for it here; the record stays.
bool Drain::take_span(Segment& segment, const shm::LaneRecord& record, ExtentWriter& writer,
                      TickConverter& clock, Taken& taken) {
    std::uint16_t scope_index_untrusted;
    shm::copy_untrusted(&scope_index_untrusted, record.bytes + offsetof(detail::SpanRecord, scope),
                        sizeof scope_index_untrusted);
    ScopeBytes* scope = segment.scope(scope_index_untrusted);
    Refusal refusal = Refusal::scope;
    if (__builtin_expect(scope != nullptr, 1)) {
        const std::size_t room = frame_room(record.length);
        if (__builtin_expect(!writer.fits(*scope, room), 0)) {
            taken.room_needed = scope->chunk_bytes + sizeof(RunChunk) + 16 + room;
            if (taken.room_needed <= Spool::payload_bytes_max) return false;
            refusal = Refusal::header;  // It would not even fit an empty block.
        } else {
            SpanFrame frame;
            refusal =
                write_span_frame(writer.frame(*scope), record.bytes, record.length, clock, frame);
            if (__builtin_expect(refusal == Refusal::none, 1)) {
                writer.written(frame.bytes);
                if (__builtin_expect((frame.bytes_repaired | frame.keys_removed) != 0, 0)) {
                    counts_.bytes_repaired += frame.bytes_repaired;
                    counts_.keys_removed += frame.keys_removed;
                }
                return true;
            }
        }
    }
    ++taken.malformed;
    note_refusal(refusal);
    return true;
}

}  // namespace oteld::daemon
