// What an operating system can put in a client's way: each is survived, and said once where there
// is something to say.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"
#include "shm/segment_map.hpp"

#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fstream>
#include <thread>

namespace oteld::test {
namespace {

Tracer test_tracer() { return tracer("test"); }

bool root() { return ::geteuid() == 0; }

// True when this is to be skipped, after saying so in the words that the summary counts.
bool skipped(bool possible, const char* reason) {
    if (!possible) MESSAGE("not run: ", std::string(reason));
    return !possible;
}

// Whether a private mount namespace is to be had here.
bool can_mount() {
    static const bool can = [] {
        const RingDirectory directory;
        return run_child(directory.path(), [] {
                   if (::unshare(CLONE_NEWNS) != 0 ||
                       ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
                       ::mount("tmpfs", "/mnt", "tmpfs", 0, nullptr) != 0) {
                       ::_exit(1);
                   }
               }).status == 0;
    }();
    return can;
}

void enter_mount_namespace() {
    EXPECT(::unshare(CLONE_NEWNS) == 0);
    EXPECT(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
}

void mount_tmpfs(const std::string& path, const char* options) {
    EXPECT(::mount("tmpfs", path.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, options) == 0);
}

void write_file(const std::string& path, const std::string& text) {
    std::ofstream file(path);
    file << text;
    file.close();
    EXPECT(file.good());
}

}  // namespace

TEST_CASE(
    "without a ring directory nothing happens, and one that appears is found about a second "
    "later") {
    const RingDirectory outer;
    const std::string path = outer.path() + "/later";
    const Child child = run_child(path, [&] {
        auto scope = test_tracer().scope("early");
        EXPECT(!scope.recording());
        EXPECT(!scope.context().valid());
        scope.set("a", 1).event("e").end();
        EXPECT(::mkdir(path.c_str(), 0700) == 0);
        wait_until([] { return test_tracer().span("probe").recording(); });
        (void)test_tracer().span("late");
    });
    child.clean();
    CHECK(child.text.empty());
    const Rings rings = read_rings(path);
    check_balance(rings);
    CHECK(rings.spans.size() == 2);
    CHECK(rings.span("late").kind == 1);
}

TEST_CASE("an unsampled context still passes through a client that cannot record") {
    const RingDirectory outer;
    run_child(outer.path() + "/missing", [] {
        const std::uint8_t trace[16] = {1};
        const std::uint8_t id[8] = {2};
        const SpanContext remote(trace, id, 1, true, "a=b");
        const auto scope = attach(remote);
        auto span = test_tracer().scope("s");
        EXPECT(!span.recording());
        EXPECT(span.context().span_id_hex() == remote.span_id_hex());
        EXPECT(current_span().trace_state() == "a=b");
    }).clean();
}

TEST_CASE("without permission nothing is recorded, and that is said once") {
    if (skipped(root(), "dropping privileges needs root")) return;
    const RingDirectory directory;
    const Child child = run_child(directory.path(), [] {
        EXPECT(::setresgid(65534, 65534, 65534) == 0);
        EXPECT(::setresuid(65534, 65534, 65534) == 0);
        for (int i = 0; i < 100; ++i) EXPECT(!test_tracer().span("s").recording());
        std::thread([] { EXPECT(!test_tracer().span("s").recording()); }).join();
    });
    child.clean();
    CHECK(child.said("no permission"));
    CHECK(child.text.find("no permission") == child.text.rfind("no permission"));
    CHECK(directory.files() == 0);
}

TEST_CASE("another user in a shared directory records into a file of its own") {
    if (skipped(root(), "dropping privileges needs root")) return;
    const RingDirectory directory;
    REQUIRE(::chmod(directory.path().c_str(), 03777) == 0);
    run_child(directory.path(), [] {
        EXPECT(::setresgid(65534, 65534, 65534) == 0);
        EXPECT(::setresuid(65534, 65534, 65534) == 0);
        (void)test_tracer().span("of nobody");
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    struct stat info {};
    REQUIRE(::stat((directory.path() + "/" + rings.segments.at(0).file).c_str(), &info) == 0);
    CHECK(info.st_uid == 65534);
    CHECK(info.st_gid == ::getegid());  // The directory's group, so that its daemon may drain it.
    CHECK((info.st_mode & 0777) == 0660);
}

TEST_CASE("a file-size limit below a ring turns recording off without a signal") {
    const RingDirectory directory;
    const Child child = run_child(directory.path(), [] {
        const rlimit limit{64 << 10, 64 << 10};
        EXPECT(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
        EXPECT(!test_tracer().span("s").recording());
    });
    child.clean();
    CHECK(child.said("RLIMIT_FSIZE"));
    CHECK(directory.files() == 0);
}

TEST_CASE("a file-size limit above a ring but below a larger lane only stops growth") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        const rlimit limit{500 << 10, 500 << 10};
        EXPECT(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
        for (int i = 0; i < 3000; ++i) (void)test_tracer().span("s");
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.segments.size() == 1);
    CHECK(rings.counted(shm::ProcessCounter::growth_refused) > 0);
    CHECK(rings.dropped(shm::DropReason::ring_full) > 0);
}

TEST_CASE("a full tmpfs turns recording off, says so, and leaves no file") {
    if (skipped(can_mount(), "mounting needs root and a mount namespace")) return;
    const RingDirectory directory;
    const Child child = run_child(directory.path(), [&] {
        enter_mount_namespace();
        mount_tmpfs(directory.path(), "size=256k");
        EXPECT(!test_tracer().span("s").recording());
        EXPECT(directory.files() == 0);
        EXPECT(::mount(nullptr, directory.path().c_str(), nullptr, MS_REMOUNT, "size=4m") == 0);
        wait_until([] { return test_tracer().span("probe").recording(); });
    });
    child.clean();
    CHECK(child.said("full"));
}

TEST_CASE("a tmpfs that fills up later only stops growth, and the process lives") {
    if (skipped(can_mount(), "mounting needs root and a mount namespace")) return;
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        enter_mount_namespace();
        mount_tmpfs(directory.path(), "size=600k");
        for (int i = 0; i < 3000; ++i) (void)test_tracer().span("s");
        const Rings rings = read_rings(directory.path());
        EXPECT(rings.malformed == 0);
        EXPECT(rings.begun == 3000);
        EXPECT(rings.begun == rings.spans.size() + rings.dropped());
        EXPECT(rings.counted(shm::ProcessCounter::growth_refused) > 0);
    }).clean();
}

TEST_CASE("on a full tmpfs what begins on threads without a lane is counted, span by span") {
    if (skipped(can_mount(), "mounting needs root and a mount namespace")) return;
    constexpr int threads = 40;
    constexpr int spans_each = 10;
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        enter_mount_namespace();
        mount_tmpfs(directory.path(), "size=3m");
        (void)test_tracer().span("first");  // With a ring there is something to count in.
        std::atomic<int> done{0};
        std::atomic<bool> leave{false};
        std::vector<std::thread> all;
        all.reserve(threads);
        for (int t = 0; t < threads; ++t) {
            all.emplace_back([&, t] {
                // Scopes that are new to a process whose lanes are taken, and known ones.
                const Tracer own = tracer(t % 2 == 0 ? "test" : "test " + std::to_string(t));
                for (int i = 0; i < spans_each; ++i) (void)own.span("s");
                ++done;
                while (!leave) std::this_thread::yield();
            });
        }
        wait_until([&] { return done == threads; });
        const Rings rings = read_rings(directory.path());
        EXPECT(rings.begun == 1 + threads * spans_each);
        EXPECT(rings.begun == rings.spans.size() + rings.dropped());
        EXPECT(rings.counted(shm::ProcessCounter::begun_no_lane) > 0);
        EXPECT(rings.counted(shm::ProcessCounter::growth_refused) > 0);
        leave = true;
        for (std::thread& thread : all) thread.join();
        // The last refusal is not a second old, but lanes are free by now.
        std::thread([] { EXPECT(test_tracer().span("after").recording()); }).join();
    }).clean();
}

TEST_CASE(
    "dead rings make room for a living program when more than half is taken, and their loss is "
    "counted") {
    if (skipped(can_mount(), "mounting needs root and a mount namespace")) return;
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        enter_mount_namespace();
        mount_tmpfs(directory.path(), "size=1m");
        for (int i = 0; i < 4; ++i) {
            run_child(directory.path(), [] {
                for (int s = 0; s < 10; ++s) (void)test_tracer().span("old");
            }).clean();
        }
        // One fits beside what stays free; each later one removed the oldest, and counts for those
        // that it had removed too.
        const Rings rings = read_rings(directory.path());
        EXPECT(rings.segments.size() <= 2);
        EXPECT(rings.counted(shm::ProcessCounter::reclaimed_files) >= 1);
        EXPECT(rings.counted(shm::ProcessCounter::reclaimed_spans) + rings.spans.size() == 40);
        // A process with no lane held does not take its own for dead.
        run_child(directory.path(), [] {
            std::thread([] { (void)test_tracer().span("first"); }).join();
            for (int i = 0; i < 1500; ++i) (void)test_tracer().span("more");
            EXPECT(spans_dropped() + 1501 >= 1501);
        }).clean();
        bool found = false;
        for (const ReadSpan& span : read_rings(directory.path()).spans)
            found |= span.name == "first";
        EXPECT(found);
    }).clean();
}

// A control page whose daemon's heart beats now.
void put_living_daemon(const std::string& directory, std::uint64_t generation) {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    static shm::ControlPage page;
    page.magic = shm::control_magic;
    page.major = shm::layout_major;
    page.generation = generation;
    page.heartbeat_monotonic_ns = static_cast<std::uint64_t>(now.tv_sec) * 1000000000U +
                                  static_cast<std::uint64_t>(now.tv_nsec);
    page.content[0].enabled = page.content[1].enabled = 1;
    write_file(directory + "/control",
               std::string(reinterpret_cast<const char*>(&page), sizeof page));
}

TEST_CASE("dead rings that a living daemon has mapped are left to it, however full it is") {
    if (skipped(can_mount(), "mounting needs root and a mount namespace")) return;
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        enter_mount_namespace();
        mount_tmpfs(directory.path(), "size=2m");
        const auto record = [&](const char* name) {
            run_child(directory.path(), [name] { (void)test_tracer().span(name); }).clean();
        };
        record("mapped");
        const std::string file = read_rings(directory.path()).segments.at(0).file;
        const shm::UniqueFd fd(::open(directory.path().c_str(), O_RDONLY | O_DIRECTORY));
        const auto map = shm::SegmentMap::open(fd.get(), file, shm::SegmentAccess::drain);
        EXPECT(map);
        (*map)->daemon()->control_generation = 5;
        put_living_daemon(directory.path(), 5);
        for (int i = 0; i < 4; ++i) record("not mapped");
        const Rings rings = read_rings(directory.path());
        EXPECT(rings.counted(shm::ProcessCounter::reclaimed_files) > 0);
        EXPECT(rings.span("mapped").kind == 1);
    }).clean();
}

TEST_CASE("while a daemon lives no ring is removed until the room is needed") {
    if (skipped(can_mount(), "mounting needs root and a mount namespace")) return;
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        enter_mount_namespace();
        mount_tmpfs(directory.path(), "size=16m");
        write_file(directory.path() + "/ballast", std::string(9 << 20, 'x'));
        put_living_daemon(directory.path(), 5);
        // One right after the other: the daemon has mapped none of them yet.
        for (int i = 0; i < 4; ++i)
            run_child(directory.path(), [] { (void)test_tracer().span("short"); }).clean();
        const Rings rings = read_rings(directory.path());
        EXPECT(rings.counted(shm::ProcessCounter::reclaimed_files) == 0);
        EXPECT(rings.spans.size() == 4);
    }).clean();
}

TEST_CASE("rings leave room for a daemon, and none is removed for a ring that is not made") {
    if (skipped(can_mount(), "mounting needs root and a mount namespace")) return;
    const RingDirectory directory;
    const Child child = run_child(directory.path(), [&] {
        enter_mount_namespace();
        mount_tmpfs(directory.path(), "size=1m");
        run_child(directory.path(), [] { (void)test_tracer().span("old"); }).clean();
        write_file(directory.path() + "/ballast", std::string(600 << 10, 'x'));
        EXPECT(!test_tracer().span("s").recording());
        EXPECT(read_rings(directory.path()).span("old").kind == 1);
        EXPECT(::unlink((directory.path() + "/ballast").c_str()) == 0);
        wait_until([] { return test_tracer().span("probe").recording(); });
        struct statfs space {};
        EXPECT(::statfs(directory.path().c_str(), &space) == 0);
        EXPECT(space.f_bavail * static_cast<std::uint64_t>(space.f_bsize) >= 256 << 10);
    });
    child.clean();
    CHECK(child.said("full"));
}

TEST_CASE(
    "a memory limit makes rings small, and one that is nearly reached makes none (cgroup v2 and "
    "v1)") {
    if (skipped(can_mount(), "mounting needs root and a mount namespace")) return;
    struct Case {
        const char* groups;
        const char* folder;
        const char* limit;
        const char* used;
    };
    const Case cases[] = {
        {"0::/app/inner\n", "/sys/fs/cgroup/app/inner", "memory.max", "memory.current"},
        {"4:memory:/app/inner\n0::/\n", "/sys/fs/cgroup/memory/app/inner", "memory.limit_in_bytes",
         "memory.usage_in_bytes"},
    };
    for (const Case& one : cases) {
        for (const bool nearly_full : {false, true}) {
            // The limit is the group's own, or its parent's.
            for (const bool parents : {false, true}) {
                CAPTURE(one.folder);
                CAPTURE(nearly_full);
                CAPTURE(parents);
                const RingDirectory directory;
                const Child child = run_child(directory.path(), [&] {
                    enter_mount_namespace();
                    mount_tmpfs("/sys/fs/cgroup", "");
                    std::string folder = "/sys/fs/cgroup";
                    const std::string rest =
                        std::string(one.folder).substr(folder.size() + 1) + '/';
                    for (std::size_t at = 0, next = 0; (next = rest.find('/', at)) != rest.npos;
                         at = next + 1) {
                        folder += '/' + rest.substr(at, next - at);
                        EXPECT(::mkdir(folder.c_str(), 0700) == 0);
                    }
                    const std::string limited =
                        parents ? folder.substr(0, folder.rfind('/')) : folder;
                    write_file(limited + "/" + one.limit, "8388608\n");
                    write_file(limited + "/" + one.used, nearly_full ? "8300000\n" : "1000000\n");
                    if (parents) {
                        const bool second = std::string_view(one.limit) == "memory.max";
                        write_file(folder + "/" + one.limit,
                                   second ? "max\n" : "9223372036854771712\n");
                        write_file(folder + "/" + one.used, "500000\n");
                    }
                    write_file("/sys/fs/cgroup/groups", one.groups);
                    EXPECT(::mount("/sys/fs/cgroup/groups", "/proc/self/cgroup", nullptr, MS_BIND,
                                   nullptr) == 0);
                    for (int i = 0; i < 5000; ++i)
                        EXPECT(test_tracer().span("s").recording() == !nearly_full);
                });
                child.clean();
                if (nearly_full) {
                    CHECK(child.said("memory limit"));
                    CHECK(directory.files() == 0);
                    continue;
                }
                const Rings rings = read_rings(directory.path());
                check_balance(rings);
                std::uint64_t bytes = 0;
                for (const ReadSegment& segment : rings.segments) {
                    struct stat info {};
                    REQUIRE(::stat((directory.path() + "/" + segment.file).c_str(), &info) == 0);
                    bytes += static_cast<std::uint64_t>(info.st_size);
                }
                CHECK(bytes <= 8388608 / 16);
                CHECK(rings.spans.size() > 100);
            }
        }
    }
}

TEST_CASE("without /proc a ring is made under a temporary name and renamed") {
    if (skipped(can_mount(), "mounting needs root and a mount namespace")) return;
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        enter_mount_namespace();
        mount_tmpfs("/proc", "");
        (void)test_tracer().span("s");
    }).clean();
    CHECK(directory.files() == 1);
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 1);
    CHECK(rings.resource().at("service.name") == "\"unknown_service:unit_client\"");
}

TEST_CASE("an older kernel without MADV_POPULATE_WRITE, O_TMPFILE or getrandom does as well") {
    const struct {
        const char* name;
        std::function<void()> apply;
    } kernels[] = {
        {"MADV_POPULATE_WRITE", [] { refuse(SYS_madvise, 2, 23, EINVAL); }},
        {"O_TMPFILE", [] { refuse(SYS_openat, 2, O_TMPFILE | O_RDWR | O_CLOEXEC, EISDIR); }},
        {"getrandom", [] { refuse(SYS_getrandom, 2, 1 /* GRND_NONBLOCK */, ENOSYS); }},
    };
    for (const auto& kernel : kernels) {
        CAPTURE(kernel.name);
        const RingDirectory directory;
        run_child(directory.path(), [&] {
            kernel.apply();
            for (int i = 0; i < 3; ++i) (void)test_tracer().span("s");
        }).clean();
        CHECK(directory.files() == 1);
        const Rings rings = read_rings(directory.path());
        check_balance(rings);
        CHECK(rings.spans.size() == 3);
        CHECK(rings.spans[0].trace_id != rings.spans[1].trace_id);
    }
}

TEST_CASE("a kernel that cannot keep memory from a fork's child records nothing at all") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        refuse(SYS_madvise, 2, 18 /* MADV_WIPEONFORK */, EINVAL);
        EXPECT(!test_tracer().span("s").recording());
    }).clean();
    CHECK(directory.files() == 0);
}

}  // namespace oteld::test
