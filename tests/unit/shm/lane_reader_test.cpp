#include "shm/lane_reader.hpp"

#include "../daemon/fake_segment.hpp"

#include <doctest/doctest.h>

#include <thread>

using namespace oteld;
using namespace oteld::shm;
using namespace oteld::test;

namespace {

struct Lane {
    Lane() : segment(directory, "a.ring") {
        auto opened = SegmentMap::open(directory.fd, "a.ring", SegmentAccess::drain);
        REQUIRE(opened);
        map = std::move(*opened);
        view = map->lane(0);
    }
    void prefix_at(std::uint64_t cursor, std::uint32_t length, detail::RecordType type,
                   std::uint16_t header_bytes = 8) {
        const detail::RecordPrefix prefix{length, static_cast<std::uint8_t>(type), 0, header_bytes};
        std::memcpy(segment.data(0) + cursor % view.data_bytes, &prefix, sizeof prefix);
    }
    LaneRecord first(std::uint64_t from, std::uint64_t to) const {
        return LaneReader(view, {LaneState::ready, from, to}).next();
    }

    TemporaryDirectory directory;
    FakeSegment segment;
    std::unique_ptr<SegmentMap> map;
    LaneView view;
};

}  // namespace

TEST_CASE("records come out in order, whole, over many laps") {
    Lane lane;
    std::uint64_t read = 0;
    std::uint64_t next = 1;
    std::uint64_t written = 1;
    for (int round = 0; round < 200; ++round) {
        for (int i = 0; i < 7; ++i) {
            Record record = numbered(written++);
            record.body =
                name_and_attribute(std::string(static_cast<std::size_t>(round % 90), 'n'));
            lane.segment.put(0, record);
        }
        const LaneRange range = look_at_lane(lane.view, read);
        REQUIRE(range.state == LaneState::ready);
        LaneReader reader(lane.view, range);
        for (;;) {
            const LaneRecord record = reader.next();
            if (record.kind == LaneRecord::Kind::end) break;
            REQUIRE(record.kind == LaneRecord::Kind::span);
            std::uint64_t number;
            std::memcpy(&number, record.bytes + offsetof(detail::SpanRecord, span_id), 8);
            REQUIRE(number == next++);
        }
        read = reader.cursor();
        CHECK(read == lane.segment.producer(0)->write_cursor);
    }
    CHECK(next == written);
    CHECK(read > lane.view.data_bytes * 2);
    CHECK(look_at_lane(lane.view, read).state == LaneState::empty);
}

TEST_CASE("cursors that no producer reaches make the lane corrupt") {
    Lane lane;
    const std::uint64_t size = lane.view.data_bytes;
    const auto look = [&](std::uint64_t read, std::uint64_t write) {
        lane.segment.producer(0)->write_cursor = write;
        return look_at_lane(lane.view, read).state;
    };
    CHECK(look(0, 0) == LaneState::empty);
    CHECK(look(0, size) == LaneState::ready);
    CHECK(look(0, size + 8) == LaneState::corrupt);
    CHECK(look(64, 56) == LaneState::corrupt);
    CHECK(look(0, 12) == LaneState::corrupt);
    CHECK(look(0, ~0ULL) == LaneState::corrupt);
    CHECK(look(~0ULL - 7, 8) ==
          LaneState::ready);  // A cursor may wrap after five centuries; it still works.
}

TEST_CASE("lengths that lead out of the range, the lap or the format are refused") {
    using Kind = LaneRecord::Kind;
    using detail::RecordType;
    Lane lane;
    const std::uint64_t size = lane.view.data_bytes;
    const auto kind = [&](std::uint64_t from, std::uint64_t to, std::uint32_t length,
                          RecordType type) {
        lane.prefix_at(from, length, type);
        return lane.first(from, to).kind;
    };
    CHECK(kind(0, 256, 256, RecordType::span) == Kind::span);
    CHECK(kind(0, 256, 264, RecordType::span) == Kind::corrupt);
    CHECK(kind(0, 256, 0, RecordType::span) == Kind::corrupt);
    CHECK(kind(0, 256, 4, RecordType::pad) == Kind::corrupt);
    CHECK(kind(0, 256, 252, RecordType::span) == Kind::corrupt);
    CHECK(kind(0, 256, 56, RecordType::span) == Kind::corrupt);  // Shorter than its own header.
    CHECK(kind(0, 256, 0xFFFFFFF8, RecordType::span) == Kind::corrupt);
    CHECK(kind(size - 64, size + 64, 128, RecordType::span) == Kind::corrupt);  // Would wrap.
    CHECK(kind(0, 256, 256, RecordType::pad) == Kind::end);
}

TEST_CASE("an unknown type is stepped over by its length and reported") {
    using Kind = LaneRecord::Kind;
    Lane lane;
    lane.prefix_at(0, 40, static_cast<detail::RecordType>(9));
    const std::string span = Record{}.bytes();
    std::memcpy(lane.segment.data(0) + 40, span.data(), span.size());
    LaneReader reader(lane.view, {LaneState::ready, 0, 40 + span.size()});
    CHECK(reader.next().kind == Kind::unknown);
    CHECK(reader.cursor() == 40);
    CHECK(reader.next().kind == Kind::span);
    CHECK(reader.next().kind == Kind::end);
}

TEST_CASE("a reader beside a writer sees only whole records") {
    Lane lane;
    constexpr std::uint64_t spans = 20000;
    std::thread writer([&] {
        for (std::uint64_t i = 1; i <= spans; ++i) {
            Record record = numbered(i);
            record.body = name_and_attribute("n", "k", i);
            const std::uint64_t bytes = record.bytes().size();
            // Acquire pairs with the reader's release below, as in the client.
            while (
                lane.segment.producer(0)->write_cursor + 2 * bytes + 64 -
                    __atomic_load_n(&lane.segment.daemon_lane(0)->read_cursor, __ATOMIC_ACQUIRE) >
                lane.view.data_bytes) {
                std::this_thread::yield();
            }
            lane.segment.put(0, record);
        }
    });
    std::uint64_t next = 1;
    std::uint64_t read = 0;
    while (next <= spans) {
        const LaneRange range = look_at_lane(lane.view, read);
        if (range.state == LaneState::empty) {
            std::this_thread::yield();
            continue;
        }
        if (range.state != LaneState::ready) break;
        LaneReader reader(lane.view, range);
        for (LaneRecord record = reader.next(); record.kind == LaneRecord::Kind::span;
             record = reader.next()) {
            std::uint64_t number;
            std::memcpy(&number, record.bytes + offsetof(detail::SpanRecord, span_id), 8);
            if (number != next) break;
            ++next;
        }
        read = reader.cursor();
        __atomic_store_n(&lane.view.daemon->read_cursor, read, __ATOMIC_RELEASE);
    }
    writer.join();
    CHECK(next == spans + 1);
}
