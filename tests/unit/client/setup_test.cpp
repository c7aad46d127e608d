// Rings that a program sets up itself: number and size of lanes, growth off, and a sandbox behind
// that.
#include "outside.hpp"
#include "ring_fixture.hpp"

#include "oteld/client.hpp"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <thread>

namespace oteld::test {
namespace {

Tracer test_tracer() { return tracer("test"); }

Settings fixed(std::size_t lanes) { return Settings{}.lanes(lanes).growth(false); }

// Kills the process for every system call that is not needed to record in threads that run already.
// mmap is for anonymous memory only.
void enter_sandbox() {
    const sock_filter load_number = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr));
    const sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    std::vector<sock_filter> filter{load_number};
    constexpr unsigned allowed[] = {SYS_rt_sigprocmask,
                                    SYS_gettid,
                                    SYS_futex,  // The client's.
                                    SYS_brk,
                                    SYS_munmap,
                                    SYS_mprotect,
                                    SYS_madvise,
                                    SYS_sched_getaffinity,  // malloc's.
                                    SYS_clock_gettime,
                                    SYS_rt_sigreturn,
                                    SYS_exit,
                                    SYS_exit_group,
                                    SYS_write};
    for (const unsigned number : allowed) {
        filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
        filter.push_back(allow);
    }
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 3));
    filter.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[4])));
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xFFFFFFFFU, 0, 1));
    filter.push_back(allow);
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    EXPECT(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

// Two threads that have recorded nothing yet enter the sandbox and fill their lanes.
void record_in_sandbox(const Settings& settings) {
    // glibc opens a file of /proc when it gives memory of a thread's arena back, for the first
    // time.
    ::mallopt(M_ARENA_MAX, 1);
    const TracerProvider provider(settings);
    provider.make_global();
    std::atomic<std::uint64_t> refused{0};
    std::vector<std::thread> threads;
    threads.reserve(2);
    for (int t = 0; t < 2; ++t) {
        threads.emplace_back([&] {
            enter_sandbox();
            std::vector<Span> open;
            open.reserve(100);
            for (int i = 0; i < 100; ++i) open.push_back(test_tracer().span("open"));
            for (int i = 0; i < 20000; ++i) {
                auto scope = test_tracer().scope("s", {{"i", i}});
                refused += scope.recording() ? 0 : 1;
            }
            open[0].set("large", std::string(50000, 'x'));
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT(refused == 0);
    EXPECT(spans_dropped() > 0);
}

}  // namespace

TEST_CASE("lanes are there before the first span, as many and as large as was said") {
    struct Case {
        std::size_t size;
        std::uint64_t expected;
    };
    for (const Case& one :
         {Case{1, 16 << 10}, {20000, 32 << 10}, {128 << 10, 128 << 10}, {(1 << 20) + 1, 2 << 20}}) {
        CAPTURE(one.size);
        const RingDirectory directory;
        const Child child = run_child(directory.path(), [&] {
            const TracerProvider provider(Settings{}.lanes(3).lane_size(one.size).service("rings"));
            EXPECT(directory.rings() == 1);
            provider.make_global();
            for (int t = 0; t < 3; ++t) std::thread([] { (void)test_tracer().span("s"); }).join();
        });
        child.clean();
        CHECK(child.text.empty());
        const Rings rings = read_rings(directory.path());
        check_balance(rings);
        REQUIRE(rings.segments.size() == 1);
        CHECK(rings.segments[0].lanes == 3);
        CHECK(rings.segments[0].data_bytes == one.expected);
        CHECK(rings.resource().at("service.name") == "\"rings\"");
        CHECK(rings.segments[0].resources.size() == 1);
        CHECK(rings.spans.size() == 3);
    }
}

TEST_CASE(
    "a lane size alone is that of the first lane, made with the first span; larger ones follow") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        const TracerProvider provider(Settings{}.lane_size(16 << 10));
        EXPECT(directory.rings() == 0);
        for (int i = 0; i < 1000; ++i) (void)test_tracer().span("s");
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.dropped() == 0);
    REQUIRE(rings.segments.size() >= 2);
    CHECK(rings.segments[0].data_bytes == 16 << 10);
    CHECK(rings.segments[1].data_bytes == 64 << 10);
}

TEST_CASE("what is out of bounds is said once and ignored") {
    struct Case {
        Settings settings;
        const char* words;
        std::size_t rings;
    };
    const Case cases[] = {
        {Settings{}.lanes(0), "lanes(0) is ignored", 0},
        {Settings{}.lanes(257), "lanes(257) is ignored", 0},
        {Settings{}.lanes(1).lane_size(0), "lane_size(0) is ignored", 1},
        {Settings{}.lanes(1).lane_size((2 << 20) + 1), "lane_size(2097153) is ignored", 1},
        {Settings{}.lanes(256).lane_size(2 << 20), "the 256 lanes of 2048 KiB were not made", 0},
    };
    for (const Case& one : cases) {
        CAPTURE(one.words);
        const RingDirectory directory;
        const Child child = run_child(directory.path(), [&] {
            const TracerProvider provider(one.settings);
            EXPECT(directory.rings() == one.rings);
            EXPECT(test_tracer().span("s").recording());
        });
        child.clean();
        CHECK(child.said(one.words));
        CHECK(child.text.find(one.words) == child.text.rfind(one.words));
        const Rings rings = read_rings(directory.path());
        REQUIRE(rings.segments.size() == 1);
        CHECK(rings.spans.size() == 1);
    }
}

TEST_CASE("a second provider does not set rings up again") {
    const RingDirectory directory;
    const Child child = run_child(directory.path(), [&] {
        const TracerProvider first(fixed(1));
        const TracerProvider second(fixed(8));
        EXPECT(directory.rings() == 1);
    });
    child.clean();
    CHECK(child.said("a second provider's lanes"));
    CHECK(read_rings(directory.path()).segments.at(0).lanes == 1);
}

TEST_CASE("with growth off a full lane drops, a thread without a lane drops, and all is counted") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        const TracerProvider provider(fixed(1));
        (void)test_tracer().span("takes the lane");
        std::thread([] {
            for (int i = 0; i < 50; ++i) EXPECT(!test_tracer().span("no lane").recording());
            const std::uint8_t trace_id[16] = {1};
            const std::uint8_t span_id[8] = {2};
            const SpanContext unsampled(trace_id, span_id, 0, true);
            EXPECT(!test_tracer().span("unsampled", parent(unsampled)).recording());
        }).join();
        EXPECT(spans_dropped() == 50);
        std::vector<Span> open;
        open.reserve(200);
        for (int i = 0; i < 200; ++i) open.push_back(test_tracer().span("open"));
        for (int i = 0; i < 5000; ++i) (void)test_tracer().span("s");
        open.clear();
    }).clean();
    CHECK(directory.rings() == 1);
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.begun == 1 + 50 + 200 + 5000);
    CHECK(rings.counted(shm::ProcessCounter::begun_no_lane) == 50);
    CHECK(rings.dropped(shm::DropReason::ring_full) > 0);
    CHECK(rings.dropped() == rings.dropped(shm::DropReason::ring_full) + 50);
    CHECK(rings.heap_spans > 0);
    CHECK(rings.counted(shm::ProcessCounter::growths) == 0);
}

TEST_CASE(
    "a span that no lane of its process can take is too large, another one finds the ring full") {
    const Rings rings = in_child([] {
        const TracerProvider provider(fixed(1).lane_size(16 << 10));
        { auto span = test_tracer().span("too large", {{"text", std::string(20000, 'x')}}); }
        { auto span = test_tracer().span("fits", {{"text", std::string(7000, 'x')}}); }
        { auto span = test_tracer().span("fits too", {{"text", std::string(7000, 'x')}}); }
        { auto span = test_tracer().span("finds it full", {{"text", std::string(7000, 'x')}}); }
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 2);
    CHECK(rings.dropped(shm::DropReason::too_large) == 1);
    CHECK(rings.dropped(shm::DropReason::ring_full) == 1);
}

TEST_CASE("a thread without a lane counts as many spans as its sampler would have taken") {
    const RingDirectory directory;
    run_child(directory.path(),
              [&] {
                  const TracerProvider provider(fixed(1));
                  while (!test_tracer().span("takes the lane").recording()) {
                  }
                  std::thread([] {
                      for (int i = 0; i < 4000; ++i) (void)test_tracer().span("no lane");
                  }).join();
                  EXPECT(spans_dropped() > 700);
                  EXPECT(spans_dropped() < 1300);
              },
              {{"OTEL_TRACES_SAMPLER", "traceidratio"}, {"OTEL_TRACES_SAMPLER_ARG", "0.25"}})
        .clean();
    check_balance(read_rings(directory.path()));
}

TEST_CASE("with growth off and no ring directory nothing is recorded, and that is said") {
    const RingDirectory parent_directory;
    const std::string path = parent_directory.path() + "/later";
    const Child child = run_child(path, [&] {
        const TracerProvider provider(fixed(2));
        EXPECT(!test_tracer().span("s").recording());
        EXPECT(::mkdir(path.c_str(), 0700) == 0);
        const timespec more_than_a_second{1, 100000000};
        ::nanosleep(&more_than_a_second, nullptr);
        EXPECT(!test_tracer().span("s").recording());
    });
    child.clean();
    CHECK(child.said("growth is off: spans are not recorded"));
    CHECK(read_rings(path).segments.empty());
}

TEST_CASE("without growth a fork's child has no ring until it makes a provider itself") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        const TracerProvider provider(fixed(2));
        (void)test_tracer().span("parent");
        const pid_t pid = ::fork();
        if (pid == 0) {
            EXPECT(!test_tracer().span("child").recording());
            EXPECT(directory.rings() == 1);
            const TracerProvider own(fixed(2));
            EXPECT(directory.rings() == 2);
            const timespec more_than_a_second{1, 100000000};
            ::nanosleep(&more_than_a_second, nullptr);
            EXPECT(test_tracer().span("child").recording());
            ::_exit(0);
        }
        int status = 0;
        EXPECT(::waitpid(pid, &status, 0) == pid);
        EXPECT(status == 0);
        EXPECT(test_tracer().span("parent").recording());
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 3);
}

TEST_CASE("in a sandbox a program makes a further provider the global one, and records under it") {
    if (sanitized) {
        MESSAGE("not run: sanitizers make system calls of their own");
        return;
    }
    const RingDirectory directory;
    run_child(directory.path(), [] {
        const TracerProvider first(fixed(1));
        first.make_global();
        std::thread([] {
            enter_sandbox();
            const TracerProvider second(Settings{}.service("second"));
            second.make_global();
            EXPECT(test_tracer().span("s").recording());
        }).join();
        EXPECT(look_at_process(::getpid()).at("service.name") == "\"second\"");
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.resource_of(rings.span("s")).at("service.name") == "\"second\"");
}

TEST_CASE("a program in a sandbox where no file can be opened records on") {
    if (sanitized) {
        MESSAGE("not run: sanitizers make system calls of their own");
        return;
    }
    const RingDirectory directory;
    run_child(directory.path(), [] { record_in_sandbox(fixed(2).lane_size(64 << 10)); }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.begun == 2 * 20100);
    CHECK(rings.segments.size() == 1);
    CHECK(rings.spans.size() > 500);
    // With growth on it would have died of it.
    const RingDirectory other;
    const Child killed =
        run_child(other.path(), [] { record_in_sandbox(Settings{}.lanes(2).lane_size(64 << 10)); });
    CHECK(WIFSIGNALED(killed.status));
    CHECK(WTERMSIG(killed.status) == SIGSYS);
}

}  // namespace oteld::test
