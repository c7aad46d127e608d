// The writing end of a lane, state by state on one thread, then against a reader on another.
#include "shm/lane_writer.hpp"

#include "shm/lane_reader.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

namespace oteld::shm {
namespace {

using detail::RecordPrefix;
using detail::RecordType;
using detail::SpanRecord;
using Room = LaneWriter::Room;

constexpr std::uint64_t lane_bytes = 4096;

struct Bench {
    alignas(64) std::uint8_t data[lane_bytes] = {};
    LaneProducer producer{};
    DaemonLane daemon{};
    LaneWriter writer{};
    std::uint32_t bells = 0;
    std::uint64_t sequence = 0;

    Bench() { writer.initialise(data, lane_bytes, &producer, &daemon); }

    // What end() does. False: the lane is full.
    bool write(std::uint64_t bytes) {
        std::uint8_t* to = writer.claim(bytes);
        if (to == nullptr) {
            bool ring = false;
            const Room room = writer.make_room(bytes, ring);
            bells += ring ? 1 : 0;
            if (room == Room::full) return false;
            to = writer.claim(bytes);
            REQUIRE(to != nullptr);
        }
        REQUIRE(to >= data);
        REQUIRE(to + bytes <= data + lane_bytes);
        SpanRecord record{};
        record.prefix = {static_cast<std::uint32_t>(bytes),
                         static_cast<std::uint8_t>(RecordType::span), 0, sizeof record};
        record.start = ++sequence;
        std::memcpy(to, &record, sizeof record);
        writer.publish(bytes);
        return true;
    }
    [[nodiscard]] LaneView view() {
        LaneView lane;
        lane.data = data;
        lane.data_bytes = lane_bytes;
        lane.producer = &producer;
        lane.daemon = &daemon;
        return lane;
    }
    // Reads all, checks the order, frees it. Returns how many spans there were.
    std::uint64_t drain(std::uint64_t& last) {
        const LaneRange range = look_at_lane(view(), daemon.read_cursor);
        REQUIRE(range.state != LaneState::corrupt);
        LaneReader reader(view(), range);
        std::uint64_t count = 0;
        for (;;) {
            const LaneRecord record = reader.next();
            REQUIRE(record.kind != LaneRecord::Kind::corrupt);
            if (record.kind == LaneRecord::Kind::end) break;
            SpanRecord span;
            std::memcpy(&span, record.bytes, sizeof span);
            CHECK(span.start == ++last);
            ++count;
        }
        __atomic_store_n(&daemon.read_cursor, reader.cursor(), __ATOMIC_RELEASE);
        return count;
    }
};

}  // namespace

TEST_CASE("a new lane takes records until exactly its last byte") {
    Bench lane;
    for (int i = 0; i < 32; ++i) CHECK(lane.write(128));
    CHECK(lane.producer.write_cursor == lane_bytes);
    CHECK_FALSE(lane.write(64));
    CHECK(lane.producer.write_cursor == lane_bytes);
}

TEST_CASE("a record never wraps: the rest of the lap becomes a pad") {
    Bench lane;
    std::uint64_t last = 0;
    for (int i = 0; i < 31; ++i) CHECK(lane.write(128));  // 128 bytes of the lap are left.
    CHECK(lane.drain(last) == 31);
    CHECK(lane.write(256));
    RecordPrefix pad;
    std::memcpy(&pad, lane.data + 31 * 128, sizeof pad);
    CHECK(pad.type == static_cast<std::uint8_t>(RecordType::pad));
    CHECK(pad.length == 128);
    CHECK(pad.header_bytes == 8);
    CHECK(lane.producer.write_cursor == lane_bytes + 256);
    CHECK(lane.drain(last) == 1);
}

TEST_CASE("a pad of eight bytes is one") {
    Bench lane;
    std::uint64_t last = 0;
    CHECK(lane.write(lane_bytes - 8));
    CHECK(lane.drain(last) == 1);
    CHECK(lane.write(128));
    CHECK(lane.producer.write_cursor == lane_bytes + 128);
    CHECK(lane.drain(last) == 1);
}

TEST_CASE(
    "a record that fits the free bytes only across the end of the lap waits for room behind the "
    "pad") {
    Bench lane;
    for (int i = 0; i < 24; ++i) CHECK(lane.write(128));
    lane.daemon.read_cursor =
        8 * 128;  // 1024 bytes are free at the end of the lap, 1024 at its beginning.
    CHECK_FALSE(lane.write(1152));
    CHECK(lane.write(1024));
    CHECK(lane.write(1024));
    CHECK_FALSE(lane.write(64));
}

TEST_CASE("a record larger than the lane is refused") {
    Bench lane;
    CHECK_FALSE(lane.write(lane_bytes + 8));
    CHECK(lane.write(lane_bytes));
}

TEST_CASE("the bell rings at a half and at three quarters, once each until the daemon has read") {
    Bench lane;
    std::uint64_t last = 0;
    for (int round = 0; round < 5; ++round) {
        lane.bells = 0;
        std::vector<std::uint64_t> rang_at;
        for (std::uint64_t written = 0; written < lane_bytes; written += 128) {
            const std::uint32_t before = lane.bells;
            CHECK(lane.write(128));
            if (lane.bells != before) rang_at.push_back(written);
        }
        // The record that passes the mark rings, before it is written.
        CHECK(rang_at == std::vector<std::uint64_t>{lane_bytes / 2, lane_bytes / 4 * 3});
        CHECK_FALSE(lane.write(128));
        CHECK(lane.bells == 2);
        CHECK(lane.drain(last) == 32);
    }
}

TEST_CASE("below the first mark a record costs one compare: the lane is not asked for room") {
    Bench lane;
    CHECK(lane.write(128));
    lane.daemon.read_cursor = 128;
    for (std::uint64_t written = 128; written < lane_bytes / 2; written += 128) {
        CHECK(lane.writer.claim(128) != nullptr);
        CHECK(lane.write(128));
    }
    CHECK(lane.writer.claim(128) == nullptr);
}

TEST_CASE("a cursor that the daemon could not have is not believed") {
    Bench lane;
    for (int i = 0; i < 32; ++i) CHECK(lane.write(128));
    for (const std::uint64_t bad :
         {lane_bytes + 8, std::uint64_t{~0ULL}, std::uint64_t{1} << 63, 2 * lane_bytes}) {
        lane.daemon.read_cursor = bad;
        CHECK_FALSE(lane.write(128));
    }
    lane.daemon.read_cursor = 1024;
    CHECK(lane.write(1024));
    lane.daemon.read_cursor = 0;  // Going back takes no room away that was given.
    CHECK_FALSE(lane.write(128));
    lane.daemon.read_cursor = lane_bytes + 1024;
    CHECK(lane.write(128));
}

TEST_CASE("whatever the daemon writes there, the writer stays inside its lane") {
    Bench lane;
    std::uint64_t state = 88172645463325252ULL;
    const auto random = [&] {
        state ^= state << 13;
        state ^= state >> 7;
        return state ^= state << 17;
    };
    for (int i = 0; i < 200000; ++i) {
        switch (random() % 4) {
            case 0: lane.daemon.read_cursor = random(); break;
            case 1:
                lane.daemon.read_cursor = lane.producer.write_cursor - random() % (2 * lane_bytes);
                break;
            case 2: lane.daemon.read_cursor = lane.producer.write_cursor + random() % 64; break;
            default: break;
        }
        (void)lane.write(64 + random() % 256 / 8 * 8);  // write() checks the bounds.
    }
    CHECK(lane.producer.write_cursor > lane_bytes);
}

TEST_CASE("a reader on another thread sees every record once, whole, in order") {
    static Bench lane;
    constexpr std::uint64_t records = 200000;
    std::thread reader([] {
        std::uint64_t last = 0;
        while (last < records) {
            if (lane.drain(last) == 0) std::this_thread::yield();
        }
    });
    for (std::uint64_t i = 0; i < records;) {
        if (lane.write(64 + i % 17 * 8))
            ++i;
        else
            std::this_thread::yield();
    }
    reader.join();
    CHECK(lane.daemon.read_cursor == lane.producer.write_cursor);
}

}  // namespace oteld::shm
