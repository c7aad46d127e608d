#include "daemon/spool/journal.hpp"

namespace oteld::daemon {
namespace {

std::uint64_t* word_at(SpoolHeader& header, std::uint64_t offset) {
    return reinterpret_cast<std::uint64_t*>(reinterpret_cast<std::uint8_t*>(&header) + offset);
}

}  // namespace

bool Journal::replay() noexcept {
    // Acquire pairs with commit() in the process that died.
    const std::uint64_t count = __atomic_load_n(&header_.journal_count, __ATOMIC_ACQUIRE);
    if (count > journal_entries_max) return false;
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t offset = header_.journal[i].offset;
        if (offset % 8 != 0 || offset > sizeof(SpoolHeader) - 8) return false;
    }
    apply(count);
    return true;
}

void Journal::set(std::uint64_t& word, std::uint64_t value) noexcept {
    const auto offset = static_cast<std::uint64_t>(reinterpret_cast<std::uint8_t*>(&word) -
                                                   reinterpret_cast<std::uint8_t*>(&header_));
    header_.journal[count_++] = {offset, value};
}

void Journal::add(std::uint64_t& word, std::uint64_t difference) noexcept {
    if (difference == 0) return;
    const auto offset = static_cast<std::uint64_t>(reinterpret_cast<std::uint8_t*>(&word) -
                                                   reinterpret_cast<std::uint8_t*>(&header_));
    // Lists are short, except when a block is folded: then most words were noted a few entries ago.
    for (std::uint32_t i = count_; i-- > 0;) {
        if (header_.journal[i].offset != offset) continue;
        header_.journal[i].value += difference;
        return;
    }
    header_.journal[count_++] = {offset, word + difference};
}

void Journal::commit() noexcept {
    if (count_ == 0) return;
    // Release: the entries, and the frames of the extent that they announce, are in the file before
    // it counts.
    __atomic_store_n(&header_.journal_count, count_, __ATOMIC_RELEASE);
    apply(count_);
    count_ = 0;
}

void Journal::apply(std::uint64_t count) noexcept {
    for (std::uint64_t i = 0; i < count; ++i) {
        const JournalEntry entry = header_.journal[i];
        __atomic_store_n(word_at(header_, entry.offset), entry.value, __ATOMIC_RELAXED);
    }
    // Release: all words are in the file before the list is gone.
    __atomic_store_n(&header_.journal_count, 0, __ATOMIC_RELEASE);
}

}  // namespace oteld::daemon
