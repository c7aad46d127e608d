// How much memory a process may take for its rings, seen from its memory cgroup (v2 or v1).

#include "process.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace oteld::sdk {
namespace {

constexpr std::uint64_t unlimited = UINT64_MAX;

// The number in a small file; "max" and absent files are unlimited.
std::uint64_t number_in(const char* path) noexcept {
    char text[32] = {};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return unlimited;
    const ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0 || text[0] < '0' || text[0] > '9') return unlimited;
    return std::strtoull(text, nullptr, 10);
}

struct Memory {
    std::uint64_t limit = unlimited;
    std::uint64_t used = 0;
};

void look(Memory& memory, const char* root, const char* group, const char* limit_file, const char* used_file) noexcept {
    char path[512];
    // The process's own group, then the root of what it sees: in a container the first path often does not exist.
    for (const char* where : {group, ""}) {
        std::snprintf(path, sizeof path, "%s%s/%s", root, where, limit_file);
        const std::uint64_t limit = number_in(path);
        if (limit >= memory.limit) continue;
        std::snprintf(path, sizeof path, "%s%s/%s", root, where, used_file);
        const std::uint64_t used = number_in(path);
        if (used == unlimited) continue;
        memory.limit = limit;
        memory.used = used;
    }
}

Memory memory_of_cgroup() noexcept {
    Memory memory;
    char text[4096] = {};
    const int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
        close(fd);
    }
    char* rest = text;
    while (char* line = strsep(&rest, "\n")) {
        if (std::strncmp(line, "0::", 3) == 0) look(memory, "/sys/fs/cgroup", line + 3, "memory.max", "memory.current");
        if (const char* group = std::strstr(line, ":memory:")) {
            look(memory, "/sys/fs/cgroup/memory", group + 8, "memory.limit_in_bytes", "memory.usage_in_bytes");
        }
    }
    return memory;
}

}  // namespace

std::uint64_t ring_bytes_max() noexcept {
    const Memory memory = memory_of_cgroup();
    return memory.limit / 16 < shm::segment_bytes_max ? memory.limit / 16 : shm::segment_bytes_max;
}

bool memory_allows(std::uint64_t bytes) noexcept {
    // At its limit the kernel kills the process that allocates, so a sixteenth stays free.
    const Memory memory = memory_of_cgroup();
    if (memory.limit == unlimited) return true;
    return memory.used + bytes <= memory.limit - memory.limit / 16;
}

}  // namespace oteld::sdk
