#include "daemon/status/snapshot.hpp"

namespace oteld::status {

std::uint64_t sum(const Counts& counts) noexcept {
    std::uint64_t total = 0;
    for (const auto& [reason, spans] : counts) total += spans;
    return total;
}

std::int64_t balance(const Application& application, const ExporterShare& share) noexcept {
    const std::uint64_t accounted = application.unsampled + application.open + application.lost +
                                    sum(application.dropped) + application.in_ring +
                                    sum(share.filtered) + share.in_daemon + share.delivered +
                                    sum(share.rejected);
    return static_cast<std::int64_t>(application.started - accounted);
}

}  // namespace oteld::status
