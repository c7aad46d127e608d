// The slots of one lane in which spans under construction live, so that a crash leaves them
// readable.
//
// Used by: the client's span path. Which slots are free is kept in private memory: what lies in
// shared memory is never asked for it. Threads: take() and give_back() on the lane's owner only;
// give_back_from_elsewhere() on any thread. Never: locks, allocates, makes system calls.
#pragma once

#include "shm/layout.hpp"

#include <atomic>

namespace oteld::shm {

struct Slots {
    std::uint64_t free;                   // Bit per slot; owner only.
    std::atomic<std::uint64_t> returned;  // Slots given back by other threads, not yet in `free`.
    std::uint64_t all;
    std::uint64_t class_mask[slot_classes];
    std::uint8_t* base[slot_classes];   // Of the class's first slot.
    std::uint32_t first[slot_classes];  // Its number.
    std::uint32_t bytes[slot_classes];

    void initialise(std::uint8_t* lane, const std::uint32_t (&count)[slot_classes],
                    const std::uint32_t (&slot_bytes)[slot_classes]) noexcept {
        std::uint32_t number = 0;
        for (std::uint32_t c = 0; c < slot_classes; ++c) {
            base[c] = lane;
            first[c] = number;
            bytes[c] = slot_bytes[c];
            class_mask[c] = count[c] == 0 ? 0 : (~0ULL >> (64 - count[c])) << number;
            number += count[c];
            lane += static_cast<std::size_t>(count[c]) * slot_bytes[c];
        }
        all = class_mask[0] | class_mask[1] | class_mask[2];
        free = all;
        returned.store(0, std::memory_order_relaxed);
    }

    // The lowest free slot of the class: the one whose lines are most likely still in the cache.
    // Null: none.
    SlotControl* take(std::uint32_t slot_class, std::uint32_t& slot) noexcept {
        std::uint64_t candidates = free & class_mask[slot_class];
        if (__builtin_expect(candidates == 0, 0)) {
            // Acquire pairs with the release in give_back_from_elsewhere(): the giver is done with
            // the slot.
            if (returned.load(std::memory_order_relaxed) != 0)
                free |= returned.exchange(0, std::memory_order_acquire);
            candidates = free & class_mask[slot_class];
            if (candidates == 0) return nullptr;
        }
        slot = static_cast<std::uint32_t>(__builtin_ctzll(candidates));
        free &= ~(1ULL << slot);
        return reinterpret_cast<SlotControl*>(base[slot_class] +
                                              static_cast<std::size_t>(slot - first[slot_class]) *
                                                  bytes[slot_class]);
    }
    void give_back(std::uint32_t slot) noexcept { free |= 1ULL << slot; }
    void give_back_from_elsewhere(std::uint32_t slot) noexcept {
        returned.fetch_or(1ULL << slot, std::memory_order_release);
    }
    [[nodiscard]] bool idle() const noexcept {
        return (free | returned.load(std::memory_order_acquire)) == all;
    }
};

}  // namespace oteld::shm
