#include "daemon/intake/clock.hpp"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include <ctime>

namespace oteld::daemon {
namespace {

std::uint64_t read_clock(clockid_t id) {
    timespec now{};
    ::clock_gettime(id, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

constexpr std::uint64_t measured_over_ns = 500'000'000;
constexpr std::uint64_t default_tick_length = 1ULL << tick_shift;  // 1 GHz: as good a guess as any.

// NTP slews what is less than 128 ms. The time between two anchors is of no matter: it is a second,
// or a second and a stopped process, over which slewing moves a clock by a thousandth at most.
constexpr std::uint64_t step_from_ns = 100'000'000;

bool stepped(const ClockAnchor& earlier, const ClockAnchor& later) {
    // Modulo 2^64: both signs work.
    const std::uint64_t elapsed = later.monotonic_ns - earlier.monotonic_ns;
    const std::uint64_t apart = later.realtime_ns - earlier.realtime_ns - elapsed;
    const std::uint64_t slewed = step_from_ns + elapsed / 1000;
    return apart + slewed > 2 * slewed;
}

// Slewed clocks part by less; a time namespace is made to part them by more.
constexpr std::uint64_t namespace_from_ns = 1'000'000'000;

// 0: the pair says nothing (no time between them, or a counter outside 1 MHz to 100 GHz).
std::uint64_t length_between(const ClockAnchor& earlier, const ClockAnchor& later) {
    if (later.ticks <= earlier.ticks || later.monotonic_ns <= earlier.monotonic_ns) return 0;
    const std::uint64_t ticks = later.ticks - earlier.ticks;
    const auto scaled = static_cast<unsigned __int128>(later.monotonic_ns - earlier.monotonic_ns)
                        << tick_shift;
    const auto length = scaled / ticks;
    constexpr std::uint64_t length_max = default_tick_length * 1000;
    const bool plausible = length > default_tick_length / 100 && length < length_max;
    return plausible ? static_cast<std::uint64_t>(length) : 0;
}

// Slewing bends CLOCK_MONOTONIC by up to 500 ppm; more than a thousand is something else.
bool same_length(std::uint64_t a, std::uint64_t b) {
    const std::uint64_t difference = a > b ? a - b : b - a;
    return difference <= b / 1000;
}

}  // namespace

std::uint64_t read_ticks() noexcept {
#if defined(__x86_64__)
    return __rdtsc();
#elif defined(__aarch64__)
    std::uint64_t ticks;
    asm volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return read_clock(CLOCK_MONOTONIC);
#endif
}

ClockAnchor read_anchor() noexcept {
    ClockAnchor best;
    std::uint64_t tightest = ~0ULL;
    for (int i = 0; i < 5; ++i) {
        const std::uint64_t before = read_ticks();
        const std::uint64_t monotonic = read_clock(CLOCK_MONOTONIC);
        const std::uint64_t realtime = read_clock(CLOCK_REALTIME);
        const std::uint64_t monotonic_after = read_clock(CLOCK_MONOTONIC);
        const std::uint64_t after = read_ticks();
        if (after - before >= tightest) continue;
        tightest = after - before;
        best = {before + (after - before) / 2, monotonic + (monotonic_after - monotonic) / 2,
                realtime};
    }
    return best;
}

ClockAnchor earlier_anchor(const ClockAnchor& left, const ClockAnchor& recent,
                           const ClockAnchor& now) noexcept {
    const std::uint64_t length = length_between(left, now);
    return length != 0 && same_length(length, length_between(recent, now)) ? left : recent;
}

DaemonClock::DaemonClock(const ClockAnchor& first, const ClockAnchor& earlier) noexcept
    : first_(first), latest_(first), tick_length_(length_between(earlier, first)) {
    if (tick_length_ == 0) tick_length_ = default_tick_length;
}

void DaemonClock::reanchor(const ClockAnchor& now) noexcept {
    const std::uint64_t jumps_before = jumps_;
    if (now.monotonic_ns - latest_.monotonic_ns >= measured_over_ns) {
        const std::uint64_t length = length_between(latest_, now);
        if (length != 0 &&
            (same_length(length, tick_length_) || same_length(length, doubted_length_))) {
            tick_length_ = length;
            doubted_length_ = 0;
        } else {
            // Once is a jump; the same again is a counter that now runs at another rate.
            doubted_length_ = length;
            ++jumps_;
        }
    }
    if (jumps_ == jumps_before && stepped(latest_, now)) ++steps_;
    latest_ = now;
}

SegmentClock::SegmentClock(const shm::SegmentHeader& header, bool from_other_boot,
                           const DaemonClock& clock) noexcept
    : tsc(header.clock_kind == static_cast<std::uint32_t>(shm::ClockKind::tsc)),
      other_boot(from_other_boot),
      anchor_ticks(tsc ? header.anchor_ticks : header.anchor_monotonic_ns),
      anchor_unix_ns(header.anchor_realtime_ns) {
    if (tsc || other_boot) return;
    // The header may say anything: modulo 2^64 throughout.
    const ClockAnchor& latest = clock.latest();
    const std::uint64_t ahead = (latest.realtime_ns - latest.monotonic_ns) -
                                (header.anchor_realtime_ns - header.anchor_monotonic_ns);
    const bool a_second_at_most = ahead + namespace_from_ns <= 2 * namespace_from_ns;
    if (!a_second_at_most) monotonic_ahead_ns = ahead;
}

TickConverter::TickConverter(const SegmentClock& segment, std::uint64_t created_ticks,
                             const DaemonClock& clock, std::uint64_t now_ticks) noexcept {
    segment_ticks_ = segment.anchor_ticks;
    segment_unix_ = segment.anchor_unix_ns;
    if (segment.other_boot) {
        // Its ticks mean nothing to this boot's clocks; its own anchor and the tick's length do.
        anchor_ticks_ = segment_ticks_;
        anchor_unix_ = segment_unix_;
        tick_length_ = segment.tsc ? clock.tick_length() : default_tick_length;
        return;
    }
    const ClockAnchor& latest = clock.latest();
    std::uint64_t now = now_ticks;
    std::uint64_t latest_ticks = latest.ticks;
    first_ticks_ = clock.first().ticks;
    tick_length_ = clock.tick_length();
    if (!segment.tsc) {
        const std::uint64_t ahead = segment.monotonic_ahead_ns;
        now = latest.monotonic_ns + scale(now_ticks - latest.ticks, tick_length_) + ahead;
        latest_ticks = latest.monotonic_ns + ahead;
        first_ticks_ = clock.first().monotonic_ns + ahead;
        tick_length_ = default_tick_length;
    }
    anchor_ticks_ = latest_ticks;
    anchor_unix_ = latest.realtime_ns;
    interpolate_from(segment_ticks_, segment_unix_, clock.first().realtime_ns);

    // A second below: the first span may have begun before its process had a segment.
    const std::uint64_t second = (1'000'000'000ULL << 20) / (tick_length_ >> (tick_shift - 20));
    const std::uint64_t created = created_ticks < segment_ticks_ ? created_ticks : segment_ticks_;
    lowest_ = created > second ? created - second : 0;
    span_ = now > lowest_ ? now - lowest_ : 0;
}

void TickConverter::interpolate_from(std::uint64_t ticks, std::uint64_t unix_ns,
                                     std::uint64_t first_unix) noexcept {
    segment_ticks_ = first_ticks_;
    segment_unix_ = first_unix;
    segment_tick_length_ = tick_length_;
    if (ticks >= first_ticks_ || unix_ns >= first_unix) return;
    const auto scaled = static_cast<unsigned __int128>(first_unix - unix_ns) << tick_shift;
    const auto length = scaled / (first_ticks_ - ticks);
    // When the wall clock was stepped between the two, the line would bend every time on it.
    if (length < (1ULL << 62) && same_length(static_cast<std::uint64_t>(length), tick_length_))
        segment_tick_length_ = static_cast<std::uint64_t>(length);
}

std::uint64_t TickConverter::clamp(std::uint64_t ticks) noexcept {
    ++clamped_;
    return ticks < lowest_ ? lowest_ : lowest_ + span_;
}

std::uint64_t TickConverter::before_first(std::uint64_t ticks) const noexcept {
    return segment_unix_ + scale(ticks - segment_ticks_, segment_tick_length_);
}

}  // namespace oteld::daemon
