#include "daemon/batch/settle.hpp"

#include <algorithm>

namespace oteld::daemon {

void Inbox::post(Settlement settlement) {
    {
        const std::lock_guard lock(mutex_);
        settlements_.push_back(std::move(settlement));
    }
    wake_();
}

std::vector<Settlement> Inbox::take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(settlements_, {});
}

void Settler::apply(const Settlement& settlement) {
    std::uint32_t rejected = settlement.rejected;
    for (const Slice& slice : settlement.slices) {
        const std::uint32_t here = std::min(rejected, slice.spans);
        rejected -= here;
        const Part part{slice, settlement.exporter, here, settlement.reason};
        if (!apply_part(part)) waiting_.push_back(part);
    }
    // What waited for one of these parts may be next now.
    for (bool again = !waiting_.empty(); again;) {
        again = std::erase_if(waiting_, [this](const Part& part) { return apply_part(part); }) != 0;
    }
}

bool Settler::apply_part(const Part& part) {
    if (Spool::settled_spans(part.slice.extent, part.exporter) != part.slice.first) return false;
    spool_.settle(part.slice.extent, part.exporter, part.slice.spans, part.rejected, part.reason);
    return true;
}

}  // namespace oteld::daemon
