// A producer that lies, while it is drained and before: cursors, lengths, geometry, random bytes,
// files that shrink, grow and do both under the reader.
//
//   hostile_producer SEED TURNS
//
// In each turn every kind of lie gets a file of its own in $OTELD_DIR, as of a process of its own.
// A line for each, {"file": ..., "kind": ..., "expect": ...}, says what the daemon has to make of
// it: "quarantined", "refused", or "sound" (drained to its end, whatever was in it). Then
// {"cut_while_drained": N}, how many files were cut behind a cursor that the daemon had moved that
// far and not to its end, and it waits for the end of its input. All its files are alive until
// then, and of a dead process afterwards. Exit code 1: the daemon did not come to an end with one
// of them within two minutes.

#include "shm/segment_map.hpp"
#include "unit/daemon/fake_segment.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace oteld;
using test::FakeSegment;
using Dice = std::mt19937_64;
using Clock = std::chrono::steady_clock;

constexpr auto patience = std::chrono::minutes(2);

template <class Condition>
bool wait_for(Condition condition) {
    const auto deadline = Clock::now() + patience;
    while (!condition()) {
        if (Clock::now() >= deadline) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
}

[[noreturn]] void fail(const FakeSegment& segment, const char* what) {
    std::fprintf(stderr, "hostile_producer: %s: %s\n", segment.name.c_str(), what);
    std::exit(1);
}

std::uint64_t load(const std::uint64_t& word) { return __atomic_load_n(&word, __ATOMIC_ACQUIRE); }

class Liar {
public:
    Liar(int directory, Dice& dice) : directory_(directory), dice_(dice) {}

    void turn() {
        cursors();
        lengths();
        bytes();
        geometry_before();
        geometry_under_the_reader();
        future();
        truncation();
        truncation_while_drained();
        shrink_and_grow();
        growth();
    }
    void die() {
        // By write(): the mappings of some are gone.
        for (const auto& segment : segments_)
            for (std::uint32_t i = 0; i < segment->header.lane_count; ++i)
                (void)::pwrite(segment->fd, &shm::lock_owner_died, sizeof shm::lock_owner_died,
                               static_cast<off_t>(offset_of(*segment, segment->lock_word(i))));
    }
    [[nodiscard]] unsigned cut_while_drained() const { return cut_while_drained_; }

private:
    // Made under another name: what the daemon finds under a ring's name is complete.
    FakeSegment& make(FakeSegment::Shape shape = {}) {
        char name[40];
        std::snprintf(name, sizeof name, "%016lx%016lx", dice_(), dice_());
        const std::uint64_t process[2] = {dice_(), dice_()};
        const auto change = shape.change;
        shape.change = [&](shm::SegmentHeader& header) {
            std::memcpy(header.process_id, process, sizeof header.process_id);
            header.pid = static_cast<std::uint32_t>(1'000'000 + segments_.size());
            if (change) change(header);
        };
        segments_.push_back(
            std::make_unique<FakeSegment>(directory_, std::string(name) + ".part", shape));
        FakeSegment& segment = *segments_.back();
        // Where a file is cut the lanes' words are gone, and this is what shows that it has an
        // owner.
        struct flock lock {};
        lock.l_type = F_WRLCK;
        lock.l_whence = SEEK_SET;
        if (::fcntl(segment.fd, F_SETLK, &lock) != 0) fail(segment, "cannot be locked");
        return segment;
    }
    // The daemon has it mapped, and will not look at its header again.
    FakeSegment& drained_once() {
        FakeSegment& segment = publish(make());
        put(segment, 20);
        wait_until_drained(segment);
        return segment;
    }
    FakeSegment& publish(FakeSegment& segment) {
        const std::string part = std::exchange(
            segment.name, segment.name.substr(0, segment.name.size() - 5) + shm::ring_suffix);
        if (::renameat(directory_, part.c_str(), directory_, segment.name.c_str()) != 0)
            fail(segment, "cannot be renamed");
        return segment;
    }
    static void say(const FakeSegment& segment, const char* kind, const char* expect) {
        std::printf("{\"file\": \"%s\", \"kind\": \"%s\", \"expect\": \"%s\"}\n",
                    segment.name.c_str(), kind, expect);
    }
    void put(FakeSegment& segment, unsigned spans) {
        for (unsigned i = 0; i < spans; ++i)
            segment.put(static_cast<std::uint32_t>(dice_() % segment.header.lane_count),
                        test::numbered(dice_()));
    }
    static bool drained(FakeSegment& segment) {
        for (std::uint32_t i = 0; i < segment.header.lane_count; ++i)
            if (load(segment.daemon_lane(i)->read_cursor) !=
                load(segment.producer(i)->write_cursor))
                return false;
        return true;
    }
    static void wait_until_drained(FakeSegment& segment) {
        if (!wait_for([&] { return drained(segment); })) fail(segment, "is not drained");
    }
    static std::uint64_t offset_of(const FakeSegment& segment, const void* at) {
        return static_cast<std::uint64_t>(static_cast<const std::uint8_t*>(at) - segment.memory);
    }
    // A number that is nearly right, or not at all.
    std::uint64_t near(std::uint64_t value) {
        switch (dice_() % 4) {
            case 0: return dice_();
            case 1: return value ^ 1ULL << dice_() % 64;
            case 2: return value - 8 - dice_() % 65536;
            default: return value + dice_() % (1U << 24);
        }
    }
    std::uint8_t* random_place(FakeSegment& segment, std::uint64_t from, std::uint64_t to) {
        return segment.memory + from + dice_() % (to - from);
    }

    void cursors() {
        FakeSegment& segment = drained_once();
        const auto lane = static_cast<std::uint32_t>(dice_() % segment.header.lane_count);
        do {
            std::uint64_t& cursor = segment.producer(lane)->write_cursor;
            __atomic_store_n(&cursor, near(load(cursor)), __ATOMIC_RELEASE);
            std::this_thread::sleep_for(std::chrono::microseconds(dice_() % 3000));
        } while (__atomic_load_n(&segment.daemon()->quarantined, __ATOMIC_ACQUIRE) == 0);
        say(segment, "cursors", "quarantined");
    }

    // Prefixes are written over behind the reader's back and before its eyes.
    void lengths() {
        FakeSegment& segment = drained_once();
        for (int i = 0; i < 300; ++i) {
            put(segment, 1 + static_cast<unsigned>(dice_() % 5));
            for (int n = 0; n < 20; ++n) {
                std::uint8_t* lane = segment.data(0);
                auto* length = reinterpret_cast<std::uint32_t*>(
                    lane + dice_() % (segment.header.data_bytes / 8) * 8);
                __atomic_store_n(length, static_cast<std::uint32_t>(near(*length)),
                                 __ATOMIC_RELAXED);
            }
            if (i % 16 == 0) wait_until_drained(segment);
        }
        wait_until_drained(segment);
        say(segment, "lengths", "sound");
    }

    // Records, slots, tables, counters; not the cursors and not the words of the living.
    void bytes() {
        FakeSegment& segment = drained_once();
        for (int i = 0; i < 300; ++i) {
            put(segment, 1 + static_cast<unsigned>(dice_() % 5));
            for (int n = 0; n < 50; ++n) {
                const shm::SegmentHeader& header = segment.header;
                const std::uint64_t lane = offset_of(
                    segment, segment.lane(static_cast<std::uint32_t>(dice_() % header.lane_count)));
                std::uint8_t* at =
                    dice_() % 4 == 0 ? random_place(segment, header.tables_offset,
                                                    header.tables_offset + header.tables_bytes)
                    : dice_() % 4 == 0
                        ? random_place(segment, lane + header.producer_offset + 64,
                                       lane + header.producer_offset + header.lock_offset)
                        : random_place(segment, lane, lane + header.producer_offset);
                __atomic_store_n(at, static_cast<std::uint8_t>(dice_()), __ATOMIC_RELAXED);
            }
            if (i % 16 == 0) wait_until_drained(segment);
        }
        wait_until_drained(segment);
        say(segment, "bytes", "sound");
    }

    // Until one contradicts itself: not every damage does.
    void geometry_before() {
        const shm::SegmentHeader good = FakeSegment::shape_header({});
        shm::SegmentHeader bad = good;
        while (shm::geometry_fault(bad, good.file_bytes) == nullptr) {
            bad = good;
            for (int i = 0; i < 2; ++i)
                reinterpret_cast<std::uint8_t*>(&bad)[16 + dice_() % 120] =
                    static_cast<std::uint8_t>(dice_());
        }
        FakeSegment& segment = make();
        std::memcpy(segment.memory + 16, reinterpret_cast<std::uint8_t*>(&bad) + 16, 120);
        say(publish(segment), "geometry, before", "refused");
    }

    void geometry_under_the_reader() {
        FakeSegment& segment = drained_once();
        for (int i = 0; i < 100; ++i) {
            put(segment, 3);
            for (int n = 0; n < 50; ++n)
                *random_place(segment, 0, sizeof(shm::SegmentHeader)) =
                    static_cast<std::uint8_t>(dice_());
            if (i % 16 == 0) wait_until_drained(segment);
        }
        wait_until_drained(segment);
        say(segment, "geometry, under the reader", "sound");
    }

    void future() {
        FakeSegment::Shape shape;
        shape.change = [this](shm::SegmentHeader& header) {
            header.major = static_cast<std::uint16_t>(2 + dice_() % 1000);
        };
        say(publish(make(shape)), "a layout of the future", "refused");
    }

    // The lanes are gone, or the daemon's pages as well, or all of it.
    void truncation() {
        FakeSegment& segment = drained_once();
        const std::uint64_t ends[] = {segment.header.lanes_offset, segment.header.daemon_offset,
                                      4096, 0};
        cut(segment, ends[dice_() % 4]);
        say(segment, "truncation", "quarantined");
    }

    // A lane so large that it is drained in many steps: between two of them what is left is cut
    // off.
    void truncation_while_drained() {
        FakeSegment::Shape shape;
        shape.lanes = 1;
        shape.data_bytes = shm::lane_data_bytes_max;
        FakeSegment& segment = make(shape);
        const std::string record = test::numbered(1).bytes();
        while (segment.producer(0)->write_cursor + 2 * record.size() < segment.header.data_bytes)
            segment.put(0, test::numbered(dice_()));
        const std::uint64_t written = segment.producer(0)->write_cursor;
        const shm::DaemonLane* lane = segment.daemon_lane(0);
        publish(segment);
        const auto deadline = Clock::now() + patience;
        while (load(lane->read_cursor) == 0 && Clock::now() < deadline) continue;
        const std::uint64_t at = load(lane->read_cursor);
        cut(segment, offset_of(segment, segment.data(0)) + (at + 4096) / 4096 * 4096);
        if (at != 0 && at < written / 2) ++cut_while_drained_;
        say(segment, "truncation, while drained", "quarantined");
    }

    // The daemon may meet the hole or the zeroes behind it. In the end it meets a hole.
    void shrink_and_grow() {
        FakeSegment& segment = drained_once();
        const std::string image(reinterpret_cast<const char*>(segment.memory),
                                segment.header.file_bytes);
        for (int i = 0; i < 200; ++i) {
            cut(segment, dice_() % segment.header.file_bytes);
            std::this_thread::sleep_for(std::chrono::microseconds(dice_() % 500));
            if (::pwrite(segment.fd, image.data(), image.size(), 0) < 0) fail(segment, "pwrite");
        }
        cut(segment, segment.header.lanes_offset);
        say(segment, "shrinking and growing", "quarantined");
    }

    // Larger than it said, and larger all the time: what is behind its end is nobody's concern.
    void growth() {
        FakeSegment& segment = drained_once();
        std::uint64_t size = segment.header.file_bytes;
        for (int i = 0; i < 100; ++i) {
            put(segment, 3);
            if (::ftruncate(segment.fd, static_cast<off_t>(size += dice_() % 65536)) != 0)
                fail(segment, "ftruncate");
            if (i % 16 == 0) wait_until_drained(segment);
        }
        wait_until_drained(segment);
        say(segment, "growth", "sound");
    }

    static void cut(const FakeSegment& segment, std::uint64_t size) {
        if (::ftruncate(segment.fd, static_cast<off_t>(size)) != 0) fail(segment, "ftruncate");
    }

    int directory_;
    Dice& dice_;
    std::vector<std::unique_ptr<FakeSegment>> segments_;
    unsigned cut_while_drained_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    const char* path = std::getenv("OTELD_DIR");
    const int directory = path == nullptr ? -1 : ::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (argc != 3 || directory < 0) {
        std::fprintf(stderr, "hostile_producer SEED TURNS, with OTELD_DIR set\n");
        return 1;
    }
    Dice dice(std::strtoull(argv[1], nullptr, 10));
    Liar liar(directory, dice);
    for (unsigned turns = std::strtoul(argv[2], nullptr, 10); turns > 0; --turns) liar.turn();
    std::printf("{\"cut_while_drained\": %u}\n", liar.cut_while_drained());
    std::fflush(stdout);
    while (std::getchar() != EOF) continue;
    liar.die();
}
