// Leaving without an end: exit without a daemon, and exceptions, longjmp and signal handlers that
// jump out of spans.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"
#include "shm/layout.hpp"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csetjmp>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>

namespace oteld::test {
namespace {

Tracer test_tracer() { return tracer("test"); }

// Kills the process for whatever it might wait in.
void forbid_waiting() {
    const auto load = [](std::size_t at) {
        return sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(at));
    };
    const sock_filter kill = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    const sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    std::vector<sock_filter> filter{load(offsetof(seccomp_data, nr))};
    for (const unsigned number : {
             SYS_nanosleep, SYS_clock_nanosleep, SYS_ppoll, SYS_pselect6, SYS_epoll_pwait,
                 SYS_wait4, SYS_waitid, SYS_flock, SYS_connect, SYS_sendto, SYS_sendmsg,
                 SYS_recvfrom, SYS_recvmsg, SYS_accept4, SYS_rt_sigtimedwait, SYS_rt_sigsuspend,
                 SYS_msgrcv, SYS_semop, SYS_read,
#if defined(SYS_poll)
                 SYS_poll, SYS_select, SYS_epoll_wait, SYS_pause
#endif
         }) {
        filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
        filter.push_back(kill);
    }
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 4));
    filter.push_back(load(offsetof(seccomp_data, args[1])));
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_SETLKW, 0, 1));
    filter.push_back(kill);
    filter.push_back(allow);
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 4));
    filter.push_back(load(offsetof(seccomp_data, args[1])));
    filter.push_back(
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, static_cast<std::uint32_t>(FUTEX_CMD_MASK)));
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FUTEX_WAKE, 1, 0));
    filter.push_back(kill);
    filter.push_back(allow);
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    EXPECT(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

// The page of a daemon that died, or was stopped, in its sleep or not.
void leave_control_page(const std::string& directory, bool sleeping) {
    auto page = std::make_unique<shm::ControlPage>();
    page->magic = shm::control_magic;
    page->major = shm::layout_major;
    page->generation = 1;
    page->heartbeat_monotonic_ns = 1;
    page->sleeping = sleeping ? 1 : 0;
    page->content[0].enabled = page->content[1].enabled = 1;
    std::ofstream file(directory + "/control");
    file.write(reinterpret_cast<const char*>(page.get()), sizeof *page);
    file.close();
    EXPECT(file.good());
}

}  // namespace

TEST_CASE("exit waits for nothing, whatever became of the daemon") {
    if (sanitized) {
        MESSAGE("not run: sanitizers wait on their own when a process exits");
        return;
    }
    enum class Daemon { never_there, asleep, awake };
    for (const Daemon daemon : {Daemon::never_there, Daemon::asleep, Daemon::awake}) {
        CAPTURE(static_cast<int>(daemon));
        const RingDirectory directory;
        run_child(directory.path(), [&] {
            if (daemon != Daemon::never_there)
                leave_control_page(directory.path(), daemon == Daemon::asleep);
            static const TracerProvider provider{Settings{}.lanes(2).growth(false)};
            struct AtExit {
                Span span;
                ~AtExit() {  // Of a full lane: it rings where somebody sleeps, and drops.
                    span.end();
                    for (int i = 0; i < 5000; ++i) (void)test_tracer().span("at exit");
                }
            };
            static AtExit at_exit;
            at_exit.span = test_tracer().span("open");
            for (int i = 0; i < 5000; ++i) (void)test_tracer().span("s");
            new Span(test_tracer().span("never ends"));
            forbid_waiting();
            std::exit(0);
        }).clean();
        const Rings rings = read_rings(directory.path());
        check_balance(rings);
        CHECK(rings.begun == 10002);
        CHECK(rings.open.size() == 1);
        CHECK((rings.counted(shm::ProcessCounter::bells) > 0) == (daemon == Daemon::asleep));
    }
    // It would have been seen: a flush does wait.
    const RingDirectory directory;
    const Child waiting = run_child(directory.path(), [] {
        (void)test_tracer().span("s");
        forbid_waiting();
        (void)force_flush(std::chrono::milliseconds(1));
    });
    REQUIRE(WIFSIGNALED(waiting.status));
    CHECK(WTERMSIG(waiting.status) == SIGSYS);
}

TEST_CASE("an exception ends the spans that it passes, and marks those that were current") {
    const Rings rings = in_child([] {
        struct Cleaner {
            ~Cleaner() { auto clean = test_tracer().scope("cleans up meanwhile"); }
        };
        auto outer = test_tracer().scope("outer");
        try {
            auto scope = test_tracer().scope("scope");
            auto span = test_tracer().span("span");
            const Cleaner cleaner;
            auto inner = test_tracer().scope("said already");
            inner.error("the reason");
            auto fine = test_tracer().scope("fine after all");
            fine.status(Status::ok);
            throw std::runtime_error("gone");
        } catch (const std::runtime_error&) {
            EXPECT(current_span().span_id_hex() == outer.context().span_id_hex());
            auto handling = test_tracer().scope("handling");
        }
    });
    check_balance(rings);
    CHECK(rings.open.empty());
    CHECK(rings.span("scope").status == 2);
    CHECK(rings.span("scope").description == "left by an exception");
    CHECK(rings.span("span").status == 0);  // Who starts a span says what is wrong with it.
    CHECK(rings.span("said already").status == 2);
    CHECK(rings.span("fine after all").status == 1);
    for (const char* name : {"outer", "handling", "cleans up meanwhile"})
        CHECK_MESSAGE(rings.span(name).status == 0, name);
    CHECK(rings.span("cleans up meanwhile").parent_id == rings.span("scope").span_id);
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

namespace {

std::jmp_buf place;

[[gnu::noinline]] void jump_out() {
    auto scope = test_tracer().scope("jumped over", {{"a", 1}});
    auto inner = test_tracer().scope("jumped over", {{"a", 2}});
    auto span = test_tracer().span("jumped over");
    std::longjmp(place, 1);
}

}  // namespace

TEST_CASE("longjmp over spans leaves them open, and the next scope around them tidies up") {
    static constexpr int jumps = 50;  // More than a lane has slots for.
    const RingDirectory directory;
    run_child(directory.path(), [] {
        // In memory, where longjmp() leaves it alone.
        static int done;
        static std::optional<ScopedSpan> outer;
        outer.emplace(test_tracer().scope("outer"));
        if (setjmp(place) < 2 && ++done <= jumps) jump_out();
        // What was current where the jump began still is.
        EXPECT(current_span().span_id_hex() != outer->context().span_id_hex());
        (void)test_tracer().scope("inner");
        outer->end();
        EXPECT(!current_span().valid());
        (void)test_tracer().scope("after");
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.open.size() == 3 * jumps);
    CHECK(rings.span("outer").parent_id == "");
    CHECK(rings.span("inner").trace_id == rings.span("outer").trace_id);
    CHECK(rings.span("after").parent_id == "");
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 1);
}

namespace {

std::atomic<int> signals{0};
sigjmp_buf way_out;

// Leaves the client in the middle of what it does: where nothing can be recorded.
void leave_the_client(int) {
    ++signals;
    if (!test_tracer().span("in the handler").recording()) siglongjmp(way_out, 1);
}

}  // namespace

TEST_CASE("a handler that jumps out of the client leaves its thread deaf, and others well") {
    if (sanitized) {
        MESSAGE("not run: sanitizers put signals off until the client is left");
        return;
    }
    const Rings rings = in_child([] {
        (void)test_tracer().span("warm up");
        sigset_t alarm;
        sigemptyset(&alarm);
        sigaddset(&alarm, SIGALRM);
        std::thread storm([] {
            (void)test_tracer().span("warm up");
            struct sigaction action {};
            action.sa_handler = leave_the_client;
            EXPECT(::sigaction(SIGALRM, &action, nullptr) == 0);
            const itimerval on{{0, 20}, {0, 20}}, off{};
            if (sigsetjmp(way_out, 1) == 0) {
                EXPECT(::setitimer(ITIMER_REAL, &on, nullptr) == 0);
                for (;;) (void)test_tracer().span("s");
            }
            EXPECT(::setitimer(ITIMER_REAL, &off, nullptr) == 0);
            action.sa_handler = SIG_IGN;
            EXPECT(::sigaction(SIGALRM, &action, nullptr) == 0);
            for (int i = 0; i < 5; ++i) EXPECT(!test_tracer().span("deaf").recording());
        });
        // To that thread alone.
        EXPECT(::pthread_sigmask(SIG_BLOCK, &alarm, nullptr) == 0);
        storm.join();
        EXPECT(test_tracer().span("after").recording());
        std::thread([] { EXPECT(test_tracer().span("its lane's next").recording()); }).join();
    });
    CHECK(rings.malformed == 0);
    // The one in the handler and those after it were counted when the thread ended. The span that
    // was interrupted may be lost, as in a crash.
    CHECK(rings.dropped(shm::DropReason::reentrant) >= 6);
    const std::uint64_t accounted = rings.ended + rings.dropped() + rings.open.size();
    CHECK(rings.begun >= accounted);
    CHECK(rings.begun <= accounted + 1);
}

}  // namespace oteld::test
