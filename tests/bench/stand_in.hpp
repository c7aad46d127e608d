// Stands in for the daemon where a reader beside the writer would disturb what is measured.
#pragma once

#include "shm/layout.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

namespace oteld::bench {

// Calls `each` with the mapping of every segment in OTELD_DIR.
template <class Each>
void for_each_segment(Each each) {
    static std::map<std::string, std::uint8_t*> maps;
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    const char* directory = std::getenv("OTELD_DIR");
    DIR* list = directory == nullptr ? nullptr : opendir(directory);
    if (list == nullptr) return;
    while (const dirent* entry = readdir(list)) {
        const std::string name = entry->d_name;
        if (name.size() < sizeof shm::ring_suffix ||
            name.substr(name.size() - 5) != shm::ring_suffix)
            continue;
        std::uint8_t*& map = maps[name];
        if (map == nullptr) {
            const int file = openat(dirfd(list), entry->d_name, O_RDWR | O_CLOEXEC);
            struct stat facts {};
            if (file < 0 || fstat(file, &facts) != 0) continue;
            map = static_cast<std::uint8_t*>(mmap(nullptr, static_cast<std::size_t>(facts.st_size),
                                                  PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
            close(file);
        }
        each(map);
    }
    closedir(list);
}

// All that was written in the segments of OTELD_DIR counts as read.
inline void move_cursors() {
    for_each_segment([](std::uint8_t* map) {
        const auto* header = reinterpret_cast<const shm::SegmentHeader*>(map);
        for (std::uint32_t i = 0; i < header->lane_count; ++i) {
            const auto* producer = reinterpret_cast<const shm::LaneProducer*>(
                map + header->lanes_offset + i * header->lane_stride + header->producer_offset);
            auto* lane = reinterpret_cast<shm::DaemonLane*>(map + header->daemon_offset +
                                                            sizeof(shm::DaemonSegment)) +
                         i;
            __atomic_store_n(&lane->read_cursor,
                             __atomic_load_n(&producer->write_cursor, __ATOMIC_ACQUIRE),
                             __ATOMIC_RELEASE);
        }
    });
}

}  // namespace oteld::bench
