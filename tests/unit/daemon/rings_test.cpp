#include "daemon/commands/rings.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>

#include <string>

#include "daemon/commands/rings_json.hpp"
#include "daemon/status/ring_report.hpp"
#include "shm/span_view.hpp"
#include "tests/unit/daemon/fake_segment.hpp"

namespace oteld::status {
namespace {

using test::FakeSegment;
using test::numbered;
using test::Record;
using test::TemporaryDirectory;

RingReport report_of(const TemporaryDirectory& directory, const std::string& name,
                     bool spans = true) {
    auto report = read_ring(directory.fd, name, spans);
    REQUIRE_MESSAGE(report, (report ? "" : report.error().message));
    return std::move(*report);
}

shm::Span span_of(const RingSpan& span, shm::Frame& frame) {
    shm::FrameReader frames(span.frame);
    REQUIRE(frames.next(frame));
    return shm::Span(frame.span);
}

TEST_CASE("header, tables and lanes of a ring are copied out") {
    const TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    segment.put(0, numbered(1));
    segment.put(0, numbered(2));
    segment.producer(0)->epoch = 3;
    segment.producer(0)->unsampled = 9;
    segment.producer(0)->dropped[0] = 4;
    segment.producer(0)->dropped[7] = 1;
    segment.daemon_lane(0)->drained = 5;
    segment.daemon_lane(0)->malformed = 6;
    reinterpret_cast<shm::SegmentHeader*>(segment.memory)->counters[5] = 12;
    const RingReport report = report_of(directory, "a.ring");
    CHECK(report.faults.empty());
    CHECK(report.major == 1);
    CHECK(report.bytes == segment.bytes);
    CHECK(report.pid == 4242);
    CHECK(report.executable == "/usr/bin/fake");
    CHECK(report.process_id == "07070707070707070707070707070707");
    CHECK(report.alive);
    CHECK_FALSE(report.other_boot);
    CHECK(report.clock == "monotonic");
    CHECK(report.lane_bytes == 16 << 10);
    REQUIRE(report.slots.size() == 3);
    CHECK(report.slots[1] == std::pair<std::uint32_t, std::uint32_t>{1, 4096});
    CHECK(report.counters == std::map<std::string, std::uint64_t>{{"bells", 12}});
    REQUIRE(report.tables.size() == 2);
    CHECK(report.tables[0].service == "orders");
    CHECK(report.tables[0].text == "service.name=orders");
    CHECK(report.tables[1].text == "scope-a 1.0");
    REQUIRE(report.lanes.size() == 2);
    const RingLane& lane = report.lanes[0];
    CHECK(lane.owner == 4242);
    CHECK(lane.claims == 3);
    CHECK(lane.waiting_spans == 2);
    CHECK(lane.waiting_bytes == segment.producer(0)->write_cursor);
    CHECK(lane.begun == 2);
    CHECK(lane.ended == 2);
    CHECK(lane.unsampled == 9);
    CHECK(lane.dropped == std::map<std::string, std::uint64_t>{{"reason_7", 1}, {"ring_full", 4}});
    CHECK(lane.drained == 5);
    CHECK(lane.malformed == 6);
    CHECK(report.lanes[1].waiting_spans == 0);
}

TEST_CASE("only what has not been drained is shown, finished and open spans alike") {
    const TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    segment.put(0, numbered(1));
    const std::uint64_t first_end = segment.producer(0)->write_cursor;
    Record second = numbered(2);
    second.body = test::name_and_attribute("second");
    segment.put(0, second);
    segment.daemon_lane(0)->read_cursor = first_end;
    Record third = numbered(3);
    third.body = test::name_and_attribute("third");
    segment.open_slot(0, 1, third);
    segment.open_slot(0, 2, third);
    segment.slot(0, 2)->end_cursor = 640;
    const RingReport report = report_of(directory, "a.ring");
    const RingLane& lane = report.lanes[0];
    CHECK(lane.waiting_spans == 1);
    CHECK(lane.open == 2);
    CHECK(lane.ending == 1);
    REQUIRE(lane.spans.size() == 3);
    shm::Frame frame;
    CHECK(span_of(lane.spans[0], frame).name == "second");
    CHECK_FALSE(lane.spans[0].open);
    CHECK(span_of(lane.spans[1], frame).name == "third");
    CHECK(lane.spans[1].open);
    CHECK(report_of(directory, "a.ring", false).lanes[0].spans.empty());
}

TEST_CASE("a dead owner, a retired file and a record of the future are told") {
    const TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    std::string unknown = numbered(1).bytes();
    unknown[4] = 77;  // RecordPrefix::type
    segment.put_raw(0, unknown);
    segment.die();
    segment.daemon()->retired = 1;
    segment.daemon_lane(1)->recovered = 1;
    const RingReport report = report_of(directory, "a.ring");
    CHECK_FALSE(report.alive);
    CHECK(report.retired);
    CHECK(report.lanes[0].owner_died);
    CHECK(report.lanes[0].owner == 0);
    CHECK(report.lanes[0].waiting_unknown == 1);
    CHECK(report.lanes[0].waiting_spans == 0);
    CHECK(report.lanes[1].recovered);
    CHECK(report.faults.empty());
}

TEST_CASE("a malformed record is shown as such and is no fault of the file") {
    const TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    Record nameless = numbered(1);
    nameless.trace_id = {};
    segment.put(0, nameless);
    const RingReport report = report_of(directory, "a.ring");
    REQUIRE(report.lanes[0].spans.size() == 1);
    CHECK(report.lanes[0].spans[0].refused == "no trace or span id");
    CHECK(report.faults.empty());
}

TEST_CASE("damage is named and does not end the look at the rest") {
    const TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    segment.put(1, numbered(1));
    SUBCASE("a write cursor beyond the lane") { segment.producer(0)->write_cursor = 1 << 30; }
    SUBCASE("a write cursor behind the read cursor") { segment.daemon_lane(0)->read_cursor = 8; }
    SUBCASE("a record longer than what is there") {
        segment.put(0, numbered(2));
        reinterpret_cast<detail::RecordPrefix*>(segment.data(0))->length = 1 << 20;
    }
    SUBCASE("a record of length 0") {
        segment.put(0, numbered(2));
        reinterpret_cast<detail::RecordPrefix*>(segment.data(0))->length = 0;
    }
    SUBCASE("an open slot longer than itself") { segment.open_slot(0, 0, numbered(3), 4096); }
    SUBCASE("an open slot shorter than a header") { segment.open_slot(0, 0, numbered(3), 8); }
    const RingReport report = report_of(directory, "a.ring");
    REQUIRE(report.faults.size() == 1);
    CHECK(report.faults[0].find("lane 0 is damaged") == 0);
    CHECK(report.lanes[0].corrupt);
    CHECK_FALSE(report.lanes[1].corrupt);
    CHECK(report.lanes[1].waiting_spans == 1);
}

TEST_CASE("a damaged table is named, entries before it are kept") {
    const TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    auto* header = reinterpret_cast<shm::SegmentHeader*>(segment.memory);
    SUBCASE("an entry that claims more than there is") {
        shm::TableEntry entry{};
        entry.bytes = 1 << 20;
        std::memcpy(segment.memory + segment.header.tables_offset + header->tables_end, &entry,
                    sizeof entry);
        header->tables_end += sizeof entry;
    }
    SUBCASE("an end beyond the table") { header->tables_end = ~0ULL; }
    const RingReport report = report_of(directory, "a.ring");
    REQUIRE(report.tables.size() == 3);
    CHECK(report.tables[0].service == "orders");
    CHECK(report.tables[2].kind == RingTableEntry::Kind::damaged);
    CHECK(report.faults.size() == 1);
}

TEST_CASE("a quarantined file is a fault") {
    const TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    segment.daemon()->quarantined = 1;
    CHECK(report_of(directory, "a.ring").faults.size() == 1);
}

TEST_CASE("looking changes nothing in the file") {
    const TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    segment.put(0, numbered(1));
    segment.open_slot(0, 0, numbered(2));
    const std::string before(reinterpret_cast<const char*>(segment.memory), segment.bytes);
    CHECK(report_of(directory, "a.ring").lanes.size() == 2);
    CHECK(std::string(reinterpret_cast<const char*>(segment.memory), segment.bytes) == before);
}

TEST_CASE("files that are no rings of ours are refused by name and reason") {
    const TemporaryDirectory directory;
    FakeSegment::Shape shape;
    shape.change = [](shm::SegmentHeader& header) { header.major = 2; };
    const FakeSegment future(directory, "future.ring", shape);
    const auto refused = read_ring(directory.fd, "future.ring", false);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::unsupported);
    const std::string layout = "2." + std::to_string(shm::layout_minor);
    CHECK(refused.error().message.find("future.ring has ring layout " + layout) == 0);
    const int fd = openat(directory.fd, "short.ring", O_WRONLY | O_CREAT, 0600);
    close(fd);
    CHECK(read_ring(directory.fd, "short.ring", false).error().code == ErrorCode::corrupt);
    CHECK(read_ring(directory.fd, "absent.ring", false).error().code == ErrorCode::not_found);
    CHECK(read_ring(AT_FDCWD, directory.path + "/absent.ring", false).error().code ==
          ErrorCode::not_found);
}

TEST_CASE("the exit code of the verb says whether every file is well") {
    const TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    daemon::RingsOptions options;
    options.directory = directory.path;
    options.json = true;
    CHECK(daemon::rings_command(options) == 0);
    const int fd = openat(directory.fd, "b.ring", O_WRONLY | O_CREAT, 0600);
    close(fd);
    CHECK(daemon::rings_command(options) == 1);
    options.files = {directory.path + "/a.ring"};
    CHECK(daemon::rings_command(options) == 0);
    options.files = {directory.path + "/absent.ring"};
    CHECK(daemon::rings_command(options) == 1);
}

TEST_CASE("the JSON names files that cannot be read beside those that can") {
    const TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    segment.put(0, numbered(1));
    daemon::RingsJson json;
    json.add(report_of(directory, "a.ring"));
    json.add("b.ring", Error{ErrorCode::corrupt, "b.ring is not a \"ring\" file."});
    const std::string document = json.document();
    const std::string layout =
        std::to_string(shm::layout_major) + "." + std::to_string(shm::layout_minor);
    CHECK(document.find(R"({"schema_version":1,"rings":[{"file":"a.ring","layout":")" + layout) ==
          0);
    CHECK(document.find(R"("lanes":[{"lane":0,"owner":4242,)") != std::string::npos);
    CHECK(document.find(R"("spans":[{"open":false,"scope":0,"span":{"traceId":"01020300)") !=
          std::string::npos);
    CHECK(document.find(R"({"file":"b.ring","error":"b.ring is not a \"ring\" file."}])") !=
          std::string::npos);
}

}  // namespace
}  // namespace oteld::status
