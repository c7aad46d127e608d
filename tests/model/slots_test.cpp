// Open spans in their slots, and what recovery makes of them after a death at any step:
// shm/open_spans.hpp, with shm/lane_writer.hpp for the spans that end.
#include "tests/model/explorer.hpp"
#include "tests/model/report.hpp"

#include "shm/lane_reader.hpp"
#include "shm/lane_writer.hpp"
#include "shm/open_spans.hpp"

#include <doctest/doctest.h>

#include <cstring>

namespace {

using namespace oteld;
using model::Explorer;
using model::Model;
using model::require;
using Steps = shm::SlotSteps<Model>;

constexpr std::uint64_t lane_bytes = 256;
constexpr std::size_t slot_bytes = 128;
constexpr std::uint32_t start_bytes = 16;  // What is there when a span has begun ...
constexpr std::uint32_t full_bytes = 32;   // ... and with its attribute.

// A record as the lane's reader takes it: an unknown type, then the span's number as often as fits.
struct Record {
    detail::RecordPrefix prefix;
    std::uint64_t span[3];
};
static_assert(sizeof(Record) == full_bytes);

Record record_of(std::uint64_t span) {
    return {{sizeof(Record), 9, 0, sizeof(detail::RecordPrefix)}, {span, span, span}};
}

struct Shared {
    alignas(64) std::uint8_t slots[2 * slot_bytes];
    alignas(64) std::uint8_t data[lane_bytes];
    shm::LaneProducer producer;
    shm::DaemonLane daemon;
    std::uint64_t handed;  // The application's own: the span goes from one thread to another.
};
Shared shared;
shm::BasicSlots<Model> slots;

shm::SlotControl& control(std::uint32_t slot) {
    return *reinterpret_cast<shm::SlotControl*>(shared.slots + slot * slot_bytes);
}
std::uint8_t* body(std::uint32_t slot) { return shared.slots + slot * slot_bytes + 64; }

// What the threads have done, and what recovery has found.
struct Seen {
    bool begun[4];
    bool ended[4];
    unsigned in_lane[4];
    unsigned open[4];
};
Seen seen;

// The steps of sdk::start() and of the first attribute (client/src/span.cpp, abi::publish()).
void start(std::uint32_t slot, std::uint64_t span) {
    const Record record = record_of(span);
    Steps::open(control(slot));
    Model::copy_in(body(slot), &record, start_bytes);
    Steps::publish(control(slot), start_bytes);
    seen.begun[span] = true;
}
void set_attribute(std::uint32_t slot, std::uint64_t span) {
    const Record record = record_of(span);
    Model::copy_in(body(slot) + start_bytes, reinterpret_cast<const char*>(&record) + start_bytes,
                   full_bytes - start_bytes);
    Steps::publish(control(slot), full_bytes);
}

// The steps of sdk::end(), up to the slot's return.
template <class Order>
void end(shm::BasicLaneWriter<Model>& writer, std::uint32_t slot, std::uint64_t span, Order order) {
    bool ring_bell = false;
    std::uint8_t* to = writer.claim(sizeof(Record));
    if (to == nullptr) {
        require(
            writer.make_room(sizeof(Record), ring_bell) == shm::BasicLaneWriter<Model>::Room::ok,
            "the lane is large enough");
        to = writer.claim(sizeof(Record));
    }
    Record record;
    std::memcpy(&record, body(slot), sizeof record);  // Its own bytes.
    Model::copy_in(to, &record, sizeof record);
    order(slot, writer);
    seen.ended[span] = true;
    Steps::close(control(slot));
}

const auto right_order = [](std::uint32_t slot, shm::BasicLaneWriter<Model>& writer) {
    Steps::ending(control(slot), 0, 0, writer.cursor + sizeof(Record));
    writer.publish(sizeof(Record));
};
const auto marker_too_late = [](std::uint32_t slot, shm::BasicLaneWriter<Model>& writer) {
    const std::uint64_t behind = writer.cursor + sizeof(Record);
    writer.publish(sizeof(Record));
    Steps::ending(control(slot), 0, 0, behind);
};

// daemon/intake/recover_slots.cpp on one lane: drained first, then what is open in the slots.
void recover() {
    shm::LaneView lane;
    lane.data = shared.data;
    lane.data_bytes = lane_bytes;
    lane.producer = &shared.producer;
    const shm::LaneRange range = shm::look_at_lane<Model>(lane, 0);
    require(range.state != shm::LaneState::corrupt, "the cursors are corrupt");
    shm::BasicLaneReader<Model> reader(lane, range);
    for (;;) {
        const shm::LaneRecord found = reader.next();
        require(found.kind != shm::LaneRecord::Kind::corrupt, "a record is corrupt");
        if (found.kind == shm::LaneRecord::Kind::end) break;
        Record record;
        Model::copy_out(&record, found.bytes, sizeof record);
        require(record.span[0] == record.span[1] && record.span[1] == record.span[2],
                "a record is torn");
        ++seen.in_lane[record.span[0]];
    }
    std::uint64_t larger = 0;  // Two slots with one span: the one with more bytes counts.
    for (std::uint32_t slot = 0; slot < 2; ++slot) {
        const shm::SlotReading reading = shm::read_slot<Model>(control(slot));
        if (reading.published_untrusted < start_bytes || reading.end_cursor_untrusted == 0)
            continue;
        if (reading.end_cursor_untrusted != shm::slot_open &&
            Model::load_acquire(shared.producer.write_cursor) >= reading.end_cursor_untrusted)
            continue;
        Record record;
        Model::copy_out(&record, body(slot), reading.published_untrusted);
        const std::size_t words = (reading.published_untrusted - 8) / 8;
        for (std::size_t i = 0; i < words; ++i)
            require(record.span[i] == record.span[0], "an open span is torn");
        if (larger == record.span[0]) continue;
        larger = record.span[0];
        ++seen.open[record.span[0]];
    }
}

void begin(Explorer& explorer) {
    std::memset(&shared, 0, sizeof shared);
    seen = {};
    const std::uint32_t count[shm::slot_classes] = {1, 1, 0};
    const std::uint32_t bytes[shm::slot_classes] = {slot_bytes, slot_bytes, slot_bytes};
    slots.free = 3;
    slots.returned = 0;
    for (std::uint32_t c = 0; c < shm::slot_classes; ++c) {
        slots.class_mask[c] = count[c] == 0 ? 0 : 1ULL << c;
        slots.base[c] = shared.slots + c * slot_bytes;
        slots.first[c] = c;
        slots.bytes[c] = bytes[c];
    }
    explorer.name(&shared.producer.write_cursor, "write_cursor");
    for (std::uint32_t slot = 0; slot < 2; ++slot) {
        const std::string which = " of slot " + std::to_string(slot);
        explorer.name(&control(slot).published, "published" + which);
        explorer.name(&control(slot).end_cursor, "end_cursor" + which);
    }
    explorer.name(&shared.handed, "handed");
    explorer.name(&slots.returned, "returned");
}

void check() {
    for (std::uint64_t span = 1; span < 4; ++span) {
        const unsigned found = seen.in_lane[span] + seen.open[span];
        require(found <= 1, "a span came twice");
        require(!seen.begun[span] || found == 1, "a span that had begun is missing");
        require(!seen.ended[span] || seen.in_lane[span] == 1, "a span that had ended is not whole");
    }
}

// One thread starts a span, another ends it, and the first takes the slot again as soon as it is
// back.
template <class Order>
model::Result explore_handover(Order order) {
    return Explorer::explore(
        [order](Explorer& explorer) {
            begin(explorer);
            const unsigned application = explorer.process(true);
            const unsigned daemon = explorer.process(false);
            explorer.thread(application, [] {
                std::uint32_t slot = 0;
                require(slots.take(0, slot) == &control(0), "the slot is free");
                start(0, 1);
                Model::store_release(shared.handed, std::uint64_t{1});
                for (int i = 0; i < 2; ++i) {
                    if (slots.take(0, slot) == nullptr) continue;
                    start(slot, 2);
                    return;
                }
            });
            explorer.thread(application, [order] {
                Explorer::now().wait_until(
                    [] { return Explorer::now().newest(&shared.handed, 0) != 0; });
                if (Model::load_acquire(shared.handed) == 0) return;
                set_attribute(0, 1);
                shm::BasicLaneWriter<Model> writer{};
                writer.initialise(shared.data, lane_bytes, &shared.producer, &shared.daemon);
                end(writer, 0, 1, order);
                slots.give_back_from_elsewhere(0);
            });
            explorer.thread(daemon, [application] {
                Explorer::now().wait_for_end(application);
                recover();
            });
            explorer.finally(check);
        },
        {.deaths = 1});
}

TEST_CASE("slots: a span that ends on another thread is found once, whenever the process dies") {
    const model::Result result = explore_handover(right_order);
    model::report("handover", result);
    CHECK_MESSAGE(result.violation.empty(), result.violation, "\n", result.trace);
    CHECK(result.deaths > 50);
}

TEST_CASE("slots: the explorer finds a marker that comes after the publication") {
    CHECK(explore_handover(marker_too_late).violation == "a span came twice");
}

// A span that outgrows its slot moves to a larger one (grow_here()), then ends.
template <bool close_first>
model::Result explore_growth() {
    return Explorer::explore(
        [](Explorer& explorer) {
            begin(explorer);
            const unsigned application = explorer.process(true);
            const unsigned daemon = explorer.process(false);
            explorer.thread(application, [] {
                std::uint32_t small = 0;
                std::uint32_t large = 0;
                require(slots.take(0, small) != nullptr, "the slot is free");
                start(small, 1);
                require(slots.take(1, large) != nullptr, "the larger slot is free");
                if (close_first) Steps::close(control(small));
                Steps::open(control(large));
                const Record record = record_of(1);
                Model::copy_in(body(large), &record, start_bytes);
                Steps::publish(control(large), start_bytes);
                if (!close_first) Steps::close(control(small));
                slots.give_back(small);
                set_attribute(large, 1);
                shm::BasicLaneWriter<Model> writer{};
                writer.initialise(shared.data, lane_bytes, &shared.producer, &shared.daemon);
                end(writer, large, 1, right_order);
                slots.give_back(large);
            });
            explorer.thread(daemon, [application] {
                Explorer::now().wait_for_end(application);
                recover();
            });
            explorer.finally(check);
        },
        {.deaths = 1});
}

TEST_CASE("slots: a span that moves to a larger slot is found once") {
    const model::Result result = explore_growth<false>();
    model::report("growth", result);
    CHECK_MESSAGE(result.violation.empty(), result.violation, "\n", result.trace);
    CHECK(result.deaths > 10);
}

TEST_CASE("slots: the explorer finds a slot that is closed too early") {
    CHECK(explore_growth<true>().violation == "a span that had begun is missing");
}

}  // namespace
