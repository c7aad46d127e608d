// Says which ring files there are and which are new: inotify, and a scan now and then for what it
// missed.
//
// Used by: intake.cpp. Threads: drain thread only. Never waits. Opens no ring file; it only knows
// names.
#pragma once

#include "shm/ring_directory.hpp"

#include <dirent.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
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
    // The next scan comes within a second: a file could not be opened, for a reason that passes.
    void scan_soon(Time now) noexcept {
        next_scan_ = std::min(next_scan_, now + scan_interval_alone);
    }
    // What a limit of inotify withholds, "instance" or "watch": scans are all there is then. It is
    // tried again with each. Null: nothing.
    [[nodiscard]] const char* missing() const noexcept { return missing_; }

    // Removes what segments that were never finished have left behind: temporary names older than a
    // minute, so many at a time.
    void clean_up();

private:
    static constexpr Time scan_interval_alone = std::chrono::seconds(1);

    void watch();
    [[nodiscard]] std::vector<RingName> names(const char* suffix);

    const shm::DirectoryHandle& directory_;
    // For good: when descriptors have run out there would be none for a scan.
    std::unique_ptr<DIR, int (*)(DIR*)> listing_;
    shm::UniqueFd inotify_;
    const char* missing_ = nullptr;
    Time next_scan_{0};
};

}  // namespace oteld::daemon
