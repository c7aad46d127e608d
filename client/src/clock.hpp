// Reads the clock as it goes into records: TSC ticks where the kernel itself trusts the TSC, else
// CLOCK_MONOTONIC.
//
// Used by: the span path. Threads: any. The daemon converts; the client never does.
#pragma once

#include "oteld/detail/record.hpp"

#include <ctime>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace oteld::sdk {

// Set once before the first lane is claimed.
extern bool clock_is_tsc;
void choose_clock() noexcept;

inline std::uint64_t clock_ns(clockid_t clock) noexcept {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1000000000U +
           static_cast<std::uint64_t>(now.tv_nsec);
}

inline std::uint64_t ticks() noexcept {
#if defined(__x86_64__)
    if (__builtin_expect(clock_is_tsc, 1)) return __rdtsc();
#endif
    return clock_ns(CLOCK_MONOTONIC);
}

inline std::uint64_t now() noexcept { return ticks() | detail::time_is_ticks; }

}  // namespace oteld::sdk
