// Changes several words of the spool header at once: all of them or, if the daemon dies, none.
//
// Used by: daemon/spool. Threads: drain thread only.
// A list of {offset, new value} is written beside the words, then one release store of its length
// is the commit. Only then are the words changed. A restart applies the list again: values are
// absolute, so twice is once.
#pragma once

#include "daemon/spool/layout.hpp"
#include "shm/hardware.hpp"

#include <atomic>
#include <cstdint>

namespace oteld::daemon {

template <class Memory>
class BasicJournal {
public:
    explicit BasicJournal(SpoolHeader& header) noexcept : header_(header) {}

    // Finishes what an earlier daemon had committed. False: entries that point outside the header.
    [[nodiscard]] bool replay() noexcept {
        // Acquire pairs with commit() in the process that died.
        const std::uint64_t count = Memory::load_acquire(header_.journal_count);
        if (count > journal_entries_max) return false;
        for (std::uint64_t i = 0; i < count; ++i) {
            const std::uint64_t offset = Memory::load_relaxed(header_.journal[i].offset);
            if (offset % 8 != 0 || offset > sizeof(SpoolHeader) - 8) return false;
        }
        apply(count);
        return true;
    }

    // Notes a change. The word keeps its value until commit(); get() sees what is noted.
    void set(std::uint64_t& word, std::uint64_t value) noexcept {
        put(count_++, offset_of(word), value);
    }
    void add(std::uint64_t& word, std::uint64_t difference) noexcept {
        if (difference == 0) return;
        const std::uint64_t offset = offset_of(word);
        // Lists are short, except when a block is folded: then most words were noted a few entries
        // ago.
        for (std::uint32_t i = count_; i-- > 0;) {
            if (Memory::load_relaxed(header_.journal[i].offset) != offset) continue;
            put(i, offset, Memory::load_relaxed(header_.journal[i].value) + difference);
            return;
        }
        put(count_++, offset, Memory::load_relaxed(word) + difference);
    }
    [[nodiscard]] bool room(std::uint32_t entries) const noexcept {
        return journal_entries_max - count_ >= entries;
    }
    void commit() noexcept {
        if (count_ == 0) return;
        // Release: the entries, and the frames of the extent that they announce, are in the file
        // before it counts.
        Memory::store_release(header_.journal_count, std::uint64_t{count_});
        apply(count_);
        count_ = 0;
    }

private:
    [[nodiscard]] std::uint64_t offset_of(const std::uint64_t& word) const noexcept {
        return static_cast<std::uint64_t>(reinterpret_cast<const std::uint8_t*>(&word) -
                                          reinterpret_cast<const std::uint8_t*>(&header_));
    }
    void put(std::uint32_t entry, std::uint64_t offset, std::uint64_t value) noexcept {
        // Not before the list that was here is gone: the compiler must not move these up.
        std::atomic_signal_fence(std::memory_order_seq_cst);
        Memory::store_relaxed(header_.journal[entry].offset, offset);
        Memory::store_relaxed(header_.journal[entry].value, value);
    }
    void apply(std::uint64_t count) noexcept {
        for (std::uint64_t i = 0; i < count; ++i) {
            const std::uint64_t offset = Memory::load_relaxed(header_.journal[i].offset);
            auto& word = *reinterpret_cast<std::uint64_t*>(
                reinterpret_cast<std::uint8_t*>(&header_) + offset);
            Memory::store_relaxed(word, Memory::load_relaxed(header_.journal[i].value));
        }
        // Release: all words are in the file before the list is gone.
        Memory::store_release(header_.journal_count, std::uint64_t{0});
    }

    SpoolHeader& header_;
    std::uint32_t count_ = 0;
};
using Journal = BasicJournal<shm::Hardware>;

}  // namespace oteld::daemon
