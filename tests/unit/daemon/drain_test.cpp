#include "daemon/intake/drain.hpp"

#include "fake_host.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <csignal>

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
    host.intake.reset();
    host.spool.spool.reset();
    const pid_t child = ::fork();
    if (child == 0) {
        host.spool.restart();
        host.start("spool_commit:kill");
        host.round();
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
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

TEST_CASE("another user's ids are no way into a process: owner and process id name it together") {
    Host host;
    FakeSegment first(host.spool.directory, "a.ring");
    FakeSegment::Shape shape;
    shape.process = 8;
    FakeSegment other(host.spool.directory, "b.ring", shape);
    host.round();
    CHECK(host.intake->processes().size() == 2);
}

TEST_CASE("a user beyond the caps is refused by name, the files within them are drained") {
    Host host;
    host.settings.user_files_max = 2;
    host.start();
    std::vector<std::unique_ptr<FakeSegment>> segments;
    for (int i = 0; i < 4; ++i) {
        FakeSegment::Shape shape;
        shape.process = static_cast<std::uint8_t>(i + 1);
        segments.push_back(std::make_unique<FakeSegment>(
            host.spool.directory, std::string(1, static_cast<char>('a' + i)) + ".ring", shape));
        segments.back()->put(0, numbered(static_cast<std::uint64_t>(i) + 1));
    }
    CHECK(host.round() == 2);
    CHECK(host.intake->refused().size() == 2);
    CHECK(host.intake->refused()[0].why.find("ring files") != std::string::npos);
    for (const auto& segment : segments) segment->die();
    for (int i = 0; i < 6; ++i) host.round();
    CHECK(host.numbers().size() == 4);
    CHECK(host.intake->refused().empty());
}

TEST_CASE("refused files beyond those that are named are counted") {
    Host host;
    host.settings.user_files_max = 1;
    host.start();
    std::vector<std::unique_ptr<FakeSegment>> segments;
    for (std::uint8_t i = 0; i < 70; ++i) {
        FakeSegment::Shape shape;
        shape.process = i;
        segments.push_back(std::make_unique<FakeSegment>(host.spool.directory,
                                                         std::to_string(i) + ".ring", shape));
        segments.back()->put(0, numbered(i + 1U));
    }
    for (int i = 0; i < 3; ++i) {
        host.round();
        CHECK(host.intake->refused().size() == 64);
        CHECK(host.intake->refused_unnamed() == 5);
    }
    for (const auto& segment : segments) segment->die();
    for (int i = 0; i < 300; ++i) host.round();
    CHECK(host.numbers().size() == 70);
    CHECK(host.intake->refused().empty());
    CHECK(host.intake->refused_unnamed() == 0);
}

TEST_CASE("a user with too many spans in the spool is not drained until some are settled") {
    Host host;
    host.settings.user_spans_max = 10;
    host.start();
    FakeSegment segment(host.spool.directory, "a.ring");
    for (std::uint64_t i = 1; i <= 30; ++i) segment.put(i % 2, numbered(i));
    const auto refused = [&host] {
        REQUIRE(host.intake->users().size() == 1);
        const UserSpans& user = host.intake->users().front();
        CHECK(user.uid == ::geteuid());
        return user.refused ? user.spans : 0;
    };
    CHECK(host.round() == 15);  // What one step took: the cap is looked at before each.
    CHECK(refused() == 15);
    CHECK(host.round() == 0);
    CHECK(refused() == 15);
    // A restart counts again what is in the spool.
    host.restart();
    CHECK(host.round() == 0);
    CHECK(refused() == 15);
    for (const ExtentRef& extent : host.spool.spool->left_over())
        host.spool.settle(extent, 0, extent.header->spans);
    CHECK(host.round() == 15);
    CHECK(host.row().drained == 30);
    host.settle_all();
    CHECK(host.round() == 0);
    CHECK(host.intake->users().empty());
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
