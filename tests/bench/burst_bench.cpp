// A burst from idle: one thread wakes up and writes spans at a given distance while the daemon
// sleeps.
//
// Usage: burst_bench SPANS GAP_NS IDLE_MS BURSTS   OTELD_DIR names the ring directory of a running
// oteld and holds no other program's rings. Prints one JSON line per burst: how many of its spans
// were dropped, how often the writer rang the daemon's bell, and how often it added a segment. The
// first burst meets a lane of 128 KiB, later ones what it has grown to.

#include "tests/bench/stand_in.hpp"

#include "oteld/client.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace {

// Of this process's segments: the client counts in their headers.
std::uint64_t counter(oteld::shm::ProcessCounter which) {
    std::uint64_t sum = 0;
    oteld::bench::for_each_segment([&](std::uint8_t* map) {
        sum += __atomic_load_n(&reinterpret_cast<const oteld::shm::SegmentHeader*>(map)
                                    ->counters[static_cast<std::size_t>(which)],
                               __ATOMIC_RELAXED);
    });
    return sum;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 5) {
        std::fprintf(stderr, "usage: burst_bench SPANS GAP_NS IDLE_MS BURSTS\n");
        return 2;
    }
    using Clock = std::chrono::steady_clock;
    const long spans = std::atol(arguments[1]);
    const std::chrono::nanoseconds gap(std::atol(arguments[2]));
    const std::chrono::milliseconds idle(std::atol(arguments[3]));
    const int bursts = std::atoi(arguments[4]);
    const auto tracer = oteld::tracer("bench", "1");
    for (int burst = 0; burst < bursts; ++burst) {
        if (!tracer.span("probe").recording()) {
            std::fprintf(stderr, "burst_bench: spans are not recorded; is OTELD_DIR set?\n");
            return 1;
        }
        std::this_thread::sleep_for(idle);
        const std::uint64_t before = oteld::spans_dropped();
        const std::uint64_t bells = counter(oteld::shm::ProcessCounter::bells);
        const std::uint64_t growths = counter(oteld::shm::ProcessCounter::growths);
        const auto start = Clock::now();
        auto due = start;
        for (long i = 0; i < spans; ++i) {
            auto span = tracer.span("checkout");
            span.set("order.id", "A-12345")
                .set("lines", i)
                .set("total", 12.5)
                .set("ok", true)
                .set("customer", "someone");
            span.end();
            due += gap;
            while (gap.count() != 0 && Clock::now() < due) {
            }
        }
        const std::chrono::duration<double, std::nano> took = Clock::now() - start;
        const auto since = [](oteld::shm::ProcessCounter which, std::uint64_t then) {
            return static_cast<unsigned long long>(counter(which) - then);
        };
        std::printf(
            "{\"burst\":%d,\"dropped\":%llu,\"bells\":%llu,\"growths\":%llu,\"ns_per_span\":%.0f}"
            "\n",
            burst, static_cast<unsigned long long>(oteld::spans_dropped() - before),
            since(oteld::shm::ProcessCounter::bells, bells),
            since(oteld::shm::ProcessCounter::growths, growths),
            took.count() / static_cast<double>(spans));
        std::fflush(stdout);
    }
}
