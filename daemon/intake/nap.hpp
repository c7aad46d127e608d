// How long the drain may sleep: until the fullest lane may be three eighths full at its recent
// rate.
//
// Used by: the drain thread, once a round. Threads: one. Deciding only: it is told what was drained
// and when. 1 to 50 ms; after 5 s without a span it grows to 500 ms. Never zero: a reader that
// chases the writer's cache lines makes the writer several times slower.
#pragma once

#include <chrono>
#include <cstdint>

namespace oteld::daemon {

class Nap {
public:
    using Duration = std::chrono::nanoseconds;
    static constexpr Duration shortest = std::chrono::milliseconds(1);
    static constexpr Duration longest = std::chrono::milliseconds(50);
    static constexpr Duration idle_longest = std::chrono::milliseconds(500);
    static constexpr Duration idle_after = std::chrono::seconds(5);

    // What this round took out of one lane.
    void drained(std::uint64_t bytes, std::uint64_t lane_bytes) noexcept;
    // This round left something that the next one can do at once.
    void more_waits() noexcept;
    // Ends the round and says how long to sleep. `now` is monotonic.
    [[nodiscard]] Duration next(Duration now) noexcept;

private:
    double fullest_ = 0;  // Largest share of a lane that this round drained.
    Duration last_round_{-1};
    Duration last_span_{0};
    Duration nap_ = shortest;
};

}  // namespace oteld::daemon
