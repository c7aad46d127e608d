// What becomes of a process that has died: its rings, its open spans, its counts.
#include "daemon/intake/recover_slots.hpp"

#include "fake_host.hpp"

#include <doctest/doctest.h>

using namespace oteld;
using namespace oteld::daemon;
using namespace oteld::test;

TEST_CASE(
    "spans that found no lane have begun and were dropped, in a living process and a dead one") {
    Host host;
    FakeSegment segment(host.spool.directory, "a.ring");
    segment.put(0, numbered(1));
    auto* live = reinterpret_cast<shm::SegmentHeader*>(segment.memory);
    live->counters[static_cast<std::size_t>(shm::ProcessCounter::begun_no_lane)] = 7;
    const auto no_lane = static_cast<std::size_t>(shm::DropReason::no_lane);
    host.round();
    const ProducerCounts counts = host.intake->segments().front()->counts_untrusted();
    CHECK(counts.begun == 8);
    CHECK(counts.dropped[no_lane] == 7);
    segment.die();
    host.round();
    host.round();
    CHECK(host.row().gone_begun == 8);
    CHECK(host.row().gone_dropped[no_lane] == 7);
}

TEST_CASE("a dead process: drained, its open spans exported as unfinished, its files removed") {
    Host host;
    auto segment = std::make_unique<FakeSegment>(host.spool.directory, "a.ring");
    segment->put(0, numbered(1));
    Record open = numbered(2);
    open.status = 1;
    open.start = 5000;
    open.body = Bytes()
                    .field(5, "slow")
                    .field(9, key_value("last", int_value(9)))
                    .field(11, Bytes().fixed64(1, 7000).field(2, "e").text)
                    .text;
    segment->open_slot(0, 0, open);
    segment->slot(0, 0)->dropped[0] = 300;
    segment->slot(0, 0)->dropped[2] = 1;
    segment->open_slot(1, 4, numbered(3));
    host.round();
    host.round();
    CHECK(std::filesystem::exists(host.spool.directory.path + "/a.ring"));
    CHECK(host.numbers() == std::multiset<std::uint64_t>{1});
    segment->put(1, numbered(4));
    segment->die();
    host.round();
    host.round();
    CHECK(host.numbers() == std::multiset<std::uint64_t>{1, 2, 3, 4});
    CHECK_FALSE(std::filesystem::exists(host.spool.directory.path + "/a.ring"));
    CHECK(segment->daemon()->retired == 1);
    CHECK(host.intake->segments().empty());
    CHECK(host.row().recovered == 2);
    CHECK(host.row().drained == 4);
    CHECK(host.row().gone_begun == 4);
    CHECK(host.row().crashed == 1);
    for (const shm::Span& span : host.spans()) {
        if (span.name != "slow") continue;
        CHECK(span.end_unix_ns == 7000);
        CHECK(span.status_code == 2);
        CHECK(span.status_message == unfinished_description);
        bool marked = false;
        bool last = false;
        for (const auto& attribute : span.attributes()) {
            marked = marked || attribute.key == unfinished_attribute;
            last = last || attribute.key == "last";
        }
        CHECK(marked);
        CHECK(last);
        CHECK(span.dropped_attributes_count == 300);
        CHECK(span.dropped_events_count == 0);
        CHECK(span.dropped_links_count == 1);
    }
}

TEST_CASE("an open slot that had ended is not exported again") {
    Host host;
    FakeSegment segment(host.spool.directory, "a.ring");
    segment.put(1, numbered(1));
    // In the lane already: killed before the slot was cleared.
    segment.open_slot(0, 0, numbered(1));
    segment.slot(0, 0)->end_segment = 0;
    segment.slot(0, 0)->end_lane = 1;
    segment.slot(0, 0)->end_cursor = segment.producer(1)->write_cursor;
    // On its way into the lane: killed before the cursor moved.
    segment.open_slot(0, 1, numbered(2));
    segment.slot(0, 1)->end_segment = 0;
    segment.slot(0, 1)->end_lane = 1;
    segment.slot(0, 1)->end_cursor = segment.producer(1)->write_cursor + 200;
    // Dropped and counted.
    segment.open_slot(0, 2, numbered(3));
    segment.slot(0, 2)->end_cursor = 0;
    // Moving to a larger slot: two of it.
    Record more = numbered(4);
    more.body = name_and_attribute("a much longer name than before");
    segment.open_slot(0, 3, numbered(4));
    segment.open_slot(0, 4, more);
    // Not begun, and a lie.
    segment.open_slot(1, 0, numbered(5), 40);
    segment.open_slot(1, 1, numbered(6), 100000);
    segment.die();
    host.round();
    host.round();
    CHECK(host.numbers() == std::multiset<std::uint64_t>{1, 2, 4});
    for (const shm::Span& span : host.spans())
        if (span.span_id[0] == 4) CHECK(span.name == "a much longer name than before");
}

TEST_CASE("open spans are recovered once, whenever the daemon dies") {
    for (const bool settle : {false, true}) {
        Host host;
        FakeSegment segment(host.spool.directory, "a.ring");
        segment.open_slot(0, 0, numbered(1));
        segment.open_slot(1, 0, numbered(2));
        segment.die();
        // The spool has committed lane 0's open spans; nothing else has happened.
        host.round();
        std::vector<Segment*> process{host.intake->segments().front().get()};
        std::vector<ExtentRef> extents;
        Drain drain(*host.spool.spool, *host.clock, {});
        REQUIRE(recover_open_slots(process, 0, *host.spool.spool, *host.clock, drain, extents) ==
                Recovery::done);
        REQUIRE(extents.size() == 2);
        segment.daemon_lane(0)->recovered = 0;  // As if killed before this store.
        if (settle) {
            segment.daemon_lane(1)->recovered = 1;
            host.settle_all();
        }
        host.restart();
        host.handed = host.spool.spool->left_over();
        host.round();
        host.round();
        CHECK(host.numbers() == std::multiset<std::uint64_t>{1, 2});
        CHECK(host.row().recovered == 2);
        CHECK_FALSE(std::filesystem::exists(host.spool.directory.path + "/a.ring"));
    }
}

TEST_CASE("all files of a process are kept until the last of them is dead and drained") {
    Host host;
    FakeSegment first(host.spool.directory, "a.ring");
    FakeSegment::Shape shape;
    shape.index = 1;
    shape.owner_alive = false;
    FakeSegment second(host.spool.directory, "b.ring", shape);
    host.round();
    host.round();
    CHECK(host.intake->processes().size() == 1);
    CHECK(std::filesystem::exists(host.spool.directory.path + "/b.ring"));
    first.die();
    host.round();
    host.round();
    CHECK_FALSE(std::filesystem::exists(host.spool.directory.path + "/a.ring"));
    CHECK_FALSE(std::filesystem::exists(host.spool.directory.path + "/b.ring"));
}

TEST_CASE("a segment whose counters were folded before a kill is only removed after it") {
    Host host;
    FakeSegment segment(host.spool.directory, "a.ring");
    segment.put(0, numbered(1));
    host.round();
    ApplicationRow difference{};
    difference.gone_begun = 1;
    difference.gone_drained = 1;
    host.spool.spool->fold_segment(0, host.intake->segments().front()->map().identity(),
                                   difference);
    host.restart();
    host.round();
    CHECK(host.intake->segments().empty());
    CHECK_FALSE(std::filesystem::exists(host.spool.directory.path + "/a.ring"));
    CHECK(host.row().gone_begun == 1);
}

TEST_CASE("an unlinked segment that is still mapped is drained to its end") {
    Host host;
    FakeSegment segment(host.spool.directory, "a.ring");
    segment.put(0, numbered(1));
    host.round();
    segment.put(0, numbered(2));
    REQUIRE(::unlinkat(host.spool.directory.fd, "a.ring", 0) == 0);
    segment.die();
    host.round();
    host.round();
    host.round();
    CHECK(host.numbers() == std::multiset<std::uint64_t>{1, 2});
    CHECK(host.intake->segments().empty());
}
