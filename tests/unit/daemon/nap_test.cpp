#include "daemon/intake/nap.hpp"

#include <doctest/doctest.h>

using namespace oteld::daemon;
using namespace std::chrono_literals;

TEST_CASE("the nap is the time that the fullest lane takes to three eighths") {
    Nap nap;
    Nap::Duration now = 0s;
    Nap::Duration slept = nap.next(now);
    // 1 % of a lane a millisecond: three eighths take 37.5 ms. The nap doubles up to it and stays.
    for (int i = 0; i < 12; ++i) {
        now += slept;
        nap.drained(static_cast<std::uint64_t>(slept / 1us), 100'000);
        nap.drained(1, 100'000);  // A quieter lane does not matter.
        slept = nap.next(now);
    }
    CHECK(slept > 36ms);
    CHECK(slept < 39ms);
}

TEST_CASE("a burst shortens the nap at once, a single quiet round does not lengthen it much") {
    Nap nap;
    Nap::Duration now = 0s;
    Nap::Duration slept = nap.next(now);
    for (int i = 0; i < 10; ++i) slept = nap.next(now += slept);
    CHECK(slept == 50ms);
    nap.drained(100'000, 100'000);
    slept = nap.next(now += slept);
    CHECK(slept <= 19ms);
    nap.drained(100'000, 100'000);
    slept = nap.next(now += 1ms);
    CHECK(slept == 1ms);
    slept = nap.next(now += slept);
    CHECK(slept == 2ms);
}

TEST_CASE("never below one and, while there are spans, never above fifty milliseconds") {
    Nap nap;
    Nap::Duration now = 0s;
    for (int i = 0; i < 100; ++i) {
        nap.drained(1, 1 << 20);
        const auto slept = nap.next(now);
        CHECK(slept >= 1ms);
        CHECK(slept <= 50ms);
        now += slept;
    }
    nap.drained(~0ULL >> 1, 1);
    CHECK(nap.next(now + 1ns) == 1ms);
    nap.drained(5, 0);  // A segment with slots only.
    CHECK(nap.next(now + 2ns) > 0ms);
}

TEST_CASE(
    "after five seconds without a span the nap grows to half a second, and one span ends that") {
    Nap nap;
    Nap::Duration now = 100s;
    Nap::Duration slept = nap.next(now);
    while (now < 100s + Nap::idle_after) {
        CHECK(slept <= 50ms);
        slept = nap.next(now += slept);
    }
    for (int i = 0; i < 5; ++i) slept = nap.next(now += slept);
    CHECK(slept == 500ms);
    nap.drained(1000, 100'000);
    slept = nap.next(now += slept);
    CHECK(slept <= 50ms);
}
