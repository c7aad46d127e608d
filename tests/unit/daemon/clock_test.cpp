#include "daemon/intake/clock.hpp"

#include <doctest/doctest.h>

#include <thread>

using namespace oteld;
using namespace oteld::daemon;

namespace {

constexpr std::uint64_t second = 1'000'000'000;
constexpr std::uint64_t unix_0 = 1'700'000'000 * second;

// Two ticks a nanosecond; realtime and monotonic run alike.
ClockAnchor at(std::uint64_t seconds) {
    return {seconds * 2 * second, seconds * second, unix_0 + seconds * second};
}
std::uint64_t ticks(double seconds) { return static_cast<std::uint64_t>(seconds * 2e9); }

shm::SegmentHeader segment_at(const ClockAnchor& anchor,
                              shm::ClockKind kind = shm::ClockKind::tsc) {
    shm::SegmentHeader header{};
    header.clock_kind = static_cast<std::uint32_t>(kind);
    header.anchor_ticks = anchor.ticks;
    header.anchor_monotonic_ns = anchor.monotonic_ns;
    header.anchor_realtime_ns = anchor.realtime_ns;
    return header;
}

bool near(std::uint64_t a, std::uint64_t b, std::uint64_t within) {
    return (a > b ? a - b : b - a) <= within;
}

}  // namespace

TEST_CASE("a time is the wall clock at the latest anchor minus what has elapsed") {
    DaemonClock clock(at(100), at(90));
    clock.reanchor(at(101));
    TickConverter convert(SegmentClock(segment_at(at(100)), false, clock), at(100).ticks, clock,
                          ticks(101.5));
    CHECK(near(convert.to_unix(ticks(101)), unix_0 + 101 * second, 1));
    CHECK(near(convert.to_unix(ticks(100.5)), unix_0 + 100 * second + second / 2, 1));
    CHECK(near(convert.to_unix(ticks(101.25)), unix_0 + 101 * second + second / 4, 1));
    CHECK(convert.clamped() == 0);
}

TEST_CASE("a step of the wall clock moves times but does not bend them") {
    DaemonClock clock(at(100), at(90));
    ClockAnchor stepped = at(101);
    stepped.realtime_ns += 3600 * second;
    clock.reanchor(stepped);
    CHECK(clock.jumps() == 0);
    CHECK(clock.steps() == 1);
    TickConverter convert(SegmentClock(segment_at(at(100)), false, clock), at(100).ticks, clock,
                          ticks(101.5));
    const std::uint64_t a = convert.to_unix(ticks(101.1));
    const std::uint64_t b = convert.to_unix(ticks(101.2));
    CHECK(near(b - a, second / 10, 1));
    CHECK(near(a, unix_0 + 3600 * second + 101 * second + second / 10, 1));
}

TEST_CASE("a wall clock that is set either way is counted, one that is slewed is not") {
    DaemonClock clock(at(100), at(90));
    std::uint64_t set_by = 0;
    std::uint64_t seconds = 100;
    const auto reanchor = [&](std::uint64_t elapsed) {
        ClockAnchor now = at(seconds += elapsed);
        now.realtime_ns += set_by;
        clock.reanchor(now);
    };
    for (int i = 0; i < 100; ++i) {
        set_by += second / 2000;  // 500 ppm.
        reanchor(1);
    }
    CHECK(clock.steps() == 0);
    set_by += second / 5;
    reanchor(1);
    CHECK(clock.steps() == 1);
    set_by -= 7200 * second;
    reanchor(1);
    CHECK(clock.steps() == 2);
    reanchor(1);
    set_by += 1800 * second / 1000;  // Slewed by half a thousandth while the process was stopped.
    reanchor(3600);
    CHECK(clock.steps() == 2);
    CHECK(clock.jumps() == 0);
}

TEST_CASE(
    "what was recorded while no daemon ran lies on the line between the segment's anchor and the "
    "daemon's first") {
    ClockAnchor first = at(1100);
    first.realtime_ns += second / 2;  // The wall clock was slewed by half a second in a thousand.
    DaemonClock clock(first, at(1000));
    TickConverter convert(SegmentClock(segment_at(at(100)), false, clock), at(100).ticks, clock,
                          first.ticks);
    CHECK(near(convert.to_unix(ticks(100)), unix_0 + 100 * second, 2000));
    CHECK(near(convert.to_unix(ticks(600)), unix_0 + 600 * second + second / 4, 2000));
    CHECK(near(convert.to_unix(ticks(1099.999)), first.realtime_ns - second / 1000, 2000));
}

TEST_CASE(
    "when the wall clock was stepped in between, times are counted back from the first anchor") {
    ClockAnchor first = at(200);
    first.realtime_ns += 50 * second;
    DaemonClock clock(first, at(190));
    TickConverter convert(SegmentClock(segment_at(at(100)), false, clock), at(100).ticks, clock,
                          first.ticks);
    CHECK(near(convert.to_unix(ticks(150)), first.realtime_ns - 50 * second, 100));
}

TEST_CASE("times outside the segment's life are moved to its nearer end and counted") {
    DaemonClock clock(at(100), at(90));
    TickConverter convert(SegmentClock(segment_at(at(50)), false, clock), at(50).ticks, clock,
                          ticks(100.25));
    CHECK(near(convert.to_unix(ticks(5000)), unix_0 + 100 * second + second / 4, 1));
    CHECK(convert.clamped() == 1);
    CHECK(near(convert.to_unix(1), unix_0 + 49 * second, 1));
    CHECK(convert.clamped() == 2);
    CHECK(near(convert.to_unix(~0ULL >> 1), unix_0 + 100 * second + second / 4, 1));
    CHECK(convert.clamped() == 3);
    // A span may have begun in an older segment of its process.
    TickConverter grown(SegmentClock(segment_at(at(90)), false, clock), at(50).ticks, clock,
                        ticks(100.25));
    CHECK(near(grown.to_unix(ticks(60)), unix_0 + 60 * second, 1));
    CHECK(grown.clamped() == 0);
}

TEST_CASE("a suspend is noticed and does not change the length of a tick") {
    DaemonClock clock(at(100), at(90));
    const std::uint64_t length = clock.tick_length();
    // The counter went on for an hour that CLOCK_MONOTONIC did not see.
    const ClockAnchor woken{at(101).ticks + ticks(3600), at(101).monotonic_ns,
                            at(101).realtime_ns + 3600 * second};
    clock.reanchor(woken);
    CHECK(clock.jumps() == 1);
    CHECK(clock.steps() == 0);  // The wall clock went on as it should.
    CHECK(clock.tick_length() == length);
    TickConverter convert(SegmentClock(segment_at(at(100)), false, clock), at(100).ticks, clock,
                          woken.ticks + ticks(1));
    CHECK(near(convert.to_unix(woken.ticks - ticks(0.5)), woken.realtime_ns - second / 2, 1));
}

TEST_CASE("an earlier daemon's anchor is taken when a short measurement agrees with it") {
    const ClockAnchor now = at(1000);
    const ClockAnchor recent{now.ticks - ticks(0.005), now.monotonic_ns - second / 200, 0};
    CHECK(earlier_anchor(at(10), recent, now).ticks == at(10).ticks);
    ClockAnchor slewed = at(10);
    slewed.monotonic_ns += second / 4;  // Of 990.
    CHECK(earlier_anchor(slewed, recent, now).ticks == slewed.ticks);
    // Suspended for five minutes in between: CLOCK_MONOTONIC stood still.
    ClockAnchor suspended = at(10);
    suspended.monotonic_ns += 300 * second;
    CHECK(earlier_anchor(suspended, recent, now).ticks == recent.ticks);
    // Half of the anchor is of another second.
    ClockAnchor torn = at(10);
    torn.ticks = at(12).ticks;
    CHECK(earlier_anchor(torn, recent, now).ticks == recent.ticks);
    CHECK(earlier_anchor(at(2000), recent, now).ticks == recent.ticks);
}

TEST_CASE("a counter that keeps another rate is believed the second time") {
    DaemonClock clock(at(100),
                      {});  // Half a nanosecond from 100 s of ticks: right by construction.
    ClockAnchor a = at(101), b = at(102);
    a.ticks = at(100).ticks + second;  // From now on one tick a nanosecond.
    b.ticks = at(100).ticks + 2 * second;
    clock.reanchor(a);
    clock.reanchor(b);
    CHECK(clock.jumps() == 1);
    CHECK(near(clock.tick_length(), 1ULL << tick_shift, 1ULL << 20));
}

TEST_CASE("a segment of another boot keeps to its own anchor") {
    DaemonClock clock(at(100), at(90));
    const ClockAnchor then{77 * second, 38 * second, unix_0 - 9999 * second};
    TickConverter convert(SegmentClock(segment_at(then), true, clock), then.ticks, clock,
                          ticks(100));
    CHECK(near(convert.to_unix(77 * second + 2000), unix_0 - 9999 * second + 1000, 1));
    CHECK(convert.clamped() == 0);
}

TEST_CASE("CLOCK_MONOTONIC of a time namespace is shifted back") {
    DaemonClock clock(at(100), at(90));
    ClockAnchor inside = at(100);
    inside.monotonic_ns += 1'000'000 * second;
    inside.ticks = inside.monotonic_ns;
    TickConverter convert(SegmentClock(segment_at(inside, shm::ClockKind::monotonic), false, clock),
                          inside.monotonic_ns, clock, ticks(103));
    CHECK(near(convert.to_unix(inside.monotonic_ns + 2 * second), unix_0 + 102 * second, 1));
    ClockAnchor same = at(100);
    same.realtime_ns += second / 2;  // Slewed, not shifted.
    TickConverter plain(SegmentClock(segment_at(same, shm::ClockKind::monotonic), false, clock),
                        same.monotonic_ns, clock, ticks(103));
    CHECK(near(plain.to_unix(102 * second), unix_0 + 102 * second, 1));
}

TEST_CASE("a step of the wall clock after a segment was opened is no time namespace") {
    DaemonClock clock(at(100), at(90));
    const shm::SegmentHeader header = segment_at(at(100), shm::ClockKind::monotonic);
    const SegmentClock opened(header, false, clock);
    ClockAnchor stepped = at(101);
    stepped.realtime_ns += 3600 * second;
    clock.reanchor(stepped);
    TickConverter convert(opened, header.anchor_monotonic_ns, clock, ticks(101.5));
    CHECK(near(convert.to_unix(101 * second + second / 10),
               unix_0 + 3600 * second + 101 * second + second / 10, 1));
    CHECK(convert.clamped() == 0);
}

TEST_CASE("anchors that no clock ever showed are arithmetic as any other") {
    DaemonClock clock(at(100), at(90));
    const std::uint64_t far[] = {0, 1, 1ULL << 63, (1ULL << 63) + 1, ~0ULL};
    for (const std::uint64_t monotonic : far)
        for (const std::uint64_t realtime : far) {
            const shm::SegmentHeader header =
                segment_at({~0ULL, monotonic, realtime}, shm::ClockKind::monotonic);
            TickConverter convert(SegmentClock(header, false, clock), monotonic, clock, ticks(101));
            for (const std::uint64_t time : far) (void)convert.to_unix(time & ~(1ULL << 63));
        }
    // Exactly 2^63 ns apart.
    ClockAnchor half = at(100);
    half.realtime_ns += 1ULL << 63;
    CHECK(SegmentClock(segment_at(half, shm::ClockKind::monotonic), false, clock)
              .monotonic_ahead_ns == 1ULL << 63);
}

TEST_CASE("the machine's own clocks agree with the conversion") {
    const ClockAnchor earlier = read_anchor();
    while (read_anchor().monotonic_ns - earlier.monotonic_ns < 5'000'000) {
    }
    const ClockAnchor first = read_anchor();
    DaemonClock clock(first, earlier);
    shm::SegmentHeader header = segment_at(first);
    const ClockAnchor later = read_anchor();
    TickConverter convert(SegmentClock(header, false, clock), header.anchor_ticks, clock,
                          later.ticks);
    // 5 ms of calibration give some parts in a million, over microseconds; a step of the wall clock
    // would show.
    CHECK(near(convert.to_unix(later.ticks), later.realtime_ns, 1'000'000));
}
