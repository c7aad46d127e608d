// Times a short function in rounds, each long enough for the clock and short enough to fall between
// two disturbances; prints p10 and median over the rounds. Threads: one.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <vector>

namespace oteld::bench {

struct Figures {
    double p10 = 0;
    double median = 0;
};

inline Figures figures(std::vector<double> values) {
    if (values.empty()) return {};
    std::sort(values.begin(), values.end());
    return {values[values.size() / 10], values[values.size() / 2]};
}

// `between` runs untimed before each round.
template <class Function, class Between>
Figures measure(int rounds, int calls, Function function, Between between) {
    using Clock = std::chrono::steady_clock;
    std::vector<double> nanoseconds;
    for (int round = 0; round < rounds; ++round) {
        between();
        const auto start = Clock::now();
        for (int i = 0; i < calls; ++i) function(i);
        const std::chrono::duration<double, std::nano> took = Clock::now() - start;
        nanoseconds.push_back(took.count() / calls);
    }
    return figures(std::move(nanoseconds));
}

// One JSON line per figure, for run.py.
inline void report(const char* name, Figures figures) {
    std::printf("{\"name\":\"%s\",\"p10\":%.2f,\"median\":%.2f}\n", name, figures.p10,
                figures.median);
    std::fflush(stdout);
}

}  // namespace oteld::bench
