// Says which ring files there are and which are new: inotify, and a scan now and then for what it
// missed.
//
// Used by: intake.cpp. Threads: drain thread only. Never waits. Opens no ring file; it only knows
// names.
#pragma once

#include "shm/ring_directory.hpp"

#include <chrono>
#include <string>
#include <vector>

namespace oteld::daemon {

class DirectoryWatch {
public:
    using Time = std::chrono::nanoseconds;  // Monotonic.
    static constexpr Time scan_interval = std::chrono::seconds(10);

    explicit DirectoryWatch(const shm::DirectoryHandle& directory);

    // Names of ring files that may be new since the last call. At first, after an overflow and
    // every ten seconds (every second where no inotify is to be had) these are all of them.
    [[nodiscard]] std::vector<std::string> look(Time now);

    // Removes what segments that were never finished have left behind: temporary names older than a
    // minute.
    void clean_up() const;

private:
    [[nodiscard]] std::vector<std::string> names(const char* suffix) const;

    const shm::DirectoryHandle& directory_;
    shm::UniqueFd inotify_;
    Time next_scan_{0};
};

}  // namespace oteld::daemon
