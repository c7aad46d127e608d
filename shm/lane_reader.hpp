// Steps through the records of one lane, from the daemon's cursor to the producer's.
//
// Used by: daemon/intake/drain.cpp, `oteld rings`. Threads: one; the producer appends beside it.
// Looks at nothing outside [from, to) of the lane, reads each length once, and never follows a
// value it has not checked. It moves no cursor: the drain stores read_cursor once the spans are
// safe.
#pragma once

#include "shm/hardware.hpp"
#include "shm/segment_map.hpp"

#include <cstdint>

namespace oteld::shm {

enum class LaneState {
    empty,
    ready,
    corrupt,  // The cursors contradict each other or the lane.
};

// A look at the producer's cursor. `ready`: [from, to) lies in the lane.
struct LaneRange {
    LaneState state = LaneState::empty;
    std::uint64_t from = 0;
    std::uint64_t to = 0;
};
template <class Memory = Hardware>
[[nodiscard]] LaneRange look_at_lane(const LaneView& lane, std::uint64_t read_cursor) noexcept {
    // Acquire pairs with the producer's release when a record is complete (lane_writer.hpp).
    const std::uint64_t write_untrusted = Memory::load_acquire(lane.producer->write_cursor);
    if (write_untrusted == read_cursor) return {LaneState::empty, read_cursor, read_cursor};
    // Monotonic cursors: a difference beyond the lane, also a negative one, is no state that a
    // producer reaches.
    const std::uint64_t waiting = write_untrusted - read_cursor;
    if (waiting > lane.data_bytes || (write_untrusted | read_cursor) % 8 != 0)
        return {LaneState::corrupt, read_cursor, write_untrusted};
    return {LaneState::ready, read_cursor, write_untrusted};
}

struct LaneRecord {
    enum class Kind {
        span,     // `bytes` holds a whole record with a header of 64 bytes.
        unknown,  // A type of the future: skip it and count it.
        end,      // Nothing more.
        corrupt,  // No record begins here: jump to the write cursor and count.
    };
    Kind kind = Kind::end;
    const std::uint8_t* bytes = nullptr;  // In the lane; the producer may still scribble over it.
    std::uint32_t length = 0;             // As it was read once; 8-aligned, inside the range.
};

template <class Memory>
class BasicLaneReader {
public:
    BasicLaneReader(const LaneView& lane, const LaneRange& range) noexcept
        : data_(lane.data), mask_(lane.data_bytes - 1), cursor_(range.from), to_(range.to) {}

    // Pads are stepped over here.
    [[nodiscard]] LaneRecord next() noexcept {
        using detail::RecordPrefix;
        using detail::RecordType;
        while (cursor_ != to_) {
            const std::uint64_t offset = cursor_ & mask_;
            RecordPrefix prefix_untrusted;
            Memory::copy_out(&prefix_untrusted, data_ + offset, sizeof prefix_untrusted);
            const std::uint32_t length = prefix_untrusted.length;
            // A record never wraps, so both the range and the lap bound it.
            const std::uint64_t lap_rest = mask_ + 1 - offset;
            const std::uint64_t range_rest = to_ - cursor_;
            if (length < sizeof(RecordPrefix) || length % 8 != 0 || length > lap_rest ||
                length > range_rest)
                return {LaneRecord::Kind::corrupt, nullptr, 0};
            const auto type = static_cast<RecordType>(prefix_untrusted.type);
            if (type == RecordType::span && length < sizeof(detail::SpanRecord))
                return {LaneRecord::Kind::corrupt, nullptr, 0};
            cursor_ += length;
            if (type == RecordType::pad) continue;
            const auto kind =
                type == RecordType::span ? LaneRecord::Kind::span : LaneRecord::Kind::unknown;
            return {kind, data_ + offset, length};
        }
        return {};
    }
    // Behind the last record that next() returned.
    [[nodiscard]] std::uint64_t cursor() const noexcept { return cursor_; }

private:
    const std::uint8_t* data_;
    std::uint64_t mask_;
    std::uint64_t cursor_;
    std::uint64_t to_;
};
using LaneReader = BasicLaneReader<Hardware>;

inline void copy_untrusted(void* to, const void* from, std::size_t bytes) noexcept {
    Hardware::copy_out(to, from, bytes);
}

}  // namespace oteld::shm
