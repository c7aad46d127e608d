// The bounded table of applications in the spool header: who they are and what is counted about
// them for good.
//
// Used by: the drain (one row a process), the spool (folds settled counts), status. Threads: drain
// thread only. A row outlives its process, its ring files and the daemon. When the table is full,
// the row of the process that was last seen longest ago is merged into one row of its service; a
// row is never dropped.
#pragma once

#include "daemon/batch/ledger.hpp"
#include "daemon/spool/journal.hpp"

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace oteld::daemon {

struct ApplicationFacts {
    std::uint64_t uid = 0;
    std::uint8_t process_id[16] = {};
    std::uint64_t pid = 0;
    std::string_view service;
    std::string_view executable;
};

class ApplicationRows {
public:
    ApplicationRows(SpoolHeader& header, Journal& journal, Ledger& ledger)
        : header_(header), journal_(journal), ledger_(ledger) {}

    [[nodiscard]] std::optional<std::uint32_t> find(const ApplicationFacts& facts) const;
    // Another row can only be had by merging one.
    [[nodiscard]] bool full() const;
    // The row of this process, made if need be. Never fails: the last row takes whoever does not
    // fit.
    [[nodiscard]] std::uint32_t find_or_add(const ApplicationFacts& facts, std::uint64_t now_ns);

    // Segments that are mapped and extents that are live keep a row from being merged.
    void hold(std::uint32_t row) { ++holds_[row]; }
    void release(std::uint32_t row) { --holds_[row]; }
    // Only these can have spans in the spool. Asking does not touch the row, which is a page or
    // more of its own.
    [[nodiscard]] bool held(std::uint32_t row) const { return holds_[row] != 0; }

    [[nodiscard]] ApplicationRow& row(std::uint32_t index) const { return header_.rows[index]; }
    [[nodiscard]] bool used(std::uint32_t index) const {
        return header_.rows[index].state != static_cast<std::uint64_t>(RowState::free);
    }

private:
    [[nodiscard]] std::uint32_t free_row();
    void merge(std::uint32_t from);
    void write_identity(ApplicationRow& row, const ApplicationFacts& facts, std::uint64_t now_ns);

    SpoolHeader& header_;
    Journal& journal_;
    Ledger& ledger_;
    std::vector<std::uint32_t> holds_ = std::vector<std::uint32_t>(application_rows_max);
};

}  // namespace oteld::daemon
