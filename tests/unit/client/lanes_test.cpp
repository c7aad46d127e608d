// Lanes seen from the client: full, growing, capped, drained, and beside a daemon that has gone
// mad.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"
#include "shm/segment_map.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <set>
#include <thread>

namespace oteld::test {
namespace {

Tracer test_tracer() { return tracer("test"); }

std::vector<std::uint64_t> lane_sizes(const Rings& rings) {
    std::vector<std::uint64_t> sizes;
    for (const ReadSegment& segment : rings.segments) sizes.push_back(segment.data_bytes);
    std::sort(sizes.begin(), sizes.end());
    return sizes;
}

// Opens every ring in the directory as the daemon does.
std::vector<std::unique_ptr<shm::SegmentMap>> open_rings(const std::string& path) {
    std::vector<std::unique_ptr<shm::SegmentMap>> maps;
    const shm::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    DIR* list = ::opendir(path.c_str());
    EXPECT(list != nullptr);
    while (const dirent* entry = ::readdir(list)) {
        if (std::strstr(entry->d_name, shm::ring_suffix) == nullptr) continue;
        auto map = shm::SegmentMap::open(fd.get(), entry->d_name, shm::SegmentAccess::drain);
        if (map) maps.push_back(std::move(*map));
    }
    ::closedir(list);
    return maps;
}

// Reads nothing, frees everything: all that a client notices of a daemon.
void free_lanes(const std::string& path) {
    for (const auto& map : open_rings(path)) {
        for (std::uint32_t i = 0; i < map->lane_count(); ++i) {
            const shm::LaneView lane = map->lane(i);
            if (lane.data == nullptr) continue;
            __atomic_store_n(&lane.daemon->read_cursor,
                             __atomic_load_n(&lane.producer->write_cursor, __ATOMIC_ACQUIRE),
                             __ATOMIC_RELEASE);
        }
    }
}

// A control page like the daemon's, with a sleeper to be woken.
void put_control_page(const std::string& directory, std::uint64_t process_bytes_max = 0) {
    static shm::ControlPage page;
    page = {};
    page.magic = shm::control_magic;
    page.major = shm::layout_major;
    page.header_bytes = sizeof page;
    page.generation = 1;
    page.sleeping = 1;
    for (shm::ControlContent& content : page.content) {
        content.enabled = 1;
        content.process_bytes_max = process_bytes_max;
    }
    const int fd =
        ::open((directory + "/control").c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0644);
    REQUIRE(fd >= 0);
    REQUIRE(::write(fd, &page, sizeof page) == static_cast<ssize_t>(sizeof page));
    ::close(fd);
}

}  // namespace

TEST_CASE(
    "a thread that overflows its lane moves to larger ones, and only at the last is a span "
    "dropped") {
    const Rings rings = in_child([] {
        for (int i = 0; i < 60000; ++i) (void)test_tracer().span("s", {{"i", i}});
        EXPECT(spans_dropped() > 0);
    });
    check_balance(rings);
    CHECK(lane_sizes(rings) == std::vector<std::uint64_t>{128 << 10, 512 << 10, 2 << 20});
    CHECK(rings.counted(shm::ProcessCounter::growths) == 2);
    CHECK(rings.dropped() == rings.dropped(shm::DropReason::ring_full));
    CHECK(rings.dropped() > 0);
    CHECK(rings.spans.size() * 96 > (2 << 20));
    // What was kept is what came first, with no hole.
    std::vector<bool> seen(60000);
    for (const ReadSpan& span : rings.spans) seen[std::stoul(span.at("i"))] = true;
    CHECK(std::find(seen.begin(), seen.end(), false) - seen.begin() ==
          static_cast<std::ptrdiff_t>(rings.spans.size()));
}

TEST_CASE("a span too large for its lane jumps to one that fits") {
    const Rings rings = in_child([] {
        auto span = test_tracer().span("large");
        span.set("text", std::string(900000, 'x'));
        span.end();
        (void)test_tracer().span("small");
    });
    check_balance(rings);
    CHECK(lane_sizes(rings) == std::vector<std::uint64_t>{128 << 10, 2 << 20});
    CHECK(rings.span("large").at("text").size() == 900002);
}

TEST_CASE("a lane that was left for a larger one serves the next thread") {
    const Rings rings = in_child([] {
        for (int t = 0; t < 6; ++t) {
            std::thread([] {
                for (int i = 0; i < 3000; ++i) (void)test_tracer().span("s");
            }).join();
        }
    });
    check_balance(rings);
    CHECK(rings.dropped() == 0);
    CHECK(rings.spans.size() == 18000);
}

TEST_CASE("a daemon that keeps up lets a lane run round for ever") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        (void)test_tracer().span("first");
        for (int round = 0; round < 50; ++round) {
            for (int i = 0; i < 400; ++i)
                (void)test_tracer().span("s", {{"text", std::string(round, 'x')}});
            free_lanes(directory.path());
        }
        EXPECT(force_flush(std::chrono::seconds(0)));
        EXPECT(spans_dropped() == 0);
    }).clean();
    const Rings rings = read_rings(directory.path());
    CHECK(rings.ended == 1 + 50 * 400);
    CHECK(rings.begun == rings.ended);
    CHECK(rings.segments.size() == 1);
    CHECK(rings.spans.empty());
}

TEST_CASE("flush says no while something is unread, and a signal gets through meanwhile") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        EXPECT(force_flush(std::chrono::seconds(0)));  // Nothing was recorded.
        (void)test_tracer().span("s");
        EXPECT(!force_flush(std::chrono::milliseconds(1)));
        static std::atomic<bool> alarmed{false};
        ::signal(SIGALRM, [](int) { alarmed = true; });
        ::alarm(1);
        std::thread daemon([&] {
            wait_until([] { return alarmed.load(); });
            free_lanes(directory.path());
        });
        // The alarm may reach either thread; this one blocks no signal while it waits.
        EXPECT(force_flush(std::chrono::hours(1)));
        daemon.join();
    }).clean();
}

TEST_CASE("a sleeping daemon is woken at the marks, an awake one never") {
    for (const std::uint32_t sleeping : {1U, 0U}) {
        const RingDirectory directory;
        put_control_page(directory.path());
        const int fd = ::open((directory.path() + "/control").c_str(), O_RDWR | O_CLOEXEC);
        REQUIRE(::pwrite(fd, &sleeping, sizeof sleeping, offsetof(shm::ControlPage, sleeping)) ==
                sizeof sleeping);
        ::close(fd);
        run_child(directory.path(), [] {
            for (int i = 0; i < 1500; ++i)
                (void)test_tracer().span("s");  // Between three quarters and all of 128 KiB.
        }).clean();
        const Rings rings = read_rings(directory.path());
        check_balance(rings);
        CHECK(rings.segments.size() == 1);
        CHECK(rings.counted(shm::ProcessCounter::bells) == (sleeping != 0 ? 2 : 0));
    }
}

TEST_CASE("a daemon that came later is woken too") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        (void)test_tracer().span("before the daemon");
        put_control_page(directory.path());
        for (int i = 0; i < 1500; ++i) (void)test_tracer().span("s");
    }).clean();
    CHECK(read_rings(directory.path()).counted(shm::ProcessCounter::bells) == 2);
}

TEST_CASE(
    "a control page that is a link, too short, of another layout or of another user is not taken") {
    for (const char* fault : {"link", "short", "magic", "major"}) {
        CAPTURE(fault);
        const RingDirectory directory;
        put_control_page(directory.path());
        const std::string path = directory.path() + "/control";
        if (std::string_view(fault) == "link") {
            REQUIRE(::rename(path.c_str(), (directory.path() + "/elsewhere").c_str()) == 0);
            REQUIRE(::symlink("elsewhere", path.c_str()) == 0);
        } else if (std::string_view(fault) == "short") {
            REQUIRE(::truncate(path.c_str(), 4096) == 0);
        } else {
            const std::uint64_t wrong = 99;
            const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
            const bool magic = std::string_view(fault) == "magic";
            REQUIRE(::pwrite(fd, &wrong, magic ? 8 : 2, magic ? 0 : 8) == (magic ? 8 : 2));
            ::close(fd);
        }
        run_child(directory.path(), [] {
            for (int i = 0; i < 1500; ++i) (void)test_tracer().span("s");
        }).clean();
        const Rings rings = read_rings(directory.path());
        check_balance(rings);
        CHECK(rings.counted(shm::ProcessCounter::bells) == 0);
    }
}

TEST_CASE(
    "many threads and a daemon that scribbles over every page it may write: nothing crashes, hangs "
    "or strays") {
    const RingDirectory directory;
    put_control_page(directory.path());
    run_child(directory.path(), [&] {
        constexpr int threads = 4;
        constexpr int spans_each = 20000;
        std::atomic<bool> stop{false};
        std::thread scribbler([&] {
            std::uint64_t state = 88172645463325252ULL;
            const auto random = [&] {
                state ^= state << 13;
                state ^= state >> 7;
                return state ^= state << 17;
            };
            const int fd = ::open((directory.path() + "/control").c_str(), O_RDWR | O_CLOEXEC);
            void* control = ::mmap(nullptr, sizeof(shm::ControlPage), PROT_READ | PROT_WRITE,
                                   MAP_SHARED, fd, 0);
            EXPECT(control != MAP_FAILED);
            const auto scribble = [&](void* at, std::uint64_t words) {
                auto* word = static_cast<std::uint64_t*>(at) + random() % words;
                __atomic_store_n(word, random() % 3 == 0 ? random() : random() % 4096,
                                 __ATOMIC_RELAXED);
            };
            while (!stop) {
                for (const auto& map : open_rings(directory.path())) {
                    for (int i = 0; i < 2000; ++i) {
                        if (random() % 8 == 0)
                            scribble(map->daemon(), sizeof(shm::DaemonSegment) / 8);
                        // Mostly not retired, or nothing would be recorded for long.
                        if (random() % 4 != 0)
                            __atomic_store_n(&map->daemon()->retired, 0U, __ATOMIC_RELAXED);
                        const shm::LaneView lane =
                            map->lane(static_cast<std::uint32_t>(random() % map->lane_count()));
                        scribble(lane.daemon, 5);
                        if (random() % 4 == 0 && lane.data != nullptr) {
                            const std::uint64_t written =
                                __atomic_load_n(&lane.producer->write_cursor, __ATOMIC_RELAXED);
                            __atomic_store_n(&lane.daemon->read_cursor, written, __ATOMIC_RELAXED);
                        }
                        scribble(control, sizeof(shm::ControlPage) / 8);
                    }
                }
            }
        });
        std::vector<std::thread> writers;
        writers.reserve(threads);
        for (int t = 0; t < threads; ++t) {
            writers.emplace_back([] {
                std::vector<Span> held;
                for (int i = 0; i < spans_each; ++i) {
                    auto span = test_tracer().span("s", {{"i", i}});
                    span.set("text", std::string(static_cast<std::size_t>(i % 700), 'x'));
                    if (i % 8 == 0) held.push_back(std::move(span));
                    if (held.size() > 100) held.clear();
                }
            });
        }
        for (std::thread& writer : writers) writer.join();
        (void)force_flush(std::chrono::milliseconds(1));
        (void)spans_dropped();
        stop = true;
        scribbler.join();
        // The scribbler left nonsense in the cursors; the reader of this test is the daemon's and
        // refuses it.
    }).clean();
}

TEST_CASE("a process keeps to the daemon's cap where that is smaller than its own") {
    const RingDirectory directory;
    put_control_page(directory.path(), 1 << 20);
    run_child(directory.path(), [] {
        for (int i = 0; i < 60000; ++i) (void)test_tracer().span("s");
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.counted(shm::ProcessCounter::growth_refused) > 0);
    std::uint64_t bytes = 0;
    for (const auto& map : open_rings(directory.path())) bytes += map->file_bytes();
    CHECK(bytes <= 1 << 20);
}

TEST_CASE(
    "a thread whose segment the daemon took for dead counts its orphan in another, and records "
    "on") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        auto span = test_tracer().span("late");
        auto open = test_tracer().span("open over it");
        for (const auto& map : open_rings(directory.path())) map->daemon()->retired = 1;
        span.end();
        (void)test_tracer().span("after");
        EXPECT(directory.rings() == 2);
        open.end();
        EXPECT(spans_dropped() == 2);
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 1);
    CHECK(rings.span("after").parent_id.empty());
    CHECK(rings.begun == 3);
    CHECK(rings.dropped(shm::DropReason::orphaned) == 2);
    CHECK(rings.counted(shm::ProcessCounter::growths) == 1);
}

TEST_CASE("a span from elsewhere does not end in a lane that nobody reads any more") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        (void)test_tracer().span("in the first segment");
        Span elsewhere;
        std::thread holds_the_second_lane([&] {
            (void)test_tracer().span("in the first segment");
            std::thread([&] { elsewhere = test_tracer().span("elsewhere"); }).join();
        });
        holds_the_second_lane.join();
        for (const auto& map : open_rings(directory.path()))
            if (map->header().segment_index == 0) map->daemon()->retired = 1;
        elsewhere.end();
        EXPECT(spans_dropped() == 0);
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 1);
    CHECK(rings.spans.at(0).name == "elsewhere");
}

// Writes into the liveness word of each lane: what the daemon's group can do, and should not.
void write_lock_words(const std::string& directory, std::uint32_t value) {
    for (const auto& map : open_rings(directory)) {
        const int fd = ::open((directory + "/" + map->name()).c_str(), O_RDWR | O_CLOEXEC);
        const shm::SegmentHeader& header = map->header();
        for (std::uint32_t i = 0; i < header.lane_count; ++i) {
            const auto at = static_cast<off_t>(header.lanes_offset + i * header.lane_stride +
                                               header.producer_offset + header.lock_offset);
            EXPECT(::pwrite(fd, &value, sizeof value, at) == sizeof value);
        }
        ::close(fd);
    }
}

TEST_CASE(
    "a lane whose liveness word was written into is not used again, and libc's list stays whole") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        pthread_mutexattr_t robust;
        pthread_mutexattr_init(&robust);
        pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_t first, last;
        pthread_mutex_init(&first, &robust);
        pthread_mutex_init(&last, &robust);
        for (const std::uint32_t word : {0U, 12345U, 0x40000000U}) {
            std::thread([&] {
                pthread_mutex_lock(&first);
                EXPECT(test_tracer().span("before").recording());
                pthread_mutex_lock(&last);
                write_lock_words(directory.path(), word);
            }).join();
            // Both of the program's own mutexes say that their owner died: the kernel went through.
            for (pthread_mutex_t* one : {&first, &last}) {
                EXPECT(pthread_mutex_lock(one) == EOWNERDEAD);
                EXPECT(pthread_mutex_consistent(one) == 0);
                EXPECT(pthread_mutex_unlock(one) == 0);
            }
            for (int i = 0; i < 3; ++i)
                std::thread([] { EXPECT(test_tracer().span("after").recording()); }).join();
        }
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 12);
}

TEST_CASE("hundreds of threads have a lane each, all at the same time") {
    const Rings rings = in_child([] {
        constexpr int threads = sanitized ? 100 : 500;
        std::atomic<int> done{0};
        std::atomic<bool> leave{false};
        std::vector<std::thread> all;
        all.reserve(threads);
        for (int t = 0; t < threads; ++t) {
            all.emplace_back([&] {
                (void)test_tracer().span("s");
                ++done;
                while (!leave) std::this_thread::yield();
            });
        }
        wait_until([&] { return done == threads; });
        leave = true;
        for (std::thread& thread : all) thread.join();
    });
    check_balance(rings);
    CHECK(rings.spans.size() == (sanitized ? 100 : 500));
}

}  // namespace oteld::test
