#include "daemon/intake/intake.hpp"

#include "daemon/intake/intake_snapshot.hpp"
#include "fake_host.hpp"

#include <doctest/doctest.h>
#include <sys/inotify.h>

#include <atomic>
#include <thread>

using namespace oteld;
using namespace oteld::daemon;
using namespace oteld::test;

namespace {

FakeSegment::Shape shape_of(std::uint8_t process, std::uint64_t data_bytes = 16 << 10) {
    FakeSegment::Shape shape;
    shape.process = process;
    shape.data_bytes = data_bytes;
    return shape;
}

Record large(std::uint64_t number, std::size_t bytes = 4000) {
    Record record = numbered(number);
    record.body = Bytes().field(5, std::string(bytes, 'n')).text;
    return record;
}

void fill(FakeSegment& segment, std::uint32_t lane, const Record& record) {
    while (segment.producer(lane)->write_cursor - segment.daemon_lane(lane)->read_cursor +
               2 * record.bytes().size() <
           segment.header.data_bytes)
        segment.put(lane, record);
}

void junk(const TemporaryDirectory& directory, const std::string& name) {
    const int fd = ::openat(directory.fd, name.c_str(), O_CREAT | O_RDWR, 0600);
    REQUIRE(::write(fd, "junk", 4) == 4);
    ::close(fd);
}

status::Application application(Host& host, std::size_t index = 0) {
    status::Snapshot snapshot;
    fill_intake(snapshot, *host.intake, *host.clock, *host.spool.spool, {});
    REQUIRE(index < snapshot.applications.size());
    return snapshot.applications[index];
}

}  // namespace

TEST_CASE("while the spool is short, what is freed goes to every process in turn") {
    Host host(2 << 20);
    std::vector<std::unique_ptr<FakeSegment>> segments;
    for (std::uint8_t process = 1; process <= 3; ++process)
        segments.push_back(std::make_unique<FakeSegment>(
            host.spool.directory, std::to_string(process) + ".ring", shape_of(process, 2 << 20)));
    const auto fill_all = [&] {
        for (const auto& segment : segments) fill(*segment, 0, large(1));
    };
    fill_all();
    host.round();
    for (int round = 0; round < 12; ++round) {
        host.settle_all();
        fill_all();
        host.round();
    }
    for (const auto& segment : segments) CHECK(segment->daemon_lane(0)->drained > 1000);
}

TEST_CASE("a round takes a bounded part of one user's rings, and of another's all the same") {
    Host host(32 << 20);
    FakeSegment::Shape shape = shape_of(1, 2 << 20);
    shape.lanes = 4;
    FakeSegment full(host.spool.directory, "1.ring", shape);
    for (std::uint32_t lane = 0; lane < 4; ++lane) fill(full, lane, large(1));
    FakeSegment other(host.spool.directory, "2.ring", shape_of(2));
    if (::geteuid() == 0) REQUIRE(::fchown(other.fd, 12345, 12345) == 0);
    other.put(0, numbered(2));
    const auto taken = [&] {
        std::uint64_t bytes = 0;
        for (std::uint32_t lane = 0; lane < 4; ++lane) bytes += full.daemon_lane(lane)->read_cursor;
        return bytes;
    };
    host.round();
    CHECK(taken() > 1 << 20);
    CHECK(taken() < 5 << 20);
    CHECK(host.intake->more_waits());
    CHECK(host.nap.next(host.now) == Nap::shortest);
    if (::geteuid() == 0) CHECK(other.daemon_lane(0)->drained == 1);
    for (int i = 0; i < 3; ++i) host.round();
    CHECK(taken() > 7 << 20);
    CHECK(other.daemon_lane(0)->drained == 1);
    CHECK_FALSE(host.intake->more_waits());
}

TEST_CASE("a process that left by itself while it held a lane has not crashed") {
    Host host;
    FakeSegment segment(host.spool.directory, "a.ring");
    segment.put(0, numbered(1));
    segment.die();
    for (int i = 0; i < 3; ++i) host.round();
    REQUIRE(host.intake->segments().empty());
    CHECK(host.row().crashed == 0);
    CHECK(application(host).life == status::Life::ended);
}

TEST_CASE("a process that lost a span with it, or left one open, has crashed") {
    for (const bool lost : {false, true}) {
        Host host;
        FakeSegment segment(host.spool.directory, "a.ring");
        segment.put(0, numbered(1));
        if (lost)
            ++segment.producer(0)->begun;
        else
            segment.open_slot(0, 0, numbered(2));
        segment.die();
        for (int i = 0; i < 3; ++i) host.round();
        REQUIRE(host.intake->segments().empty());
        CHECK(host.row().crashed == 1);
        CHECK(application(host).life == status::Life::crashed);
        CHECK(application(host).lost == (lost ? 1 : 0));
    }
}

TEST_CASE("cursors in a segment with slots only mean nothing: it is removed with its process") {
    Host host;
    FakeSegment::Shape shape;
    shape.data_bytes = 0;
    FakeSegment segment(host.spool.directory, "a.ring", shape);
    host.round();
    segment.producer(0)->write_cursor = 800;
    segment.die();
    for (int i = 0; i < 3; ++i) host.round();
    CHECK(host.intake->segments().empty());
    CHECK_FALSE(std::filesystem::exists(host.spool.directory.path + "/a.ring"));
}

TEST_CASE("files that are no rings are looked at once, and a few a round") {
    Host host;
    for (int i = 0; i < 1000; ++i) junk(host.spool.directory, "junk" + std::to_string(i) + ".ring");
    FakeSegment segment(host.spool.directory, "a.ring");
    segment.put(0, numbered(1));
    const int watch = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    REQUIRE(::inotify_add_watch(watch, host.spool.directory.path.c_str(), IN_OPEN) >= 0);
    const auto opened = [&] {
        alignas(inotify_event) char buffer[4096];
        int files = 0;
        ssize_t bytes = 0;
        while ((bytes = ::read(watch, buffer, sizeof buffer)) > 0)
            for (ssize_t at = 0; at < bytes;) {
                const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
                at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
                if ((event->mask & IN_ISDIR) == 0) ++files;
            }
        return files;
    };
    host.now += std::chrono::seconds(11);
    host.intake->round(host.now, host.nap);
    CHECK(opened() < 500);
    CHECK(host.nap.next(host.now) == Nap::shortest);  // There is more to look at.
    for (int i = 0; i < 100; ++i) host.intake->round(host.now, host.nap);
    CHECK(host.numbers() == std::multiset<std::uint64_t>{1});
    CHECK(opened() > 500);
    for (int i = 0; i < 100; ++i) {
        host.now += std::chrono::milliseconds(200);  // Two scans.
        host.intake->round(host.now, host.nap);
    }
    CHECK(opened() == 0);
    // What was refused has words, of some at least, and is not refused for ever.
    CHECK(host.intake->refused().size() == 64);
    host.now += std::chrono::seconds(120);
    for (int i = 0; i < 100; ++i) host.intake->round(host.now, host.nap);
    CHECK(opened() >= 1000);
    ::close(watch);
}

TEST_CASE("after a restart the living keep their rows, however many others begin") {
    Host host;
    std::vector<std::unique_ptr<FakeSegment>> segments;
    const auto begin = [&](std::uint32_t process) {
        FakeSegment::Shape shape;
        shape.lanes = 1;
        shape.change = [process](shm::SegmentHeader& header) {
            std::memcpy(header.process_id, &process, sizeof process);
        };
        // Names in no order: neither the newest nor the oldest comes first.
        segments.push_back(std::make_unique<FakeSegment>(
            host.spool.directory, std::to_string(process * 7919 % 1000) + ".ring", shape));
        segments.back()->put(0, numbered(process));
    };
    for (std::uint32_t process = 1; process <= 255; ++process) begin(process);
    for (int i = 0; i < 10; ++i) host.round();
    host.settle_all();
    REQUIRE(host.spool.spool->rows().used(254));
    REQUIRE_FALSE(host.spool.spool->rows().used(255));
    host.intake.reset();
    for (std::uint32_t process = 300; process < 400; ++process) begin(process);
    host.restart();
    for (int i = 0; i < 10; ++i) host.round();
    for (std::uint32_t row = 0; row < 255; ++row)
        CHECK(host.spool.spool->rows().row(row).state ==
              static_cast<std::uint64_t>(RowState::process));
    CHECK(host.spool.spool->rows().row(255).drained == 100);
}

TEST_CASE("a file that grows is refused until it is a whole ring") {
    Host host;
    FakeSegment segment(host.spool.directory, "a.ring");
    segment.put(0, numbered(1));
    const std::string whole(reinterpret_cast<const char*>(segment.memory), segment.bytes);
    for (const std::size_t size : {std::size_t{0}, std::size_t{100}, whole.size() - 1}) {
        REQUIRE(::ftruncate(segment.fd, static_cast<off_t>(size)) == 0);
        REQUIRE(::pwrite(segment.fd, whole.data(), size, 0) == static_cast<ssize_t>(size));
        host.now += std::chrono::seconds(61);
        CHECK(host.round() == 0);
        CHECK(host.intake->refused().size() == 1);
    }
    REQUIRE(::pwrite(segment.fd, whole.data(), whole.size(), 0) ==
            static_cast<ssize_t>(whole.size()));
    host.now += std::chrono::seconds(61);
    CHECK(host.round() == 1);
    CHECK(host.intake->refused().empty());
    // And from then on nothing behind its end is looked at.
    REQUIRE(::ftruncate(segment.fd, 64 << 20) == 0);
    segment.put(0, numbered(2));
    CHECK(host.round() == 1);
    CHECK(host.numbers() == std::multiset<std::uint64_t>{1, 2});
}

TEST_CASE("what clocks did is counted and said, and nothing when they did nothing") {
    Host host;
    status::Snapshot quiet;
    fill_intake(quiet, *host.intake, *host.clock, *host.spool.spool, {});
    CHECK(quiet.notes.empty());
    constexpr std::uint64_t second = 1'000'000'000;
    ClockAnchor later{10 * second, 10 * second, 10 * second};  // A nanosecond a tick.
    DaemonClock clock(later, {9 * second, 9 * second, 9 * second});
    later.monotonic_ns += second;
    later.ticks += second;
    later.realtime_ns += 3600 * second;
    clock.reanchor(later);
    later.monotonic_ns += second;
    later.ticks += 3 * second;
    clock.reanchor(later);
    status::Snapshot snapshot;
    fill_intake(snapshot, *host.intake, clock, *host.spool.spool, {});
    CHECK(snapshot.clocks.steps == 1);
    CHECK(snapshot.clocks.jumps == 1);
    CHECK(snapshot.clocks.times_clamped == 0);
    CHECK(snapshot.notes.size() == 2);
}

TEST_CASE("what programs do wrong is noted, also when their rings are gone, and nothing else is") {
    Host host;
    const auto notes = [&] {
        status::Snapshot snapshot;
        fill_intake(snapshot, *host.intake, *host.clock, *host.spool.spool, {});
        return snapshot.notes;
    };
    FakeSegment segment(host.spool.directory, "a.ring");
    segment.put(0, numbered(1));
    host.round();
    auto* header = reinterpret_cast<shm::SegmentHeader*>(segment.memory);
    const auto count = [&](shm::ProcessCounter counter, std::uint64_t value) {
        header->counters[static_cast<std::uint32_t>(counter)] = value;
    };
    count(shm::ProcessCounter::bells, 9);
    CHECK(notes().empty());
    count(shm::ProcessCounter::hook_failures, 3);
    REQUIRE(notes().size() == 1);
    CHECK(notes()[0].find("3 times a sampler") == 0);
    CHECK(notes()[0].find("(hook_failures)") != std::string::npos);
    count(shm::ProcessCounter::misuses, 1);
    segment.die();
    for (int i = 0; i < 3; ++i) host.round();
    REQUIRE(host.intake->segments().empty());
    REQUIRE(notes().size() == 2);
    CHECK(notes()[0].find("3 times") == 0);
    CHECK(notes()[1].find("Once a program ended a scope") == 0);
}

TEST_CASE("a file that is cut while open spans are copied out of it recovers none of them") {
    Host host;
    FakeSegment segment(host.spool.directory, "a.ring");
    // The record's second half is on pages that will be gone; the control of its slot is not.
    segment.open_slot(0, 5, large(1, 12000));
    host.round();
    segment.die();
    REQUIRE(::ftruncate(segment.fd,
                        static_cast<off_t>(segment.header.lanes_offset + 8192 + 4096)) == 0);
    std::vector<Segment*> process{host.intake->segments().front().get()};
    std::vector<ExtentRef> extents;
    Drain drain(*host.spool.spool, *host.clock, {});
    CHECK(recover_open_slots(process, 0, *host.spool.spool, *host.clock, drain, extents) ==
          Recovery::done);
    CHECK(process.front()->map().truncated());
    CHECK(process.front()->quarantined());
    CHECK(extents.empty());
    CHECK(host.row().malformed == 0);
    CHECK(host.row().drained == 0);
}

TEST_CASE("a span that ends on another thread is never counted as ended before it has begun") {
    Host host;
    FakeSegment::Shape shape;
    shape.lanes = 64;
    FakeSegment segment(host.spool.directory, "a.ring", shape);
    host.round();
    std::atomic<bool> stop{false};
    std::thread writer([&] {
        for (std::uint64_t n = 1; !stop.load(std::memory_order_relaxed); ++n) {
            __atomic_store_n(&segment.producer(0)->begun, n, __ATOMIC_RELAXED);
            __atomic_store_n(&segment.producer(63)->ended, n, __ATOMIC_RELEASE);
        }
    });
    bool whole = true;
    for (int i = 0; i < 200'000; ++i) {
        const ProducerCounts counts = host.intake->segments().front()->counts_untrusted();
        whole = whole && counts.begun >= counts.ended;
    }
    stop.store(true, std::memory_order_relaxed);
    writer.join();
    CHECK(whole);
}
