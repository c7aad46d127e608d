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

// Pages of files that nobody has looked at for a while count as used, and a program that reads
// large files has as many as it may; but the kernel takes them back before it kills.
std::uint64_t idle_file_bytes(const char* path, const char* key) noexcept {
    char text[4096] = "\n";
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    const ssize_t got = read(fd, text + 1, sizeof text - 2);
    close(fd);
    const char* found = got > 0 ? std::strstr(text, key) : nullptr;
    return found == nullptr ? 0 : std::strtoull(found + std::strlen(key), nullptr, 10);
}

// The files of one kind of cgroup.
struct Files {
    const char* root;
    const char* limit;
    const char* used;
    const char* idle;  // In memory.stat, with the group's children.
};
constexpr Files version_2{"/sys/fs/cgroup", "memory.max", "memory.current", "\ninactive_file "};
constexpr Files version_1{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                          "\ntotal_inactive_file "};

struct Memory {
    std::uint64_t limit = unlimited;  // The smallest of the groups that the process is in.
    std::uint64_t headroom =
        unlimited;  // At its limit the kernel kills who allocates, so a sixteenth stays free.
};

// The process's own group and those above it, up to the root of what it sees: each may hold a
// limit. In a container the first paths often do not exist.
void look(Memory& memory, const Files& files, const char* group) noexcept {
    char path[1024];
    char where[512];
    std::snprintf(where, sizeof where, "%s", group);
    for (;;) {
        std::snprintf(path, sizeof path, "%s%s/%s", files.root, where, files.limit);
        const std::uint64_t limit = number_in(path);
        std::snprintf(path, sizeof path, "%s%s/%s", files.root, where, files.used);
        std::uint64_t used = limit == unlimited ? unlimited : number_in(path);
        if (used != unlimited) {
            std::snprintf(path, sizeof path, "%s%s/memory.stat", files.root, where);
            const std::uint64_t idle = idle_file_bytes(path, files.idle);
            used -= idle < used ? idle : used;
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
        if (std::strncmp(line, "0::", 3) == 0) look(memory, version_2, line + 3);
        if (const char* group = std::strstr(line, ":memory:")) look(memory, version_1, group + 8);
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
