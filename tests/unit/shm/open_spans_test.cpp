// The free list of a lane's slots.
#include "shm/open_spans.hpp"

#include <doctest/doctest.h>

#include <set>
#include <thread>
#include <vector>

namespace oteld::shm {
namespace {

constexpr std::uint32_t counts[slot_classes] = {32, 2, 1};
constexpr std::uint32_t sizes[slot_classes] = {512, 4096, 16384};

struct Bench {
    std::vector<std::uint8_t> memory = std::vector<std::uint8_t>(32 * 512 + 2 * 4096 + 16384);
    Slots slots{};
    Bench() { slots.initialise(memory.data(), counts, sizes); }
    [[nodiscard]] std::ptrdiff_t place(const SlotControl* control) const {
        return reinterpret_cast<const std::uint8_t*>(control) - memory.data();
    }
};

bool all_free(const Slots& slots) {
    const std::uint64_t all = slots.class_mask[0] | slots.class_mask[1] | slots.class_mask[2];
    return (slots.free | slots.returned) == all;
}

}  // namespace

TEST_CASE("each class hands out its slots once, side by side, then none") {
    Bench bench;
    std::uint32_t number = 0;
    std::ptrdiff_t expected = 0;
    std::uint32_t expected_number = 0;
    for (std::uint32_t c = 0; c < slot_classes; ++c) {
        for (std::uint32_t i = 0; i < counts[c]; ++i) {
            const SlotControl* control = bench.slots.take(c, number);
            REQUIRE(control != nullptr);
            CHECK(bench.place(control) == expected);
            CHECK(number == expected_number++);
            expected += sizes[c];
        }
        CHECK(bench.slots.take(c, number) == nullptr);
    }
    CHECK(static_cast<std::size_t>(expected) == bench.memory.size());
    CHECK_FALSE(all_free(bench.slots));
}

TEST_CASE("a slot that comes back is the next to be taken: its lines are warm") {
    Bench bench;
    std::uint32_t first = 0;
    std::uint32_t second = 0;
    const SlotControl* control = bench.slots.take(0, first);
    (void)bench.slots.take(0, second);
    bench.slots.give_back(first);
    std::uint32_t again = 99;
    CHECK(bench.slots.take(0, again) == control);
    CHECK(again == first);
    bench.slots.give_back(second);
    bench.slots.give_back(again);
    CHECK(all_free(bench.slots));
}

TEST_CASE("slots from elsewhere come back when the owner has none left") {
    Bench bench;
    std::uint32_t slot = 0;
    for (std::uint32_t i = 0; i < counts[0]; ++i) REQUIRE(bench.slots.take(0, slot) != nullptr);
    bench.slots.give_back_from_elsewhere(5);
    bench.slots.give_back_from_elsewhere(31);
    CHECK(bench.slots.take(1, slot) != nullptr);  // Another class is not disturbed ...
    bench.slots.give_back_from_elsewhere(slot);
    CHECK(bench.slots.take(0, slot) != nullptr);
    CHECK(slot == 5);
    CHECK(bench.slots.take(0, slot) != nullptr);
    CHECK(slot == 31);
    CHECK(bench.slots.take(0, slot) == nullptr);
    CHECK(bench.slots.take(1, slot) != nullptr);  // ... nor forgotten.
}

TEST_CASE("a lane with all 64 slots in one class, and one with none") {
    std::vector<std::uint8_t> memory(std::size_t{64} * 512);
    Slots slots{};
    constexpr std::uint32_t all[slot_classes] = {64, 0, 0};
    slots.initialise(memory.data(), all, sizes);
    std::uint32_t slot = 0;
    for (int i = 0; i < 64; ++i) REQUIRE(slots.take(0, slot) != nullptr);
    CHECK(slot == 63);
    CHECK(slots.take(0, slot) == nullptr);
    CHECK(slots.take(1, slot) == nullptr);
    constexpr std::uint32_t none[slot_classes] = {0, 0, 0};
    slots.initialise(memory.data(), none, sizes);
    CHECK(slots.take(0, slot) == nullptr);
    CHECK(all_free(slots));
}

TEST_CASE("threads that give back lose no slot and double none") {
    Bench bench;
    constexpr int rounds = 20000;
    std::atomic<std::uint32_t> handed{0};  // One more than the slot; 0: nothing.
    std::thread giver([&] {
        for (int i = 0; i < rounds; ++i) {
            std::uint32_t slot = 0;
            while ((slot = handed.exchange(0, std::memory_order_acq_rel)) == 0)
                std::this_thread::yield();
            bench.slots.give_back_from_elsewhere(slot - 1);
        }
    });
    for (int i = 0; i < rounds; ++i) {
        std::uint32_t slot = 0;
        while (bench.slots.take(0, slot) == nullptr) std::this_thread::yield();
        while (handed.load(std::memory_order_acquire) != 0) std::this_thread::yield();
        handed.store(slot + 1, std::memory_order_release);
    }
    giver.join();
    CHECK(all_free(bench.slots));
    std::set<std::uint32_t> seen;
    std::uint32_t slot = 0;
    while (bench.slots.take(0, slot) != nullptr) CHECK(seen.insert(slot).second);
    CHECK(seen.size() == counts[0]);
}

}  // namespace oteld::shm
