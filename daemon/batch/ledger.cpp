#include "daemon/batch/ledger.hpp"

#include <algorithm>

namespace oteld::daemon {

SettledWord SettledWord::unpack(std::uint64_t word) noexcept {
    SettledWord counts;
    counts.settled = static_cast<std::uint32_t>(word & ((1ULL << settled_bits) - 1));
    for (std::size_t i = 0; i < counts.rejected.size(); ++i)
        counts.rejected[i] = static_cast<std::uint32_t>(word >> (settled_bits + rejected_bits * i) &
                                                        ((1ULL << rejected_bits) - 1));
    return counts;
}

std::uint64_t SettledWord::pack() const noexcept {
    std::uint64_t word = settled;
    for (std::size_t i = 0; i < rejected.size(); ++i)
        word |= static_cast<std::uint64_t>(rejected[i]) << (settled_bits + rejected_bits * i);
    return word;
}

std::uint32_t SettledWord::delivered() const noexcept {
    std::uint32_t count = settled;
    for (const std::uint32_t spans : rejected) count -= spans;
    return count;
}

std::uint64_t Ledger::pending(std::uint32_t row) const {
    std::uint64_t spans = 0;
    for (unsigned e = 0; e < spool_exporters_max; ++e) spans += share(row, e).pending;
    return spans;
}

std::uint64_t Ledger::pending_most(std::uint32_t row) const {
    std::uint64_t spans = 0;
    for (unsigned e = 0; e < spool_exporters_max; ++e)
        spans = std::max(spans, share(row, e).pending);
    return spans;
}

void Ledger::committed(std::uint32_t row, std::uint64_t exporter_mask, std::uint32_t spans) {
    for (unsigned e = 0; e < spool_exporters_max; ++e)
        if ((exporter_mask >> e & 1) != 0) share(row, e).pending += spans;
}

void Ledger::settled(std::uint32_t row, unsigned exporter, const SettledWord& before,
                     const SettledWord& after) {
    Share& counts = share(row, exporter);
    counts.pending -= after.settled - before.settled;
    counts.delivered += after.delivered() - before.delivered();
    for (std::size_t i = 0; i < counts.rejected.size(); ++i)
        counts.rejected[i] += after.rejected[i] - before.rejected[i];
}

void Ledger::clear_row(std::uint32_t row) {
    for (unsigned e = 0; e < spool_exporters_max; ++e) share(row, e) = {};
}

void Ledger::move_row(std::uint32_t from, std::uint32_t to) {
    for (unsigned e = 0; e < spool_exporters_max; ++e) {
        const Share& source = share(from, e);
        Share& target = share(to, e);
        target.absent += source.absent;
        target.pending += source.pending;
        target.delivered += source.delivered;
        for (std::size_t i = 0; i < source.rejected.size(); ++i)
            target.rejected[i] += source.rejected[i];
    }
    clear_row(from);
}

}  // namespace oteld::daemon
