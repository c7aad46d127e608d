// Steps through the records of one lane, from the daemon's cursor to the producer's.
//
// Used by: daemon/intake/drain.cpp, `oteld rings`. Threads: one; the producer appends beside it.
// Looks at nothing outside [from, to) of the lane, reads each length once, and never follows a
// value it has not checked. It moves no cursor: the drain stores read_cursor once the spans are
// safe.
#pragma once

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
[[nodiscard]] LaneRange look_at_lane(const LaneView& lane, std::uint64_t read_cursor) noexcept;

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

class LaneReader {
public:
    LaneReader(const LaneView& lane, const LaneRange& range) noexcept
        : data_(lane.data), mask_(lane.data_bytes - 1), cursor_(range.from), to_(range.to) {}

    // Pads are stepped over here.
    [[nodiscard]] LaneRecord next() noexcept;
    // Behind the last record that next() returned.
    [[nodiscard]] std::uint64_t cursor() const noexcept { return cursor_; }

private:
    const std::uint8_t* data_;
    std::uint64_t mask_;
    std::uint64_t cursor_;
    std::uint64_t to_;
};

// Copies shared bytes into private memory exactly once: the compiler may not read them again
// afterwards.
inline void copy_untrusted(void* to, const void* from, std::size_t bytes) noexcept {
    __builtin_memcpy(to, from, bytes);
    asm volatile("" : : "r"(to) : "memory");
}

}  // namespace oteld::shm
