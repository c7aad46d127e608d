#include "clock.hpp"

#include "random.hpp"

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <cstring>

namespace oteld::sdk {

constinit std::atomic<bool> clock_is_tsc{false};

void choose_clock() noexcept {
    char name[16] = {};
    const int fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
                        O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    const ssize_t got = read(fd, name, sizeof name - 1);
    close(fd);
#if defined(__x86_64__)
    clock_is_tsc.store(
        got >= 3 && std::memcmp(name, "tsc", 3) == 0 && (name[3] == '\n' || name[3] == 0),
        std::memory_order_relaxed);
#else
    (void)got;
#endif
}

void Random::seed() noexcept {
    if (getrandom(state, sizeof state, GRND_NONBLOCK) == static_cast<ssize_t>(sizeof state)) return;
    // Early boot or a sandbox: weaker, but distinct for each thread and process.
    state[0] = clock_ns(CLOCK_REALTIME) ^ reinterpret_cast<std::uintptr_t>(this) << 16;
    state[1] = (clock_ns(CLOCK_MONOTONIC) * 0x9E3779B97F4A7C15ULL ^
                static_cast<std::uint64_t>(getpid()) << 32) |
               1U;
    for (int i = 0; i < 16; ++i) next();
}

}  // namespace oteld::sdk
