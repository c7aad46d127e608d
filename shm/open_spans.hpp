// The slots of one lane in which spans under construction live, so that a crash leaves them
// readable: what a slot's control says, store by store, and which slots are free.
//
// Used by: the client's span path, daemon/intake/recover_slots.cpp (read_slot). Which slots are
// free is kept in private memory: what lies in shared memory is never asked for it. Threads: take()
// and give_back() on the lane's owner only; give_back_from_elsewhere() on any thread. Never: locks,
// allocates, makes system calls.
#pragma once

#include "shm/hardware.hpp"
#include "shm/layout.hpp"

namespace oteld::shm {

// The way of a slot through the states in shm/README.md. publish() comes as often as there is
// something new; abi::publish() is the same store for code that knows no more than the ABI.
template <class Memory = Hardware>
struct SlotSteps {
    static void open(SlotControl& slot) noexcept {
        Memory::store_relaxed(slot.end_cursor, slot_open);
    }
    // Release: recovery that sees the number also sees as many bytes, and that the slot is open.
    static void publish(SlotControl& slot, std::uint32_t bytes) noexcept {
        Memory::store_release(slot.published, bytes);
    }
    // Before the record is published in its lane: a write cursor at or past `cursor` says that the
    // span is in there.
    static void ending(SlotControl& slot, std::uint32_t segment, std::uint32_t lane,
                       std::uint64_t cursor) noexcept {
        Memory::store_relaxed(slot.end_segment, segment);
        Memory::store_relaxed(slot.end_lane, lane);
        Memory::store_release(slot.end_cursor, cursor);
    }
    static void dropped(SlotControl& slot) noexcept {
        Memory::store_release(slot.end_cursor, std::uint64_t{0});
    }
    // Release: recovery that sees 0 also sees the record in the lane, or the drop counted.
    static void close(SlotControl& slot) noexcept {
        Memory::store_release(slot.published, std::uint32_t{0});
    }
};

// What recovery reads of a slot, the other end of SlotSteps.
struct SlotReading {
    std::uint32_t published_untrusted = 0;
    std::uint64_t end_cursor_untrusted = 0;
    std::uint32_t end_segment_untrusted = 0;
    std::uint32_t end_lane_untrusted = 0;
};
template <class Memory = Hardware>
[[nodiscard]] SlotReading read_slot(const SlotControl& slot) noexcept {
    SlotReading reading;
    reading.published_untrusted = Memory::load_acquire(slot.published);
    reading.end_cursor_untrusted = Memory::load_acquire(slot.end_cursor);
    reading.end_segment_untrusted = Memory::load_relaxed(slot.end_segment);
    reading.end_lane_untrusted = Memory::load_relaxed(slot.end_lane);
    return reading;
}

template <class Memory>
struct BasicSlots {
    std::uint64_t free;      // Bit per slot; owner only.
    std::uint64_t returned;  // Slots given back by other threads, not yet in `free`.
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
        free = class_mask[0] | class_mask[1] | class_mask[2];
        Memory::store_relaxed(returned, std::uint64_t{0});
    }

    // The lowest free slot of the class: the one whose lines are most likely still in the cache.
    // Null: none.
    SlotControl* take(std::uint32_t slot_class, std::uint32_t& slot) noexcept {
        std::uint64_t candidates = free & class_mask[slot_class];
        if (__builtin_expect(candidates == 0, 0)) {
            // Acquire pairs with the release in give_back_from_elsewhere(): the giver is done with
            // the slot.
            if (Memory::load_relaxed(returned) != 0)
                free |= Memory::exchange_acquire(returned, std::uint64_t{0});
            candidates = free & class_mask[slot_class];
            if (candidates == 0) return nullptr;
        }
        return take_free(slot_class, slot);
    }
    // Whether take_free() may be called.
    [[nodiscard]] bool any_free(std::uint32_t slot_class) const noexcept {
        return (free & class_mask[slot_class]) != 0;
    }
    [[nodiscard]] SlotControl* take_free(std::uint32_t slot_class, std::uint32_t& slot) noexcept {
        slot = static_cast<std::uint32_t>(__builtin_ctzll(free & class_mask[slot_class]));
        free &= ~(1ULL << slot);
        return reinterpret_cast<SlotControl*>(base[slot_class] +
                                              static_cast<std::size_t>(slot - first[slot_class]) *
                                                  bytes[slot_class]);
    }
    void give_back(std::uint32_t slot) noexcept { free |= 1ULL << slot; }
    void give_back_from_elsewhere(std::uint32_t slot) noexcept {
        Memory::fetch_or_release(returned, std::uint64_t{1} << slot);
    }
};
using Slots = BasicSlots<Hardware>;

}  // namespace oteld::shm
