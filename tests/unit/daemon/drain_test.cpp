#include "daemon/intake/drain.hpp"

#include "fake_host.hpp"

#include <doctest/doctest.h>

using namespace oteld;
using namespace oteld::daemon;
using namespace oteld::test;
using namespace std::chrono_literals;

TEST_CASE("finished spans go from the rings into the spool, and their room is given back") {
    Host host;
    FakeSegment segment(host.spool.directory, "a.ring");
    for (std::uint64_t i = 1; i <= 30; ++i) segment.put(i % 2, numbered(i));
    CHECK(host.round() == 30);
    CHECK(host.numbers().size() == 30);
    CHECK(segment.daemon_lane(0)->read_cursor == segment.producer(0)->write_cursor);
    CHECK(segment.daemon_lane(0)->drained == 15);
    CHECK(host.row().drained == 30);
    CHECK(std::string(host.row().service) == "orders");
    CHECK(host.row().pid == 4242);
    CHECK(host.round() == 0);
    segment.put(0, numbered(31));
    CHECK(host.round() == 1);
}

TEST_CASE("a daemon that dies between any two rounds goes on where it was") {
    Host host;
    FakeSegment segment(host.spool.directory, "a.ring");
    std::multiset<std::uint64_t> seen;
    std::uint64_t next = 1;
    for (int i = 0; i < 20; ++i) {
        for (int n = 0; n < 20; ++n) segment.put(0, numbered(next++));
        host.round();
        for (const std::uint64_t number : host.numbers()) seen.insert(number);
        if (i % 3 == 0) host.settle_all();
        host.restart();
    }
    CHECK(seen.size() == next - 1);
    CHECK(std::set<std::uint64_t>(seen.begin(), seen.end()).size() == next - 1);
    CHECK(host.row().drained == next - 1);
}

TEST_CASE(
    "a daemon killed between the spool's commit and the lane's cursor neither loses nor repeats") {
    Host host;
    FakeSegment segment(host.spool.directory, "a.ring");
    for (std::uint64_t i = 1; i <= 30; ++i) segment.put(0, numbered(i));
    host.die_after_commit();
    CHECK(segment.daemon_lane(0)->read_cursor == 0);  // The moment that was meant.
    CHECK(segment.daemon_lane(0)->drained == 0);
    host.restart();
    host.handed = host.spool.spool->left_over();
    CHECK(host.numbers().size() == 30);
    host.handed.clear();
    CHECK(host.round() == 0);
    CHECK(segment.daemon_lane(0)->read_cursor == segment.producer(0)->write_cursor);
    CHECK(segment.daemon_lane(0)->drained == 30);
    CHECK(host.row().drained == 30);
}

TEST_CASE("a full spool stops the drain; the spans stay in their ring and come later") {
    Host host(2 << 20);
    FakeSegment::Shape shape;
    shape.data_bytes = 1 << 20;
    FakeSegment segment(host.spool.directory, "a.ring", shape);
    std::uint64_t next = 1;
    const auto fill = [&] {
        while (segment.producer(0)->write_cursor - segment.daemon_lane(0)->read_cursor <
               shape.data_bytes - 4096) {
            Record record = numbered(next++);
            record.body = Bytes().field(5, std::string(1000, 'n')).text;
            segment.put(0, record);
        }
    };
    std::multiset<std::uint64_t> seen;
    for (int i = 0; i < 4; ++i) {
        fill();
        host.round();
    }
    CHECK(host.spool.spool->state().full);
    CHECK(segment.daemon_lane(0)->read_cursor != segment.producer(0)->write_cursor);
    for (int i = 0;
         i < 10 && segment.daemon_lane(0)->read_cursor != segment.producer(0)->write_cursor; ++i) {
        for (const std::uint64_t number : host.numbers()) seen.insert(number);
        host.settle_all();
        host.round();
    }
    for (const std::uint64_t number : host.numbers()) seen.insert(number);
    CHECK(seen.size() == next - 1);
    CHECK(*seen.begin() == 1);
    CHECK(*seen.rbegin() == next - 1);
}

TEST_CASE("malformed records are counted with the lane and the application; the others arrive") {
    Host host;
    FakeSegment segment(host.spool.directory, "a.ring");
    segment.put(0, numbered(1));
    Record bad = numbered(2);
    bad.body = "\x2A\x05x";
    segment.put(0, bad);
    Record foreign = numbered(3);
    foreign.scope = 77;
    segment.put(0, foreign);
    segment.put(0, numbered(4));
    CHECK(host.round() == 2);
    CHECK(host.numbers() == std::multiset<std::uint64_t>{1, 4});
    CHECK(segment.daemon_lane(0)->malformed == 2);
    CHECK(host.row().malformed == 2);
    CHECK(host.intake->counts().last_refusal == Refusal::scope);
}

TEST_CASE("records of unknown type are skipped and counted, pads are neither") {
    Host host;
    FakeSegment segment(host.spool.directory, "a.ring");
    std::string unknown(48, '\0');
    const detail::RecordPrefix prefix{48, 9, 0, 8};
    std::memcpy(unknown.data(), &prefix, sizeof prefix);
    segment.put_raw(0, unknown);
    for (std::uint64_t i = 1; i <= 400; ++i) {
        segment.put(0, numbered(i));
        if (i % 20 == 0) host.round();
    }
    host.round();
    CHECK(host.numbers().size() == 400);
    CHECK(segment.producer(0)->write_cursor >
          segment.header.data_bytes);  // It went around, with pads.
    CHECK(segment.daemon_lane(0)->skipped == 1);
    CHECK(segment.daemon_lane(0)->malformed == 0);
    CHECK(host.row().skipped == 1);
}

TEST_CASE("where no record begins, the lane jumps to its end and the loss is counted") {
    Host host;
    FakeSegment segment(host.spool.directory, "a.ring");
    for (std::uint64_t i = 1; i <= 10; ++i) segment.put(0, numbered(i));
    const std::size_t length = numbered(1).bytes().size();
    std::memset(segment.data(0) + 4 * length, 0xFF, 4);
    CHECK(host.round() == 4);
    CHECK(segment.daemon_lane(0)->read_cursor == segment.producer(0)->write_cursor);
    CHECK(segment.daemon_lane(0)->malformed == 6);
    segment.put(0, numbered(11));
    CHECK(host.round() == 1);
}

TEST_CASE("a lying cursor or a truncated file quarantines that segment alone, by name") {
    Host host;
    FakeSegment good(host.spool.directory, "good.ring");
    FakeSegment::Shape shape;
    shape.process = 8;
    FakeSegment liar(host.spool.directory, "liar.ring", shape);
    shape.process = 9;
    FakeSegment shrunk(host.spool.directory, "shrunk.ring", shape);
    host.round();
    liar.producer(0)->write_cursor = 1ULL << 40;
    for (std::uint64_t i = 1; i <= 3; ++i) shrunk.put(0, numbered(i));
    REQUIRE(::ftruncate(shrunk.fd, 4096) == 0);
    good.put(0, numbered(42));
    host.round();
    CHECK(host.numbers() == std::multiset<std::uint64_t>{42});
    int quarantined = 0;
    for (const auto& segment : host.intake->segments())
        if (segment->quarantined()) {
            ++quarantined;
            CHECK(segment->map().name() != "good.ring");
        }
    CHECK(quarantined == 2);
    good.put(0, numbered(43));
    CHECK(host.round() == 1);
}

TEST_CASE(
    "recording that is turned off is told to every segment, and no longer by the next daemon") {
    Host host;
    FakeSegment segment(host.spool.directory, "a.ring");
    host.settings.recording = false;
    host.restart();
    host.round();
    CHECK(segment.daemon()->recording_off == 1);
    CHECK(segment.daemon()->retired == 0);
    host.settings.recording = true;
    host.restart();
    host.round();
    CHECK(segment.daemon()->recording_off == 0);
}

TEST_CASE(
    "the largest record there may be fits; one beyond an empty block is refused, not waited for") {
    Host host(8 << 20);
    FakeSegment::Shape shape;
    shape.data_bytes = 2 << 20;
    FakeSegment segment(host.spool.directory, "a.ring", shape);
    Record large = numbered(1);
    large.body = Bytes().field(5, std::string(shm::record_bytes_max - 80, 'n')).text;
    REQUIRE(large.bytes().size() <= shm::record_bytes_max);
    segment.put(0, large);
    segment.put(0, numbered(2));
    host.round();
    CHECK(host.numbers() == std::multiset<std::uint64_t>{1, 2});
    large.body = Bytes().field(5, std::string(block_bytes, 'n')).text;
    segment.put(0, large);
    segment.put(0, numbered(4));
    host.round();
    CHECK(host.numbers() == std::multiset<std::uint64_t>{1, 2, 4});
    CHECK(segment.daemon_lane(0)->malformed == 1);
}

TEST_CASE("left-over temporary names are removed when they are old") {
    Host host;
    const auto make = [&](const char* name, time_t age) {
        const int fd = ::openat(host.spool.directory.fd, name, O_CREAT | O_RDWR, 0600);
        const timespec times[2] = {{::time(nullptr) - age, 0}, {::time(nullptr) - age, 0}};
        ::futimens(fd, times);
        ::close(fd);
    };
    make("old.tmp", 3600);
    make("new.tmp", 1);
    host.now += 120s;
    host.round();
    CHECK_FALSE(std::filesystem::exists(host.spool.directory.path + "/old.tmp"));
    CHECK(std::filesystem::exists(host.spool.directory.path + "/new.tmp"));
}
