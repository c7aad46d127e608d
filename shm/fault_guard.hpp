// Survives a file that shrinks under a mapping: SIGBUS in a guarded range becomes zero pages and a
// flag.
//
// Used by: segment_map.cpp for every mapping of a file that somebody else can truncate.
// Threads: any. The signal handler only reads atomics and maps anonymous pages over the rest of the
// range; the reader goes on over zeroes, which no record starts with, and finds `truncated()` set.
// Never hides a fault outside a guarded range: the previous handler gets it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace oteld::shm {

// SIGBUS that this process has survived so far, in all ranges.
[[nodiscard]] std::uint64_t faults_survived() noexcept;

class FaultGuard {
public:
    FaultGuard() = default;
    // Watches [begin, begin + bytes). Installs the handler of this process with the first range.
    FaultGuard(const void* begin, std::size_t bytes) noexcept;
    FaultGuard(FaultGuard&& other) noexcept;
    FaultGuard& operator=(FaultGuard&& other) noexcept;
    FaultGuard(const FaultGuard&) = delete;
    FaultGuard& operator=(const FaultGuard&) = delete;
    ~FaultGuard();

    // False when all places are taken: then do not read the mapping.
    [[nodiscard]] bool watching() const noexcept { return index_ >= 0; }
    [[nodiscard]] bool truncated() const noexcept;

private:
    int index_ = -1;
};

}  // namespace oteld::shm
