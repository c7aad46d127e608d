// Turns the ticks that applications record into Unix time.
//
// Used by: the drain (one DaemonClock, one SegmentClock a segment, one TickConverter a step).
// Threads: drain thread only; read_anchor() any. Everything but read_anchor() is arithmetic on what
// it is given. The length of a tick comes from CLOCK_MONOTONIC alone: a step of the wall clock
// between two anchors must not bend it. Unix time = the wall clock at the latest anchor plus the
// time elapsed since, so both signs work. Times from before this daemon's first anchor lie between
// the segment's own anchor and that one.
#pragma once

#include "shm/layout.hpp"

#include <cstdint>
#include <optional>

namespace oteld::daemon {

struct ClockAnchor {
    std::uint64_t ticks = 0;  // Of the processor's counter.
    std::uint64_t monotonic_ns = 0;
    std::uint64_t realtime_ns = 0;
};

// The tightest of a few readings.
[[nodiscard]] ClockAnchor read_anchor() noexcept;
[[nodiscard]] std::uint64_t read_ticks() noexcept;

// The better of two anchors to measure a tick by: `left` by an earlier daemon, if it agrees with
// `recent` (a few milliseconds ago) about a tick's length within a thousandth. It does not when the
// machine was suspended since, or when that daemon died in the middle of writing it.
[[nodiscard]] ClockAnchor earlier_anchor(const ClockAnchor& left, const ClockAnchor& recent,
                                         const ClockAnchor& now) noexcept;

// Nanoseconds per tick, in units of 2^-tick_shift.
inline constexpr int tick_shift = 40;

class DaemonClock {
public:
    // `earlier`: an anchor of this boot, the longer ago the better (the previous daemon's, or one
    // of some milliseconds ago); it only says how long a tick is.
    DaemonClock(const ClockAnchor& first, const ClockAnchor& earlier) noexcept;

    // About once a second. Half a second or more apart, two anchors also measure the tick.
    void reanchor(const ClockAnchor& now) noexcept;

    [[nodiscard]] const ClockAnchor& first() const noexcept { return first_; }
    [[nodiscard]] const ClockAnchor& latest() const noexcept { return latest_; }
    [[nodiscard]] std::uint64_t tick_length() const noexcept { return tick_length_; }
    // Times that ticks and CLOCK_MONOTONIC parted: a suspend, a migration to another host.
    [[nodiscard]] std::uint64_t jumps() const noexcept { return jumps_; }
    // Times that the wall clock was set while both of them went on: by a person, by NTP, or after a
    // sleep in which they stood still.
    [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }

private:
    ClockAnchor first_;
    ClockAnchor latest_;
    std::uint64_t tick_length_ = 0;
    std::uint64_t doubted_length_ = 0;
    std::uint64_t jumps_ = 0;
    std::uint64_t steps_ = 0;
};

// What one segment's times count in, found out once, when it is opened.
struct SegmentClock {
    // A time namespace shifts CLOCK_MONOTONIC. Seen from the wall clock, more than a second between
    // the segment's anchor and the daemon's is a shift; asked again later, it might be a step of
    // the wall clock.
    SegmentClock(const shm::SegmentHeader& header, bool from_other_boot,
                 const DaemonClock& clock) noexcept;

    bool tsc = false;  // Else nanoseconds of CLOCK_MONOTONIC.
    bool other_boot = false;
    std::uint64_t anchor_ticks = 0;
    std::uint64_t anchor_unix_ns = 0;
    std::uint64_t monotonic_ahead_ns = 0;  // Of ours, modulo 2^64.
};

// One segment's ticks, as of one drain step.
class TickConverter {
public:
    // `created_ticks`: the oldest anchor among the segments of its process; a span may have begun
    // in another one.
    TickConverter(const SegmentClock& segment, std::uint64_t created_ticks,
                  const DaemonClock& clock, std::uint64_t now_ticks) noexcept;
    // For unit tests and values that are Unix times already.
    TickConverter() = default;

    // Takes a time as recorded (bit 63 stripped) and returns Unix nanoseconds.
    [[nodiscard]] std::uint64_t to_unix(std::uint64_t ticks) noexcept {
        if (ticks - lowest_ > span_) ticks = clamp(ticks);
        if (ticks < first_ticks_) return before_first(ticks);
        return anchor_unix_ + scale(ticks - anchor_ticks_, tick_length_);
    }
    // Times that lay outside [creation, now] and were moved to the nearer end.
    [[nodiscard]] std::uint64_t clamped() const noexcept { return clamped_; }

private:
    static std::uint64_t scale(std::uint64_t difference, std::uint64_t length) noexcept {
        const auto signed_difference = static_cast<std::int64_t>(difference);
        return static_cast<std::uint64_t>(static_cast<__int128>(signed_difference) * length >>
                                          tick_shift);
    }
    std::uint64_t clamp(std::uint64_t ticks) noexcept;
    [[nodiscard]] std::uint64_t before_first(std::uint64_t ticks) const noexcept;
    void interpolate_from(std::uint64_t ticks, std::uint64_t unix_ns,
                          std::uint64_t first_unix) noexcept;

    std::uint64_t lowest_ = 0;
    std::uint64_t span_ = ~0ULL;  // lowest_ + span_ is now.
    std::uint64_t anchor_ticks_ = 0;
    std::uint64_t anchor_unix_ = 0;
    std::uint64_t tick_length_ = 1ULL << tick_shift;
    std::uint64_t first_ticks_ = 0;  // Before it: the line through the segment's anchor.
    std::uint64_t segment_ticks_ = 0;
    std::uint64_t segment_unix_ = 0;
    std::uint64_t segment_tick_length_ = 1ULL << tick_shift;
    std::uint64_t clamped_ = 0;
};

}  // namespace oteld::daemon
