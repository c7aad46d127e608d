#include "stepped.hpp"

#include <doctest/doctest.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace oteld::test {
namespace {

constexpr int begin_signal = SIGUSR1;
constexpr int end_signal = SIGUSR2;
constexpr unsigned watchdog_seconds = 600;

// Goes on with a thread that stands still, and hands it that signal (0: none).
void go_on(pid_t thread, int signal) {
    // It may have been killed meanwhile; then the next wait says so.
    (void)::ptrace(PTRACE_CONT, thread, nullptr, static_cast<long>(signal));
}

}  // namespace

// The tracer sees them and does not deliver them.
void begin_steps() noexcept { (void)::raise(begin_signal); }
void end_steps() noexcept { (void)::raise(end_signal); }

bool long_form() { return std::getenv("OTELD_CHAOS_LONG") != nullptr; }

bool can_step() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    std::printf("not run: what a sanitizer adds is not what dies; run in the ordinary build\n");
    return false;
#elif defined(__x86_64__)
    // On one processor a step needs no other one to be woken: several times as fast.
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(static_cast<std::size_t>(::sched_getcpu()), &here);
    (void)::sched_setaffinity(0, sizeof here, &here);
    return true;
#else
    std::printf("not run: single steps are for x86-64\n");
    return false;
#endif
}

Stepped::Stepped(const std::function<void()>& body) {
    std::fflush(nullptr);
    child_ = ::fork();
    REQUIRE(child_ >= 0);
    if (child_ == 0) {
        ::alarm(watchdog_seconds);
        if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(41);
        (void)::raise(SIGSTOP);
        body();
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child_, &status, 0) == child_);
    REQUIRE_MESSAGE(WIFSTOPPED(status), "ptrace is forbidden here");
    REQUIRE(::ptrace(PTRACE_SETOPTIONS, child_, nullptr,
                     PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK) == 0);
    thread_ = child_;
}

Stepped::~Stepped() { kill(); }

bool Stepped::run_to_steps() {
    if (thread_ > 0) go_on(thread_, 0);
    thread_ = -1;
    for (;;) {
        int status = 0;
        const pid_t thread = ::waitpid(-1, &status, __WALL);
        REQUIRE(thread > 0);
        if (reached_steps(thread, status)) return true;
        if (thread != child_ || WIFSTOPPED(status)) continue;
        REQUIRE_MESSAGE((WIFEXITED(status) && WEXITSTATUS(status) == 0), "status ", status);
        child_ = -1;
        kill();
        return false;
    }
}

bool Stepped::reached_steps(pid_t thread, int status) {
    if (!WIFSTOPPED(status)) return false;
    const int signal = WSTOPSIG(status);
    if (signal == begin_signal) {
        thread_ = thread;
        return true;
    }
    // Stops of ptrace's own are SIGTRAP, and SIGSTOP in what clone and fork made.
    go_on(thread, signal == SIGTRAP || signal == SIGSTOP || signal == end_signal ? 0 : signal);
    return false;
}

bool Stepped::step() {
    for (long signal = 0;;) {
        if (::ptrace(PTRACE_SINGLESTEP, thread_, nullptr, signal) != 0) return false;
        int status = 0;
        REQUIRE(::waitpid(thread_, &status, __WALL) == thread_);
        if (!WIFSTOPPED(status)) {
            REQUIRE_MESSAGE(WIFEXITED(status), "status ", status);
            thread_ = -1;
            return false;
        }
        signal = WSTOPSIG(status);
        if (signal == SIGTRAP) return true;
        if (signal == end_signal) return false;
        // Somebody else's: a shell's SIGCONT, say.
    }
}

void Stepped::kill() {
    if (child_ > 0) ::kill(child_, SIGKILL);
    if (thread_ > 0) ::kill(thread_, SIGKILL);  // Perhaps of another process, and standing still.
    child_ = thread_ = -1;
    // Whatever is traced is a child to wait for; it is killed where it stops.
    int status = 0;
    for (pid_t thread = 0; (thread = ::waitpid(-1, &status, __WALL)) > 0;)
        if (WIFSTOPPED(status)) ::kill(thread, SIGKILL);
}

}  // namespace oteld::test
