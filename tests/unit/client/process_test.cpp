// Threads, fork, exit, signals: what happens to a process that records. More of that, as whole
// programs do it, is in process_events_test.cpp.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <thread>

namespace oteld::test {
namespace {

Tracer test_tracer() { return tracer("test"); }

std::size_t processes(const Rings& rings) {
    std::vector<std::string> all;
    for (const ReadSegment& segment : rings.segments) {
        if (all.empty() || all.back() != segment.process) all.push_back(segment.process);
    }
    return all.size();
}

}  // namespace

TEST_CASE("parent and children of a fork record at once, each into its own rings") {
    const Rings rings = in_child([] {
        (void)test_tracer().span("before");
        std::vector<pid_t> children;
        for (int c = 0; c < 4; ++c) {
            children.push_back(fork());
            if (children.back() == 0) {
                for (int i = 0; i < 500; ++i) (void)test_tracer().span("child", {{"c", c}});
                const pid_t grandchild = fork();
                if (grandchild == 0) {
                    (void)test_tracer().span("grandchild");
                    _exit(0);
                }
                expect_well(grandchild);
                _exit(0);
            }
        }
        for (int i = 0; i < 500; ++i) (void)test_tracer().span("parent");
        for (const pid_t pid : children) expect_well(pid);
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 1 + 500 + 4 * 501);
    CHECK(processes(rings) == 9);
    for (const ReadSpan& span : rings.spans) {
        for (const ReadSpan& other : rings.spans) {
            if (&span < &other) REQUIRE(span.span_id != other.span_id);
        }
    }
}

TEST_CASE("a handle inherited by a fork's child is inert there, whatever is done with it") {
    const Rings rings = in_child([] {
        auto scope = test_tracer().scope("scope", {{"a", 1}});
        auto span = test_tracer().span("span");
        auto big = test_tracer().span("big");
        big.set("text", std::string(50000, 'x'));
        const pid_t pid = fork();
        if (pid == 0) {
            const SpanContext context = span.context();
            for (Span* one : {static_cast<Span*>(&scope), &span, &big}) {
                EXPECT(!one->recording());
                one->set("k", 1)
                    .set("text", "t")
                    .set("array", {1, 2})
                    .set("long", std::string(1000, 'l'));
                one->set({{"x", 1}, {"y", 2}});
                one->event("e", {{"k", 1}})
                    .link(context)
                    .error("no")
                    .status(Status::ok)
                    .name("renamed");
                one->exception("a", "b");
            }
            auto child =
                test_tracer().span("in the child");  // Its parent is the inherited context.
            EXPECT(child.recording());
            span.end();
            scope.end();
            { const Span moved = std::move(big); }
            child.end();
            _exit(0);
        }
        expect_well(pid);
        EXPECT(span.recording());
        span.set("after", 1);
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 4);
    CHECK(rings.span("span").attributes == Pairs{{"after", "1"}});
    CHECK(rings.span("in the child").parent_id == rings.span("scope").span_id);
    CHECK(processes(rings) == 2);
}

TEST_CASE("fork while another thread is in the client's slow path") {
    const Rings rings = in_child([] {
        std::atomic<bool> stop{false};
        (void)test_tracer().span("first");
        // New scopes, new threads and growing lanes: the process mutex is held often.
        std::thread busy([&] {
            for (int i = 0; !stop && i < 3000; ++i) {
                (void)tracer("scope " + std::to_string(i % 300)).span("busy");
                std::thread([] { (void)test_tracer().span("short"); }).join();
            }
        });
        for (int i = 0; i < 100; ++i) {
            const pid_t pid = fork();
            if (pid == 0) {
                (void)test_tracer().span("child");
                (void)tracer("new in the child").span("child");
                _exit(0);
            }
            expect_well(pid);
        }
        stop = true;
        busy.join();
    });
    check_balance(rings);
    CHECK(processes(rings) == 101);
}

TEST_CASE("a child of a raw clone records nothing and is counted") {
    if (sanitized) {
        MESSAGE("not run: a raw clone has no place in a sanitizer's book-keeping");
        return;
    }
    const Rings rings = in_child([] {
        (void)test_tracer().span("parent");
        const auto pid =
            static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
        if (pid == 0) {
            for (int i = 0; i < 3; ++i) {
                auto span = test_tracer().span("child");
                if (span.recording()) _exit(1);
            }
            _exit(0);
        }
        expect_well(pid);
        (void)test_tracer().span("parent again");
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 2);
    CHECK(rings.counted(shm::ProcessCounter::raw_clones) == 1);
}

TEST_CASE("a thread that is to be cancelled records and flushes first") {
    const RingDirectory directory;
    const Child child = run_child(
        directory.path(),
        [] {
            pthread_t thread;
            const auto body = [](void*) -> void* {
                pthread_cancel(pthread_self());  // From here on each cancellation point ends it.
                { const auto span = test_tracer().span("first of its process and thread"); }
                (void)force_flush(std::chrono::milliseconds(2));
                for (int i = 0; i < 5000; ++i) (void)test_tracer().span("overflows its lane");
                // The address sanitizer takes a stack that was unwound like this for one in use.
                if (!sanitized) pthread_testcancel();
                return sanitized ? PTHREAD_CANCELED : nullptr;
            };
            EXPECT(pthread_create(&thread, nullptr, body, nullptr) == 0);
            void* result = nullptr;
            EXPECT(pthread_join(thread, &result) == 0);
            EXPECT(result == PTHREAD_CANCELED);
        },
        {{"OTEL_TRACES_SAMPLER", "unknown"}});  // Said on standard error.
    child.clean();
    CHECK(child.said("OTEL_TRACES_SAMPLER"));
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 5001);
}

TEST_CASE("vfork and exec leave the parent's rings alone, and no descriptor behind") {
    const Rings rings = in_child([] {
        auto open = test_tracer().span("open over exec");
        const pid_t pid = vfork();
        if (pid == 0) {
            // Fails if anything but 0, 1, 2 and the directory that it reads is open on a ring.
            execl("/bin/sh", "sh", "-c",
                  "for f in /proc/self/fd/*; do readlink $f | grep -q oteld-client- && exit 9; "
                  "done; exit 0",
                  static_cast<char*>(nullptr));
            _exit(1);
        }
        expect_well(pid);
        open.set("after", true);
    });
    check_balance(rings);
    CHECK(rings.span("open over exec").at("after") == "true");
}

TEST_CASE("a living process is alive by its lane words or its file lock, a killed one by neither") {
    for (const bool holds_a_lane : {true, false}) {
        CAPTURE(holds_a_lane);
        const RingDirectory directory;
        LivingChild child(directory.path(), [&] {
            if (holds_a_lane)
                (void)test_tracer().span("s");
            else
                std::thread([] { (void)test_tracer().span("s"); }).join();
        });
        CHECK(read_rings(directory.path()).segments.at(0).alive);
        child.kill();
        const Rings rings = read_rings(directory.path());
        CHECK_FALSE(rings.segments.at(0).alive);
        CHECK(rings.spans.size() == 1);
    }
}

TEST_CASE("a fork's child does not keep its parent's rings alive") {
    const RingDirectory directory;
    const Child child = run_child(directory.path(), [] {
        (void)test_tracer().span("parent");
        if (fork() == 0) {
            (void)test_tracer().span("child");
            for (;;) pause();  // Until the test's end, by the signal below.
        }
        _exit(0);
    });
    child.clean();
    std::vector<ReadSegment> segments;
    wait_until([&] {
        segments = read_rings(directory.path()).segments;
        return segments.size() == 2;
    });
    std::size_t alive = 0;
    pid_t survivor = 0;
    for (const ReadSegment& segment : segments) {
        alive += segment.alive ? 1 : 0;
        if (segment.alive) survivor = static_cast<pid_t>(segment.pid);
    }
    CHECK(alive == 1);
    if (survivor > 0) ::kill(survivor, SIGKILL);
}

TEST_CASE("a process that exits leaves its open spans open, and records in static destructors") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        struct AtExit {
            Span span;
            ~AtExit() {
                span.set("at exit", true).end();
                (void)test_tracer().span("started at exit");
                _exit(0);
            }
        };
        static AtExit at_exit;
        at_exit.span = test_tracer().span("ends at exit");
        new Span(test_tracer().span("never ends", {{"a", 1}}));
        std::exit(7);  // The destructor above changes that into 0.
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 2);
    CHECK(rings.span("ends at exit").at("at exit") == "true");
    REQUIRE(rings.open.size() == 1);
    CHECK(rings.open[0].name == "never ends");
    CHECK(rings.open[0].at("a") == "1");
}

TEST_CASE("starting, growing and ending spans leaves errno alone") {
    const Rings rings = in_child([] {
        errno = 77;
        std::vector<Span> held;
        held.reserve(300);
        for (int i = 0; i < 30000;
             ++i) {  // The first segment, larger lanes, a full ring, banks, the heap.
            auto span = test_tracer().span("s");
            if (i < 200) held.push_back(std::move(span));
            EXPECT(errno == 77);
        }
        held[0].set("text", std::string(100000, 'x'));
        held.clear();
        EXPECT(errno == 77);
    });
    CHECK(rings.segments.size() > 2);
    CHECK(rings.malformed == 0);
}

TEST_CASE("what stands in the client's way does not show in errno either") {
    const RingDirectory directory;
    run_child(directory.path() + "/missing", [] {
        errno = 77;
        EXPECT(!test_tracer().span("s").recording());
        EXPECT(errno == 77);
    }).clean();
}

namespace {

std::atomic<int> handled{0};
Tracer handler_tracer;
Span* handler_span = nullptr;

// The next signal of the storm. Not sooner than the handler is done: on a slow machine what it
// interrupts would never go on.
volatile sig_atomic_t storming = 0;
void arm() {
    const itimerval once{{0, 0}, {0, 20}};
    EXPECT(setitimer(ITIMER_REAL, &once, nullptr) == 0);
}

void record_in_handler(int) {
    ++handled;
    auto span = handler_tracer.span("handler", {{"n", handled.load()}});
    span.set("more", "text").event("e");
    // A span that the interrupted thread began, in the midst of whatever it does.
    if (handler_span != nullptr && handler_span->recording())
        handler_span->set("n", std::string_view("0123456789012345678901234567890123456789"));
    auto scope = handler_tracer.scope("handler scope");
    if (storming != 0) arm();
}

}  // namespace

TEST_CASE("signal handlers that record in a storm: nothing malformed, everything accounted for") {
    const Rings rings = in_child(
        [] {
            handler_tracer = test_tracer();
            (void)handler_tracer.span("warm up");
            struct sigaction action {};
            action.sa_handler = record_in_handler;
            action.sa_flags = SA_RESTART;
            EXPECT(sigaction(SIGALRM, &action, nullptr) == 0);
            storming = 1;
            arm();
            std::uint64_t rounds = 0;
            while (handled < 3000) {
                ++rounds;
                auto shared = test_tracer().span("shared");
                handler_span = &shared;
                for (int i = 0; i < 40; ++i) {
                    auto scope = test_tracer().scope("s", {{"i", i}});
                    scope.set("text", "some text").event("e");
                }
                handler_span = nullptr;
            }
            storming = 0;
            const itimerval calm{};
            EXPECT(setitimer(ITIMER_REAL, &calm, nullptr) == 0);
            (void)test_tracer().span("after");
        },
        {{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "100000"}});
    CHECK(rings.malformed == 0);
    CHECK(rings.ended == rings.spans.size());
    CHECK(rings.begun == rings.ended + rings.dropped() + rings.open.size());
    CHECK(rings.open.empty());
    std::size_t handlers = 0;
    for (const ReadSpan& span : rings.spans)
        handlers += span.name == "handler" || span.name == "handler scope" ? 1 : 0;
    CHECK(handlers > 0);
    // A handler never meets a context that is half written, whose flags belong to another span.
    CHECK(rings.unsampled == 0);
    CHECK(handlers + rings.dropped() >= 6000);
}

TEST_CASE("a span ended by a handler inside the client is dropped as reentrant, and counted") {
    const Rings rings = in_child([] {
        static Span held[4096];
        static std::atomic<int> next{0};
        for (Span& span : held) span = test_tracer().span("held");
        struct sigaction action {};
        action.sa_handler = [](int) {
            const int i = next.fetch_add(1);
            if (i < 4096) held[i].end();
        };
        EXPECT(sigaction(SIGALRM, &action, nullptr) == 0);
        const itimerval storm{{0, 20}, {0, 20}};
        EXPECT(setitimer(ITIMER_REAL, &storm, nullptr) == 0);
        while (next < 4096) (void)test_tracer().span("s");
        const itimerval calm{};
        EXPECT(setitimer(ITIMER_REAL, &calm, nullptr) == 0);
        (void)test_tracer().span("after");
    });
    CHECK(rings.malformed == 0);
    CHECK(rings.ended == rings.spans.size());
    CHECK(rings.begun == rings.ended + rings.dropped() + rings.open.size());
    CHECK(rings.open.empty());
}

}  // namespace oteld::test
