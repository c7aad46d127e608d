// Reads the clock as it goes into records: TSC ticks where the kernel itself trusts the TSC, else
// CLOCK_MONOTONIC.
//
// Used by: the span path. Threads: any. The daemon converts; the client never does.
#pragma once

#include "oteld/detail/record.hpp"

#include <atomic>
#include <ctime>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace oteld::sdk {

// Set before the first lane is claimed; twice to the same value by threads that record first at the
// same time.
extern std::atomic<bool> clock_is_tsc;
void choose_clock() noexcept;

inline std::uint64_t clock_ns(clockid_t clock) noexcept {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1000000000U +
           static_cast<std::uint64_t>(now.tv_nsec);
}

inline std::uint64_t ticks() noexcept {
#if defined(__x86_64__)
    if (__builtin_expect(clock_is_tsc.load(std::memory_order_relaxed), 1)) return __rdtsc();
#endif
    return clock_ns(CLOCK_MONOTONIC);
}

inline std::uint64_t now() noexcept { return ticks() | detail::time_is_ticks; }

// Whether quick_now() is now(): there it needs no test, and where there is a TSC no call.
inline bool clock_is_quick() noexcept {
#if defined(__x86_64__)
    return clock_is_tsc.load(std::memory_order_relaxed);
#else
    return true;
#endif
}

inline std::uint64_t quick_now() noexcept {
#if defined(__x86_64__)
    return __rdtsc() | detail::time_is_ticks;
#else
    return now();
#endif
}

}  // namespace oteld::sdk
