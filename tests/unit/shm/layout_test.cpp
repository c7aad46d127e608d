// Golden bytes: what a file of layout 1.2 looks like. A change that breaks this test is a change of
// the layout.
#include "shm/layout.hpp"

#include "../daemon/fake_segment.hpp"

#include <doctest/doctest.h>

using namespace oteld;
using namespace oteld::test;

namespace {

std::string hex(const void* data, std::size_t bytes) {
    std::string text;
    for (std::size_t i = 0; i < bytes; ++i) {
        char pair[3];
        std::snprintf(pair, sizeof pair, "%02x", static_cast<const unsigned char*>(data)[i]);
        text += pair;
    }
    return text;
}

}  // namespace

TEST_CASE("a segment header is these bytes") {
    shm::SegmentHeader header{};
    header.magic = shm::segment_magic;
    header.major = 1;
    header.minor = 2;
    header.header_bytes = 4096;
    header.file_bytes = 0x11;
    header.page_bytes = 0x12;
    header.lane_count = 0x13;
    header.tables_offset = 0x14;
    header.tables_bytes = 0x15;
    header.daemon_offset = 0x16;
    header.daemon_bytes = 0x17;
    header.lanes_offset = 0x18;
    header.lane_stride = 0x19;
    header.slot_count[0] = 0x1a;
    header.slot_count[2] = 0x1b;
    header.slot_bytes[0] = 0x1c;
    header.slot_bytes[2] = 0x1d;
    header.data_offset = 0x1e;
    header.data_bytes = 0x1f;
    header.producer_offset = 0x20;
    header.lock_offset = 0x21;
    header.segment_index = 0x22;
    header.boot_id[0] = 0x23;
    header.process_id[15] = 0x24;
    header.pid = 0x25;
    header.clock_kind = 0x26;
    header.anchor_ticks = 0x27;
    header.anchor_monotonic_ns = 0x28;
    header.anchor_realtime_ns = 0x29;
    CHECK(hex(&header, 200) ==
          "4f5444524e473100"
          "01000200"
          "00100000"
          "1100000000000000"
          "12000000"
          "13000000"
          "1400000000000000"
          "1500000000000000"
          "1600000000000000"
          "1700000000000000"
          "1800000000000000"
          "1900000000000000"
          "1a000000"
          "00000000"
          "1b000000"
          "1c000000"
          "00000000"
          "1d000000"
          "1e00000000000000"
          "1f00000000000000"
          "2000000000000000"
          "21000000"
          "22000000"
          "23000000000000000000000000000000"
          "00000000000000000000000000000024"
          "25000000"
          "26000000"
          "2700000000000000"
          "2800000000000000"
          "2900000000000000");
    CHECK(offsetof(shm::SegmentHeader, executable) == 200);
    CHECK(offsetof(shm::SegmentHeader, mapping_lock) == 264);
    CHECK(offsetof(shm::SegmentHeader, tables_end) == 512);
    CHECK(offsetof(shm::SegmentHeader, counters) == 520);
}

TEST_CASE("a span record is these bytes") {
    Record record;
    record.parent_id = {7, 7, 7, 7, 7, 7, 7, 7};
    record.start = 0x0102030405060708;
    record.end = 0x1112131415161718;
    record.kind = 3;
    record.status = 2;
    record.scope = 0x2122;
    record.body = "\x2A\x01w";
    record.description = "no";
    const std::string bytes = record.bytes();
    CHECK(hex(bytes.data(), bytes.size()) ==
          "50000000"
          "01"
          "02"
          "4000"
          "01020300000000000000000000000000"
          "0405060000000000"
          "0707070707070707"
          "0807060504030201"
          "1817161514131211"
          "23"
          "01"
          "2221"
          "03000000"
          "2a0177"
          "02000000"
          "6e6f"
          "00000000000000");
}

TEST_CASE("the producer's and the daemon's pages keep their places") {
    using shm::DaemonLane;
    using shm::LaneProducer;
    CHECK(offsetof(LaneProducer, write_cursor) == 0);
    CHECK(offsetof(LaneProducer, begun) == 64);
    CHECK(offsetof(LaneProducer, ended) == 72);
    CHECK(offsetof(LaneProducer, unsampled) == 80);
    CHECK(offsetof(LaneProducer, heap_spans) == 88);
    CHECK(offsetof(LaneProducer, dropped) == 96);
    CHECK(offsetof(LaneProducer, epoch) == 160);
    CHECK(offsetof(LaneProducer, lock_words) == 4088);
    CHECK(offsetof(DaemonLane, read_cursor) == 0);
    CHECK(offsetof(DaemonLane, drained) == 8);
    CHECK(offsetof(DaemonLane, malformed) == 16);
    CHECK(offsetof(DaemonLane, skipped) == 24);
    CHECK(offsetof(DaemonLane, recovered) == 32);
    CHECK(offsetof(shm::DaemonSegment, retired) == 0);
    CHECK(offsetof(shm::DaemonSegment, recording_off) == 2);
    CHECK(offsetof(shm::DaemonSegment, quarantined) == 4);
    CHECK(offsetof(shm::DaemonSegment, control_generation) == 8);
    CHECK(offsetof(shm::SlotControl, end_cursor) == 8);
    CHECK(offsetof(shm::SlotControl, end_segment) == 16);
    CHECK(offsetof(shm::SlotControl, dropped) == 24);
    CHECK(offsetof(shm::ControlPage, generation) == 32);
    CHECK(offsetof(shm::ControlPage, active) == 40);
    CHECK(offsetof(shm::ControlPage, sleeping) == 132);
    CHECK(offsetof(shm::ControlPage, content) == 16384);
    CHECK(offsetof(shm::ControlContent, enabled) == 0);
    CHECK(sizeof(shm::TableEntry) == 16);
}
