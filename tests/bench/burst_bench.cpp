// A burst from idle: one thread wakes up and writes spans at a given distance while the daemon
// sleeps.
//
// Usage: burst_bench SPANS GAP_NS IDLE_MS BURSTS   OTELD_DIR names the ring directory of a running
// oteld. Prints one JSON line per burst: how many of its spans were dropped. The first burst meets
// a lane of 128 KiB, later ones what it has grown to.

#include "oteld/client.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

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
        std::printf("{\"burst\":%d,\"dropped\":%llu,\"ns_per_span\":%.0f}\n", burst,
                    static_cast<unsigned long long>(oteld::spans_dropped() - before),
                    took.count() / static_cast<double>(spans));
        std::fflush(stdout);
    }
}
