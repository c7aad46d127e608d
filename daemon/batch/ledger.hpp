// What has become of the spans of each application on the way to each exporter.
//
// Used by: the drain thread (counts), status (reads on the same thread). Threads: drain thread
// only. Memory only: the spool file holds the truth (words of extents, totals of rows), and a
// restart counts it again.
#pragma once

#include "daemon/spool/layout.hpp"

#include <array>
#include <cstdint>
#include <vector>

namespace oteld::daemon {

using RejectCounts = std::array<std::uint64_t, exporters::reject_reasons>;

// One word of an extent, taken apart.
struct SettledWord {
    std::uint32_t settled = 0;
    std::array<std::uint32_t, exporters::reject_reasons> rejected{};

    [[nodiscard]] static SettledWord unpack(std::uint64_t word) noexcept;
    [[nodiscard]] std::uint64_t pack() const noexcept;
    [[nodiscard]] std::uint32_t delivered() const noexcept;
};

class Ledger {
public:
    struct Share {
        std::uint64_t absent = 0;   // Drained before the exporter was configured.
        std::uint64_t pending = 0;  // In the spool, not settled.
        std::uint64_t delivered = 0;
        RejectCounts rejected{};
    };

    [[nodiscard]] const Share& share(std::uint32_t row, unsigned exporter) const {
        return shares_[row * spool_exporters_max + exporter];
    }
    [[nodiscard]] Share& share(std::uint32_t row, unsigned exporter) {
        return shares_[row * spool_exporters_max + exporter];
    }
    // Spans of `row` in the spool that somebody still waits for, over all exporters.
    [[nodiscard]] std::uint64_t pending(std::uint32_t row) const;
    // The same to the exporter that is furthest behind: as many are in the spool, each once.
    [[nodiscard]] std::uint64_t pending_most(std::uint32_t row) const;

    void committed(std::uint32_t row, std::uint64_t exporter_mask, std::uint32_t spans);
    // `before` and `after` are the extent's word around this settle.
    void settled(std::uint32_t row, unsigned exporter, const SettledWord& before,
                 const SettledWord& after);
    void clear_row(std::uint32_t row);
    void move_row(std::uint32_t from, std::uint32_t to);

private:
    std::vector<Share> shares_ =
        std::vector<Share>(std::size_t{application_rows_max} * spool_exporters_max);
};

}  // namespace oteld::daemon
