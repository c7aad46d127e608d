// Adds to a snapshot what takes memory of earlier ones: rates, recent losses; and then the verdict.
//
// Used by: daemon.cpp, between filling a snapshot and publishing it. Threads: one.
// Deciding only: no clock, no I/O. An application or exporter that vanishes is forgotten.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "daemon/status/snapshot.hpp"

namespace oteld::status {

// Fills verdict and reasons from everything else: degraded as long as something needs a person.
void judge(Snapshot& snapshot, std::int64_t now_ns);

class Observer {
public:
    // Call about once a second. `elapsed_ns` only rises (CLOCK_MONOTONIC): rates and windows are
    // measured by it. `now_ns` is the wall clock, which may be set at any time.
    void observe(Snapshot& snapshot, std::int64_t now_ns, std::int64_t elapsed_ns);

private:
    struct Sample {
        std::int64_t time_ns;
        std::uint64_t flow;  // started or delivered
        std::uint64_t loss;
    };
    using Series = std::deque<Sample>;
    struct Change {
        double flow_per_s;
        std::uint64_t loss;
    };
    static Change follow(Series& series, const Sample& now);

    std::map<std::string, Series> applications_;
    std::map<std::string, Series> exporters_;
};

}  // namespace oteld::status
