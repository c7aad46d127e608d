// A part of a test in a process of its own, because it dies in it or changes its process.
//
// Used by: tests/unit, tests/chaos. Threads: one.
#pragma once

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace oteld::test {

// waitpid()'s status. The body may end the child itself; when it returns, the child ends with 0.
template <class Body>
[[nodiscard]] int status_of_child(Body body) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        body();
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return status;
}

}  // namespace oteld::test
