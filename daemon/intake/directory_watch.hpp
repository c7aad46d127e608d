// Says which ring files there are and which are new: inotify, and a scan now and then for what it
// missed.
//
// Used by: intake.cpp. Threads: drain thread only. Never waits. Opens no ring file; it only knows
// names.
#pragma once

#include "shm/ring_directory.hpp"

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace oteld::daemon {

struct RingName {
    std::string name;
    std::uint64_t inode = 0;  // As a listing says; 0: not from one.
};

class DirectoryWatch {
public:
    using Time = std::chrono::nanoseconds;  // Monotonic.
    static constexpr Time scan_interval = std::chrono::seconds(10);

    explicit DirectoryWatch(const shm::DirectoryHandle& directory);

    // Names of ring files that may be new since the last call. At first, after an overflow and
    // every ten seconds (every second where no inotify is to be had) these are all of them, as soon
    // as the caller is done with what it had: `may_scan`.
    [[nodiscard]] std::vector<RingName> look(Time now, bool may_scan);

    // Removes what segments that were never finished have left behind: temporary names older than a
    // minute, so many at a time.
    void clean_up() const;

private:
    [[nodiscard]] std::vector<RingName> names(const char* suffix) const;

    const shm::DirectoryHandle& directory_;
    shm::UniqueFd inotify_;
    Time next_scan_{0};
};

}  // namespace oteld::daemon
