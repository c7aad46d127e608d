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
    std::uint64_t limit = unlimited;  // The smallest of the groups that the process is in.
    std::uint64_t headroom =
        unlimited;  // At its limit the kernel kills who allocates, so a sixteenth stays free.
};

// The process's own group and those above it, up to the root of what it sees: each may hold a
// limit. In a container the first paths often do not exist.
void look(Memory& memory, const char* root, const char* group, const char* limit_file,
          const char* used_file) noexcept {
    char path[1024];
    char where[512];
    std::snprintf(where, sizeof where, "%s", group);
    for (;;) {
        std::snprintf(path, sizeof path, "%s%s/%s", root, where, limit_file);
        const std::uint64_t limit = number_in(path);
        std::snprintf(path, sizeof path, "%s%s/%s", root, where, used_file);
        const std::uint64_t used = limit == unlimited ? unlimited : number_in(path);
        if (used != unlimited) {
            const std::uint64_t usable = limit - limit / 16;
            const std::uint64_t headroom = used < usable ? usable - used : 0;
            if (limit < memory.limit) memory.limit = limit;
            if (headroom < memory.headroom) memory.headroom = headroom;
        }
        char* last = std::strrchr(where, '/');
        if (last == nullptr) return;
        *last = 0;
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
        if (std::strncmp(line, "0::", 3) == 0)
            look(memory, "/sys/fs/cgroup", line + 3, "memory.max", "memory.current");
        if (const char* group = std::strstr(line, ":memory:")) {
            look(memory, "/sys/fs/cgroup/memory", group + 8, "memory.limit_in_bytes",
                 "memory.usage_in_bytes");
        }
    }
    return memory;
}

}  // namespace

std::uint64_t ring_bytes_max() noexcept {
    const Memory memory = memory_of_cgroup();
    return memory.limit / 16 < shm::segment_bytes_max ? memory.limit / 16 : shm::segment_bytes_max;
}

bool memory_allows(std::uint64_t bytes) noexcept { return bytes <= memory_of_cgroup().headroom; }

}  // namespace oteld::sdk
