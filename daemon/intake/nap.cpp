#include "daemon/intake/nap.hpp"

#include <algorithm>
#include <limits>

namespace oteld::daemon {

// Short of the half at which the writer rings the bell: a steady writer never rings.
constexpr double share = 0.375;

void Nap::drained(std::uint64_t bytes, std::uint64_t lane_bytes) noexcept {
    if (lane_bytes == 0) return;
    fullest_ = std::max(fullest_, static_cast<double>(bytes) / static_cast<double>(lane_bytes));
}

void Nap::more_waits() noexcept { fullest_ = std::numeric_limits<double>::infinity(); }

Nap::Duration Nap::next(Duration now) noexcept {
    const double fullest = fullest_;
    fullest_ = 0;
    if (last_round_ < Duration::zero()) last_span_ = now;  // A fresh daemon is not yet idle.
    const Duration elapsed = last_round_ < Duration::zero() ? nap_ : now - last_round_;
    last_round_ = now;
    if (fullest > 0) {
        last_span_ = now;
        const double to_share = static_cast<double>(elapsed.count()) * share / fullest;
        const double bounded = std::min(to_share, static_cast<double>(longest.count()));
        // At most twice the last one: one quiet round in the middle of a burst is no reason to
        // sleep long.
        nap_ = std::clamp(Duration(static_cast<std::int64_t>(bounded)), shortest,
                          std::max(shortest, nap_ * 2));
        nap_ = std::min(nap_, longest);
        return nap_;
    }
    const bool idle = now - last_span_ >= idle_after;
    nap_ = std::min(std::max(nap_, shortest) * 2, idle ? idle_longest : longest);
    return nap_;
}

}  // namespace oteld::daemon
