// What programs do with their processes, as a whole: prefork servers, daemons, vfork, posix_spawn,
// exec, _exit. The pieces are in process_test.cpp.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <thread>

namespace oteld::test {
namespace {

Tracer test_tracer() { return tracer("test"); }

// Opens once, for everybody who waits at it, in the process that made it and in its children.
class Gate {
public:
    Gate() { EXPECT(::pipe(ends_) == 0); }
    void wait() const {
        char byte = 0;
        EXPECT(::read(ends_[0], &byte, 1) == 0);
    }
    // By its maker; in each child it is to be called first.
    void open() const { ::close(ends_[1]); }

private:
    int ends_[2] = {};
};

struct Spans {
    std::vector<ReadSpan> finished, open;
};
std::map<std::string, Spans> by_process(const Rings& rings) {
    std::map<std::string, Spans> all;
    for (const ReadSpan& span : rings.spans) all[span.process].finished.push_back(span);
    for (const ReadSpan& span : rings.open) all[span.process].open.push_back(span);
    return all;
}

const ReadSegment& first_segment_of(const Rings& rings, const std::string& process) {
    for (const ReadSegment& segment : rings.segments)
        if (segment.process == process) return segment;
    FAIL("no such process");
    return rings.segments.front();
}

bool any_alive(const Rings& rings) {
    for (const ReadSegment& segment : rings.segments)
        if (segment.alive) return true;
    return false;
}

std::string program_of(pid_t pid) {
    std::string name;
    std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/comm"), name);
    return name;
}

// Ends what a failed test would leave behind.
struct Survivor {
    pid_t pid = 0;
    Survivor() = default;
    Survivor(const Survivor&) = delete;
    ~Survivor() {
        if (pid > 0) ::kill(pid, SIGKILL);
    }
};

constexpr const char* no_ring_is_open =
    "for f in /proc/self/fd/*; do readlink $f | grep -q oteld-client- && exit 9; done; exit 0";

}  // namespace

TEST_CASE("a prefork server: all workers and their parent record at once, on several threads") {
    constexpr int workers = 6;
    constexpr int threads = 3;
    constexpr int requests = 200;
    const auto serve = [](int worker, const Gate& gate) {
        gate.wait();
        std::vector<std::thread> all;
        for (int t = 0; t < threads; ++t)
            all.emplace_back([worker] {
                for (int i = 0; i < requests; ++i) {
                    auto request = test_tracer().scope("request", root, {{"worker", worker}});
                    auto query = test_tracer().span("query", {{"worker", worker}, {"i", i}});
                    query.event("row").set("text", std::string(50, 'x'));
                }
            });
        for (std::thread& thread : all) thread.join();
    };
    const Rings rings = in_child([serve] {
        const Gate gate;
        (void)test_tracer().span("listen", {{"worker", -1}});
        std::vector<pid_t> children;
        for (int w = 0; w < workers; ++w) {
            children.push_back(::fork());
            if (children.back() != 0) continue;
            gate.open();
            serve(w, gate);
            ::_exit(0);
        }
        std::thread master([&] { serve(-1, gate); });
        gate.open();
        master.join();
        for (const pid_t pid : children) expect_well(pid);
    });
    check_balance(rings);
    CHECK(rings.open.empty());
    const auto processes = by_process(rings);
    CHECK(processes.size() == workers + 1);
    std::set<std::string> seen, instances;
    for (const auto& [process, spans] : processes) {
        const std::string worker = spans.finished.at(0).at("worker");
        CHECK(seen.insert(worker).second);
        CHECK(spans.finished.size() == threads * requests * 2 + (worker == "-1" ? 1 : 0));
        std::set<std::string> here;
        for (const ReadSpan& span : spans.finished) here.insert(span.span_id);
        CHECK(here.size() == spans.finished.size());
        std::size_t complete = 0;
        for (const ReadSpan& span : spans.finished) {
            CHECK(span.at("worker") == worker);
            if (span.name != "query") continue;
            const bool all = here.count(span.parent_id) == 1 && span.events.size() == 1 &&
                             span.at("text").size() == 52 && span.end >= span.start;
            complete += all ? 1 : 0;
        }
        CHECK(complete == threads * requests);
        const ReadSegment& segment = first_segment_of(rings, process);
        CHECK(instances.insert(segment.resources.at(0).at("service.instance.id")).second);
    }
}

TEST_CASE("fork while other threads record, outgrow their lanes and take further slots") {
    if (sanitized) {
        MESSAGE("not run: a sanitizer's allocator does not survive a fork while others allocate");
        return;
    }
    constexpr int forks = 30;
    const Rings rings = in_child([] {
        std::atomic<bool> stop{false};
        std::atomic<int> ready{0};
        std::vector<std::thread> busy;
        for (int t = 0; t < 3; ++t)
            busy.emplace_back([&] {
                for (int round = 0; !stop || round == 0; ++round) {
                    std::vector<Span> held;  // More than a lane has slots for.
                    for (int i = 0; i < 60; ++i)
                        held.push_back(test_tracer().span("parent's", {{"i", i}}));
                    for (Span& span : held) span.set("text", std::string(700, 'x'));
                    if (round == 0) ++ready;
                }
            });
        wait_until([&] { return ready == 3; });
        for (int i = 0; i < forks; ++i) {
            const pid_t pid = ::fork();
            if (pid == 0) {
                std::vector<Span> held;
                for (int n = 0; n < 60; ++n) held.push_back(test_tracer().span("child's"));
                std::thread([] { (void)test_tracer().span("child's thread"); }).join();
                ::_exit(0);  // With 60 of them open.
            }
            expect_well(pid);
        }
        stop = true;
        for (std::thread& thread : busy) thread.join();
    });
    check_balance(rings);
    CHECK(rings.counted(shm::ProcessCounter::growths) > forks);  // Each child's bank, and others.
    const auto processes = by_process(rings);
    CHECK(processes.size() == forks + 1);
    for (const auto& [process, spans] : processes) {
        const bool child = !spans.open.empty();
        const std::string expected = child ? "child's" : "parent's";
        for (const ReadSpan& span : spans.finished) REQUIRE(span.name.rfind(expected, 0) == 0);
        for (const ReadSpan& span : spans.open) REQUIRE(span.name == expected);
        if (child) CHECK((spans.open.size() == 60 && spans.finished.size() == 1));
    }
}

TEST_CASE("posix_spawn leaves spans, context and rings alone, also when it fails") {
    const Rings rings = in_child([] {
        auto scope = test_tracer().scope("scope");
        auto open = test_tracer().span("open", {{"before", 1}});
        std::string words[] = {"sh", "-c", no_ring_is_open};
        char* arguments[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
        pid_t pid = -1;
        EXPECT(::posix_spawn(&pid, "/bin/sh", nullptr, nullptr, arguments, environ) == 0);
        expect_well(pid);
        EXPECT(::posix_spawn(&pid, "/nonexistent", nullptr, nullptr, arguments, environ) != 0);
        EXPECT(current_span().span_id_hex() == scope.context().span_id_hex());
        EXPECT(open.recording());
        open.set("after", 2);
        (void)test_tracer().span("inner");
    });
    check_balance(rings);
    CHECK(by_process(rings).size() == 1);
    CHECK(rings.span("open").attributes == Pairs{{"before", "1"}, {"after", "2"}});
    CHECK(rings.span("inner").parent_id == rings.span("scope").span_id);
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

namespace {

// Not inlined, so that nothing of it lies in the frame that both processes use.
[[gnu::noinline]] bool record_borrowed() {
    auto scope = test_tracer().scope("of vfork's child", {{"n", 1}});
    scope.set("text", "text").event("e");
    return scope.recording();
}

// A child of vfork() records on the calling thread, and execs. It must not return before that.
[[gnu::noinline]] bool recorded_by_vforked() {
    static volatile bool recorded;
    const pid_t pid = ::vfork();
    if (pid == 0) {
        recorded = record_borrowed();
        ::execl("/bin/sh", "sh", "-c", no_ring_is_open, static_cast<char*>(nullptr));
        ::_exit(1);
    }
    expect_well(pid);
    return recorded;
}

bool vfork_is_fork() {
#if defined(__SANITIZE_THREAD__)
    MESSAGE("not run: the thread sanitizer's vfork() is a fork()");
    return true;
#else
    return false;
#endif
}

}  // namespace

TEST_CASE("a child of vfork that records before it execs does so as the thread that made it") {
    if (vfork_is_fork()) return;
    const Rings rings = in_child([] {
        auto outer = test_tracer().scope("outer");
        EXPECT(recorded_by_vforked());
        EXPECT(current_span().span_id_hex() == outer.context().span_id_hex());
        outer.set("after", true);
        (void)test_tracer().span("inner");
    });
    check_balance(rings);
    CHECK(by_process(rings).size() == 1);
    CHECK(rings.span("of vfork's child").parent_id == rings.span("outer").span_id);
    CHECK(rings.span("of vfork's child").at("text") == "\"text\"");
    CHECK(rings.span("inner").parent_id == rings.span("outer").span_id);
    CHECK(rings.span("outer").at("after") == "true");
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

TEST_CASE("on a thread without a lane it does not record, which is counted; its parent does") {
    if (vfork_is_fork()) return;
    const Rings rings = in_child([] {
        (void)test_tracer().span("first");
        std::thread([] {
            EXPECT(!recorded_by_vforked());
            EXPECT(test_tracer().span("same thread").recording());
        }).join();
        std::thread([] { EXPECT(test_tracer().span("later thread").recording()); }).join();
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 3);
    CHECK(rings.counted(shm::ProcessCounter::begun_no_lane) == 1);
    CHECK(rings.counted(shm::ProcessCounter::raw_clones) == 0);
}

TEST_CASE("a child of vfork is not taken for the process of a parent that is yet to record") {
    if (vfork_is_fork()) return;
    for (const bool forked : {false, true}) {
        CAPTURE(forked);
        const RingDirectory directory;
        const auto parent = [] {
            EXPECT(!recorded_by_vforked());
            EXPECT(test_tracer().span("parent").recording());
            std::thread([] { EXPECT(test_tracer().span("thread").recording()); }).join();
        };
        LivingChild child(directory.path(), [&] {
            if (!forked) return parent();
            (void)test_tracer().span("grandparent");
            const pid_t pid = ::fork();
            if (pid == 0) {
                parent();
                ::_exit(0);
            }
            expect_well(pid);
        });
        const Rings rings = read_rings(directory.path());
        check_balance(rings);
        CHECK(rings.spans.size() == (forked ? 3 : 2));
        CHECK(by_process(rings).size() == (forked ? 2 : 1));
        CHECK(any_alive(rings));
    }
}

TEST_CASE("a child of vfork makes no file in its parent's name, and the parent still can") {
    if (vfork_is_fork()) return;
    const Rings rings = in_child([] {
        // All slots of the lane are taken: the next span needs a further segment.
        std::vector<Span> held;
        for (int i = 0; i < 32; ++i) held.push_back(test_tracer().span("held"));
        EXPECT(recorded_by_vforked());  // On the heap.
        std::thread([] { (void)test_tracer().span("other lane"); }).join();
    });
    check_balance(rings);
    CHECK(rings.segments.size() == 1);
    CHECK(rings.heap_spans == 1);
    CHECK(rings.spans.size() == 34);
}

TEST_CASE("a daemon that forks twice and closes everything has rings of its own") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        auto scope = test_tracer().scope("first process", {{"n", 1}});
        if (const pid_t second = ::fork(); second != 0) {
            expect_well(second);
            ::_exit(0);
        }
        EXPECT(::setsid() > 0);
        auto inherited = test_tracer().scope("second process", {{"n", 2}});
        if (::fork() != 0) ::_exit(0);
        EXPECT(::chdir("/") == 0);
        for (int fd = 0; fd < 1024; ++fd) ::close(fd);
        for (int fd = 0; fd < 3; ++fd) EXPECT(::open("/dev/null", O_RDWR) == fd);
        inherited.end();
        (void)test_tracer().span("work");
        auto open = test_tracer().span("open in the daemon");
        for (;;) ::pause();  // Until the test's end.
    }).clean();
    Survivor daemon;
    Rings rings;
    wait_until([&] {
        rings = read_rings(directory.path());
        return rings.open.size() == 3;
    });
    check_balance(rings);
    const auto processes = by_process(rings);
    REQUIRE(processes.size() == 3);
    for (const auto& [process, spans] : processes) {
        const ReadSegment& segment = first_segment_of(rings, process);
        const std::string& name = spans.open.at(0).name;
        CAPTURE(name);
        const bool last = name == "open in the daemon";
        CHECK(spans.open.size() == 1);
        CHECK(segment.alive == last);
        CHECK(spans.finished.size() == (last ? 1 : 0));
        if (last) daemon.pid = static_cast<pid_t>(segment.pid);
        if (name == "second process") {
            // It left that scope itself, and works below what it had inherited from the first.
            CHECK(spans.open[0].parent_id != "");
            CHECK(rings.span("work").trace_id == spans.open[0].trace_id);
            CHECK(rings.span("work").parent_id == spans.open[0].parent_id);
        }
    }
    CHECK(daemon.pid > 0);
}

TEST_CASE("_exit leaves the open spans of all threads to be recovered, with what they had") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        auto scope = test_tracer().scope("open", {{"thread", 0}});
        scope.event("e").error("half way");
        std::atomic<int> ready{0};
        std::vector<std::thread> threads;
        for (int t = 1; t < 4; ++t)
            threads.emplace_back([&ready, t] {
                auto span = test_tracer().span("open", {{"thread", t}});
                std::vector<Span> more;  // Further slots, and one that is not to be recovered.
                for (int i = 0; i < 40; ++i) more.push_back(test_tracer().span("more"));
                auto big = test_tracer().span("big");
                big.set("text", std::string(50000, 'x'));
                ++ready;
                for (;;) ::pause();
            });
        wait_until([&] { return ready == 3; });
        ::_exit(0);
    }).clean();
    const Rings rings = read_rings(directory.path());
    CHECK_FALSE(any_alive(rings));
    CHECK(rings.begun == rings.open.size() + rings.heap_spans);
    CHECK(rings.heap_spans == 3);
    CHECK(rings.counted(shm::ProcessCounter::not_crash_visible) == 3);
    std::set<std::string> threads;
    for (const ReadSpan& span : rings.open)
        if (span.name == "open") threads.insert(span.at("thread"));
    CHECK(threads == std::set<std::string>{"0", "1", "2", "3"});
    CHECK(rings.open.size() == 4 + 3 * 40);
}

TEST_CASE("exec from any thread: the spans are all there, in the rings of a dead process") {
    for (const bool first : {true, false}) {
        CAPTURE(first);
        const RingDirectory directory;
        run_child(directory.path(), [first] {
            if (::fork() != 0) ::_exit(0);
            auto open = test_tracer().scope("open on the first thread", {{"a", 1}});
            std::atomic<bool> ready{false};
            const auto exec = [] {
                ::execl("/bin/sh", "sh", "-c", "exec sleep 100", static_cast<char*>(nullptr));
                ::_exit(1);
            };
            std::thread([&] {
                (void)test_tracer().span("finished");
                auto there = test_tracer().span("open on another", {{"b", 2}});
                EXPECT(::execl("/nonexistent", "nonexistent", static_cast<char*>(nullptr)) == -1);
                there.set("after a failed exec", true);
                if (!first) exec();
                ready = true;
                for (;;) ::pause();
            }).detach();
            wait_until([&] { return ready.load(); });
            exec();
        }).clean();
        Survivor program;
        wait_until([&] {
            const Rings rings = read_rings(directory.path());
            if (rings.segments.empty()) return false;
            program.pid = static_cast<pid_t>(rings.segments[0].pid);
            return program_of(program.pid) == "sleep";
        });
        const Rings rings = read_rings(directory.path());
        check_balance(rings);
        CHECK(rings.segments.size() == 1);
        CHECK_FALSE(any_alive(rings));
        CHECK(rings.spans.size() == 1);
        REQUIRE(rings.open.size() == 2);
        const bool in_order = rings.open[0].name == "open on the first thread";
        CHECK(rings.open[in_order ? 0 : 1].at("a") == "1");
        CHECK(rings.open[in_order ? 1 : 0].at("b") == "2");
        CHECK(rings.open[in_order ? 1 : 0].at("after a failed exec") == "true");
    }
}

}  // namespace oteld::test
