// Changes several words of the spool header at once: all of them or, if the daemon dies, none.
//
// Used by: daemon/spool. Threads: drain thread only.
// A list of {offset, new value} is written beside the words, then one release store of its length
// is the commit. Only then are the words changed. A restart applies the list again: values are
// absolute, so twice is once.
#pragma once

#include "daemon/spool/layout.hpp"

#include <cstdint>

namespace oteld::daemon {

class Journal {
public:
    explicit Journal(SpoolHeader& header) noexcept : header_(header) {}

    // Finishes what an earlier daemon had committed. False: entries that point outside the header.
    [[nodiscard]] bool replay() noexcept;

    // Notes a change. The word keeps its value until commit(); get() sees what is noted.
    void set(std::uint64_t& word, std::uint64_t value) noexcept;
    void add(std::uint64_t& word, std::uint64_t difference) noexcept;
    [[nodiscard]] bool room(std::uint32_t entries) const noexcept {
        return journal_entries_max - count_ >= entries;
    }
    void commit() noexcept;

private:
    void apply(std::uint64_t count) noexcept;

    SpoolHeader& header_;
    std::uint32_t count_ = 0;
};

}  // namespace oteld::daemon
