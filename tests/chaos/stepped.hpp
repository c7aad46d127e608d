// A child process that is run one machine instruction at a time, between two marks in its code.
//
// Used by: writer_steps_test.cpp, daemon_steps_test.cpp. Threads: one (ptrace belongs to the thread
// that began it). Other threads and children of the child run freely while one is stepped; all of
// them die with the Stepped. Needs an x86-64: elsewhere loops of load-linked and store-conditional
// never end when they are stepped.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>

namespace oteld::test {

// In the child: from here on the calling thread is stepped, until there. What the two calls
// themselves do is stepped too.
void begin_steps() noexcept;
void end_steps() noexcept;

class Stepped {
public:
    explicit Stepped(const std::function<void()>& body);
    ~Stepped();
    Stepped(const Stepped&) = delete;
    Stepped& operator=(const Stepped&) = delete;

    // To the next begin_steps() of any thread. False: the child has ended, with exit code 0 or the
    // test fails.
    [[nodiscard]] bool run_to_steps();
    // One instruction, a system call included. False: end_steps(), or the thread has ended.
    [[nodiscard]] bool step();
    // SIGKILL, and returns when the child is gone with all of its children.
    void kill();

private:
    [[nodiscard]] bool reached_steps(pid_t thread, int status);

    pid_t child_ = -1;
    pid_t thread_ = -1;  // The one that is stepped.
};

// OTELD_CHAOS_LONG is set: a death at every change. The short form leaves out most of those beyond
// the first of a story, which copy bytes into place.
[[nodiscard]] bool long_form();

struct Counts {
    std::uint64_t instructions = 0;
    std::uint64_t changes = 0;  // Of shared memory, by one instruction.
    std::uint64_t deaths = 0;

    // Called once a change.
    [[nodiscard]] bool worth_a_death() {
        static constexpr std::uint64_t short_form_deaths = 150;
        return ++changes < short_form_deaths || long_form() || changes % 50 == 0;
    }
};

// Whether this machine can do it; if not, says so in the form that the test summary reads.
[[nodiscard]] bool can_step();

}  // namespace oteld::test
