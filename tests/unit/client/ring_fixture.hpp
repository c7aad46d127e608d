// Runs client code in a process of its own over a ring directory of its own, and decodes what it
// left there.
//
// Used by: tests/unit/client. The client's state is global to a process and made anew in a fork's
// child, so each test records in a child and looks at the rings from outside, as the daemon does.
// Threads: the test's one; the test process itself never records.
// In the child a failed EXPECT prints where and ends it with code 42; Child::clean() shows that in
// the parent.
#pragma once

#include "rings.hpp"

#include <doctest/doctest.h>
#include <sys/types.h>

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

#define EXPECT(condition)                                                                  \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            ::_exit(42);                                                                   \
        }                                                                                  \
    } while (false)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

namespace oteld::test {

using Environment = std::vector<std::pair<std::string, std::string>>;

// A fresh directory of mode 0700 on /dev/shm, removed with its content.
class RingDirectory {
public:
    RingDirectory();
    ~RingDirectory();
    RingDirectory(const RingDirectory&) = delete;
    RingDirectory& operator=(const RingDirectory&) = delete;

    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] std::size_t rings() const;  // Files called *.ring.
    [[nodiscard]] std::size_t files() const;

private:
    std::string path_;
};

// How a child ended, and what it wrote to standard error.
struct Child {
    int status = 0;
    std::string text;

    // Fails the test unless the child ended with exit code 0.
    void clean() const;
    [[nodiscard]] bool said(const std::string& words) const {
        return text.find(words) != text.npos;
    }
};

// Forks; the child gets OTELD_DIR and `environment`, and no other OTEL variable; runs `body`;
// _exits with 0.
[[nodiscard]] Child run_child(const std::string& directory, const std::function<void()>& body,
                              const Environment& environment = {});

// The common case: a directory, a child that must end cleanly, its rings.
Rings in_child(const std::function<void()>& body, const Environment& environment = {});

// In a child: waits for a process that it has made, which must exit with 0.
void expect_well(pid_t pid);

// A child that runs on until it is told: for looking at a living process, or killing it.
class LivingChild {
public:
    // Returns when the body has called ready(); the child then waits to be killed or released.
    LivingChild(const std::string& directory, const std::function<void()>& body);
    ~LivingChild();
    LivingChild(const LivingChild&) = delete;
    LivingChild& operator=(const LivingChild&) = delete;

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    void kill();

private:
    pid_t pid_ = -1;
};

// From now on this thread and those that it starts are refused a system call that has `value` as
// its argument of that number, the first being 0, with `error`.
void refuse(long call, int argument, std::uint32_t value, int error);

// Waits until the condition holds; ends the process (or fails the test) when a minute passes in
// vain.
void wait_until(const std::function<bool()>& condition);

// Fails the test unless every span that began is accounted for, exactly, and none is malformed.
// Nothing was drained.
void check_balance(const Rings& rings);

}  // namespace oteld::test
