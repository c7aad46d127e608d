// A lane between its writer and the daemon, both of which may die: shm/lane_writer.hpp,
// shm/lane_reader.hpp, daemon/spool/journal.hpp.
#include "tests/model/explorer.hpp"
#include "tests/model/report.hpp"

#include "daemon/spool/journal.hpp"
#include "shm/lane_reader.hpp"
#include "shm/lane_writer.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace {

using namespace oteld;
using model::Explorer;
using model::Model;
using model::require;

constexpr std::uint64_t lane_bytes = 64;

struct Small {  // A record of an unknown type: a prefix and a stamp.
    detail::RecordPrefix prefix;
    std::uint64_t stamp;
    std::uint64_t again;
};

// Everything that the processes share, at the same addresses in every run.
struct Shared {
    alignas(64) std::uint8_t data[lane_bytes];
    shm::LaneProducer producer;
    shm::DaemonLane daemon;
};
Shared shared;

shm::LaneView view() {
    shm::LaneView lane;
    lane.data = shared.data;
    lane.data_bytes = lane_bytes;
    lane.producer = &shared.producer;
    lane.daemon = &shared.daemon;
    return lane;
}

// Filled by fibers in plain memory: each is a function of what the explorer knows of that fiber.
struct Seen {
    std::array<std::uint64_t, 16> stamps;
    std::size_t count;
    void clear() { count = 0; }
    void add(std::uint64_t stamp) { stamps.at(count++) = stamp; }
};

struct Writing {
    std::uint64_t published;
    std::uint64_t dropped;
};

// Writes `records` records of 24 bytes, so that laps end with pads of 16.
template <class Memory = Model>
void write(std::uint64_t records, Writing& done) {
    done = {};
    shm::BasicLaneWriter<Memory> writer{};
    writer.initialise(shared.data, lane_bytes, &shared.producer, &shared.daemon);
    for (std::uint64_t stamp = 1; stamp <= records; ++stamp) {
        bool ring_bell = false;
        std::uint8_t* to = writer.claim(sizeof(Small));
        if (to == nullptr &&
            writer.make_room(sizeof(Small), ring_bell) == shm::BasicLaneWriter<Memory>::Room::ok)
            to = writer.claim(sizeof(Small));
        if (to == nullptr) {
            ++done.dropped;
            continue;
        }
        const Small record{{sizeof(Small), 9, 0, sizeof(detail::RecordPrefix)}, stamp, stamp};
        Memory::copy_in(to, &record, sizeof record);
        writer.publish(sizeof record);
        ++done.published;
    }
}

// Reads from `from` up to the write cursor; returns where it came to.
std::uint64_t read(std::uint64_t from, Seen& seen) {
    const shm::LaneView lane = view();
    const shm::LaneRange range = shm::look_at_lane<Model>(lane, from);
    require(range.state != shm::LaneState::corrupt, "the cursors are corrupt");
    if (range.state == shm::LaneState::empty) return from;
    shm::BasicLaneReader<Model> reader(lane, range);
    for (;;) {
        const shm::LaneRecord record = reader.next();
        require(record.kind != shm::LaneRecord::Kind::corrupt, "a record is corrupt");
        if (record.kind == shm::LaneRecord::Kind::end) return reader.cursor();
        Small copy;
        Model::copy_out(&copy, record.bytes, sizeof copy);
        require(copy.stamp == copy.again, "a record is torn");
        seen.add(copy.stamp);
    }
}

void publish_cursor(std::uint64_t cursor) {
    Model::store_release(shared.daemon.read_cursor, cursor);
}

Writing writing;

// Every published record came, once and in order. A death may fall between the publication and the
// count of it.
void check_arrival(const Seen& seen) {
    for (std::size_t i = 1; i < seen.count; ++i)
        require(seen.stamps[i] > seen.stamps[i - 1], "a record came twice or out of order");
    require(seen.count >= writing.published, "a published record is missing");
    require(seen.count <= writing.published + 1, "a record came that was not published");
}

void begin(Explorer& explorer) {
    std::memset(&shared, 0, sizeof shared);
    writing = {};
    explorer.name(&shared.producer.write_cursor, "write_cursor");
    explorer.name(&shared.daemon.read_cursor, "read_cursor");
}

Seen drained;

template <class WriterMemory, bool cursor_first>
model::Result explore_lane() {
    return Explorer::explore(
        [](Explorer& explorer) {
            begin(explorer);
            drained.clear();
            const unsigned application = explorer.process(true);
            const unsigned daemon = explorer.process(false);
            explorer.thread(application, [] { write<WriterMemory>(5, writing); });
            explorer.thread(daemon, [application] {
                std::uint64_t cursor = 0;
                for (int round = 0; round < 3; ++round) {
                    if (cursor_first) publish_cursor(shm::look_at_lane<Model>(view(), cursor).to);
                    cursor = read(cursor, drained);
                    if (!cursor_first) publish_cursor(cursor);
                }
                Explorer::now().wait_for_end(application);
                read(cursor, drained);
            });
            explorer.finally([] { check_arrival(drained); });
        },
        {.deaths = 1});
}

TEST_CASE("a lane: what was published arrives once, whole and in order, whenever its writer dies") {
    const model::Result result = explore_lane<Model, false>();
    model::report("lane", result);
    CHECK_MESSAGE(result.violation.empty(), result.violation, "\n", result.trace);
    CHECK(result.deaths > 100);
}

TEST_CASE("a lane: the explorer finds a missing release and a cursor that moves too early") {
    CHECK(explore_lane<model::WithoutRelease, false>().violation ==
          "bytes are read that another thread may still be writing");
    CHECK(!explore_lane<Model, true>().violation.empty());
}

// What the daemon commits in one step, in the order of Drain::step: the extent's bytes, the
// journal, the lane's cursor. daemon/spool/journal.hpp is the product's, the extent is small.
struct Extent {
    std::uint64_t cursor_to;
    std::uint64_t count;
    std::uint64_t stamps[4];
};
daemon::SpoolHeader header;
Extent block[8];

enum class Mistake { none, cursor_before_commit, count_before_extent };

// A daemon's life: restart, `rounds` of draining, and a last one when the application is over.
template <Mistake mistake>
void drain(unsigned application, int rounds) {
    daemon::BasicJournal<Model> journal(header);
    require(journal.replay(), "the journal is damaged");
    std::uint64_t committed = Model::load_relaxed(header.block[0].end);
    std::uint64_t cursor = Model::load_relaxed(shared.daemon.read_cursor);
    for (std::uint64_t i = 0; i < committed; ++i) {
        Extent extent;
        Model::copy_out(&extent, &block[i], sizeof extent);
        if (extent.cursor_to > cursor) cursor = extent.cursor_to;
    }
    for (int round = 0; round <= rounds; ++round) {
        if (round == rounds) Explorer::now().wait_for_end(application);
        Seen seen;
        seen.clear();
        const std::uint64_t to = read(cursor, seen);
        if (to == cursor) continue;
        if (mistake == Mistake::cursor_before_commit) publish_cursor(to);
        Extent extent{to, seen.count, {}};
        std::copy_n(seen.stamps.begin(), seen.count, extent.stamps);
        if (mistake != Mistake::count_before_extent)
            Model::copy_in(&block[committed], &extent, sizeof extent);
        journal.set(header.commit_seq, committed + 1);
        journal.set(header.block[0].end, committed + 1);
        journal.commit();
        if (mistake == Mistake::count_before_extent)
            Model::copy_in(&block[committed], &extent, sizeof extent);
        ++committed;
        cursor = to;
        publish_cursor(cursor);
    }
}

void check_spool() {
    Explorer& explorer = Explorer::now();
    const std::uint64_t committed = explorer.newest(&header.block[0].end, 0);
    require(explorer.newest(&header.commit_seq, 0) == committed, "half of a commit");
    Seen seen;
    seen.clear();
    for (std::uint64_t i = 0; i < committed; ++i)
        for (std::uint64_t k = 0; k < block[i].count; ++k) seen.add(block[i].stamps[k]);
    check_arrival(seen);
}

template <Mistake mistake>
model::Result explore_drain(unsigned deaths) {
    return Explorer::explore(
        [](Explorer& explorer) {
            begin(explorer);
            std::memset(block, 0, sizeof block);
            explorer.name(&header.journal_count, "journal_count");
            explorer.name(&header.block[0].end, "block end");
            explorer.name(&header.commit_seq, "commit_seq");
            const unsigned application = explorer.process(true);
            const unsigned first = explorer.process(true);
            const unsigned second = explorer.process(true);
            const unsigned third = explorer.process(false);
            explorer.thread(application, [] { write(2, writing); });
            explorer.thread(first, [=] { drain<mistake>(application, 1); });
            explorer.thread(second, [=] {
                if (Explorer::now().wait_for_end(first)) drain<mistake>(application, 1);
            });
            explorer.thread(third, [=] {  // One daemon at a time: the lock of the directory.
                Explorer::now().wait_for_end(first);
                Explorer::now().wait_for_end(second);
                drain<mistake>(application, 0);
            });
            explorer.finally(check_spool);
        },
        {.deaths = deaths});
}

TEST_CASE(
    "drain and commit: nothing missing, nothing twice, with two daemons and the application dead") {
    const model::Result result = explore_drain<Mistake::none>(3);
    model::report("drain and commit", result);
    CHECK_MESSAGE(result.violation.empty(), result.violation, "\n", result.trace);
    CHECK(result.deaths > 1000);
}

TEST_CASE("drain and commit: the explorer finds a wrong order of the steps") {
    CHECK(explore_drain<Mistake::cursor_before_commit>(1).violation ==
          "a published record is missing");
    CHECK(!explore_drain<Mistake::count_before_extent>(1).violation.empty());
}

}  // namespace
