#include "shm/segment_create.hpp"

#include "shm/file_lock.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace oteld::shm {
namespace {

std::uint64_t rounded(std::uint64_t bytes, std::uint64_t to) noexcept {
    return (bytes + to - 1) / to * to;
}

CreateError from_errno(int error) noexcept {
    switch (error) {
        case ENOENT:
        case ENOTDIR: return CreateError::no_directory;
        case EACCES:
        case EPERM:
        case EROFS:
        case ELOOP: return CreateError::permission;
        case ENOSPC:
        case EDQUOT: return CreateError::full;
        case EFBIG: return CreateError::file_size_limit;
        default: return CreateError::io;
    }
}

// A directory that was named may be a link, like one that the daemon is given.
int open_directory(const char* path, int more_flags) noexcept {
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK | more_flags);
}

// Makes its pages present, so that the span path takes no page fault. Older kernels: touch each
// page.
void populate(std::uint8_t* address, std::uint64_t bytes, std::uint64_t page) noexcept {
    if (madvise(address, bytes, MADV_POPULATE_WRITE) == 0) return;
    for (std::uint64_t at = 0; at < bytes; at += page) {
        auto* byte = reinterpret_cast<volatile std::uint8_t*>(address + at);
        *byte = *byte;
    }
}

bool map_piece(const Segment& segment, std::uint64_t memory_offset, std::uint64_t file_offset,
               std::uint64_t bytes) noexcept {
    std::uint8_t* want = segment.base + memory_offset;
    void* got = mmap(want, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, segment.fd,
                     static_cast<off_t>(file_offset));
    if (got == MAP_FAILED) return false;
    // A child must not write into its parent's ring: it finds its lane state empty and makes a ring
    // of its own.
    if (madvise(want, bytes, MADV_DONTFORK) != 0) return false;
    populate(want, bytes, segment.page_bytes);
    return true;
}

bool map_private_page(const Segment& segment, std::uint32_t lane) noexcept {
    std::uint8_t* want = segment.private_page(lane);
    void* got = mmap(want, segment.page_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (got == MAP_FAILED || madvise(want, segment.page_bytes, MADV_WIPEONFORK) != 0) return false;
    want[0] = 0;  // Present from the start.
    return true;
}

bool map_segment(Segment& segment, std::uint32_t lanes, std::uint64_t file_stride) noexcept {
    const std::uint64_t bytes = segment.lanes_offset + lanes * segment.stride;
    void* base =
        mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return false;
    segment.base = static_cast<std::uint8_t*>(base);
    if (!map_piece(segment, 0, 0, segment.lanes_offset)) return false;
    for (std::uint32_t i = 0; i < lanes; ++i) {
        if (!map_piece(segment, segment.lanes_offset + i * segment.stride,
                       segment.lanes_offset + i * file_stride, file_stride) ||
            !map_private_page(segment, i)) {
            return false;
        }
    }
    return true;
}

void read_boot_id(std::uint8_t (&id)[16]) noexcept {
    char text[40] = {};
    const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    const ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    unsigned digits = 0;
    for (ssize_t i = 0; i < got && digits < 32; ++i) {
        const char c = text[i];
        unsigned value = 0;
        if (c >= '0' && c <= '9')
            value = static_cast<unsigned>(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = static_cast<unsigned>(c - 'a' + 10);
        else
            continue;
        id[digits / 2] = static_cast<std::uint8_t>(id[digits / 2] << 4 | value);
        ++digits;
    }
}

void fill_header(const Geometry& geometry, const SegmentIdentity& identity,
                 Segment& segment) noexcept {
    SegmentHeader& header = *segment.header;
    header.magic = segment_magic;
    header.major = layout_major;
    header.minor = layout_minor;
    header.header_bytes = sizeof(SegmentHeader);
    header.file_bytes = segment.file_bytes;
    header.page_bytes = static_cast<std::uint32_t>(segment.page_bytes);
    header.lane_count = geometry.lanes;
    header.tables_offset = segment.tables_offset;
    header.tables_bytes = segment.tables_bytes;
    header.daemon_offset =
        static_cast<std::uint64_t>(reinterpret_cast<std::uint8_t*>(segment.daemon) - segment.base);
    header.daemon_bytes =
        rounded(sizeof(DaemonSegment) + geometry.lanes * sizeof(DaemonLane), segment.page_bytes);
    header.lanes_offset = segment.lanes_offset;
    header.lane_stride = geometry.lane_stride(segment.page_bytes);
    std::memcpy(header.slot_count, geometry.slot_count, sizeof header.slot_count);
    std::memcpy(header.slot_bytes, geometry.slot_bytes, sizeof header.slot_bytes);
    header.data_offset = segment.data_offset;
    header.data_bytes = geometry.data_bytes;
    header.producer_offset = segment.producer_offset;
    header.lock_offset = static_cast<std::uint32_t>(segment.page_bytes - 8);
    header.segment_index = identity.segment_index;
    read_boot_id(header.boot_id);
    std::memcpy(header.process_id, identity.process_id, sizeof header.process_id);
    header.pid = static_cast<std::uint32_t>(getpid());
    header.clock_kind = static_cast<std::uint32_t>(identity.clock);
    header.anchor_ticks = identity.anchor_ticks;
    header.anchor_monotonic_ns = identity.anchor_monotonic_ns;
    header.anchor_realtime_ns = identity.anchor_realtime_ns;
    std::memcpy(header.executable, identity.executable, sizeof header.executable);
}

void file_name(const SegmentIdentity& identity, const char* suffix, char (&name)[48]) noexcept {
    static constexpr char digits[] = "0123456789abcdef";
    std::size_t at = 0;
    for (const std::uint8_t byte : identity.name) {
        name[at++] = digits[byte >> 4];
        name[at++] = digits[byte & 15];
    }
    std::strcpy(name + at, suffix);
}

CreateError check_file_size_limit(std::uint64_t bytes) noexcept {
    struct rlimit limit {};  // Beyond it posix_fallocate raises SIGXFSZ.
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        limit.rlim_cur < bytes) {
        return CreateError::file_size_limit;
    }
    return CreateError::none;
}

struct Candidate {
    char name[48];
    std::uint64_t age_key;  // Time of the last change of its inode, about when it was made.
    std::uint64_t bytes;
    std::uint64_t spans;  // That began and are not accounted for; modulo 2^64.
};

// The oldest ones, oldest first.
struct Oldest {
    static constexpr std::size_t count_max = 16;  // Bounded work in an application's slow path.
    Candidate list[count_max];
    std::size_t count = 0;

    [[nodiscard]] bool wants(std::uint64_t age_key) const noexcept {
        return count < count_max || age_key < list[count - 1].age_key;
    }
    void add(const Candidate& candidate) noexcept {
        if (count < count_max) ++count;
        std::size_t at = count - 1;
        for (; at > 0 && list[at - 1].age_key > candidate.age_key; --at) list[at] = list[at - 1];
        list[at] = candidate;
    }
};

// What a pass looks for, and where.
struct Search {
    int directory;
    const std::vector<FileId>& own;
    std::uint64_t live_generation;
};

// A file of this user's that nobody holds: no lane word with an owner, no lock on the file, and no
// living daemon that drains it.
bool dead_segment(int fd, const SegmentHeader& header, const std::uint8_t* map, std::uint64_t bytes,
                  std::uint64_t live_generation, std::uint64_t& spans) noexcept {
    const bool unmapped =
        header.mapping_lock != 0 && lock_is_free(fd, F_OFD_GETLK, mapping_lock_at);
    if (!unmapped && !lock_is_free(fd, F_GETLK, owner_lock_at)) return false;
    if (header.daemon_offset > bytes - sizeof(DaemonSegment)) return false;
    DaemonSegment daemon_segment;
    std::memcpy(&daemon_segment, map + header.daemon_offset, sizeof daemon_segment);
    if (live_generation != 0 && daemon_segment.control_generation == live_generation) return false;
    const auto counted = [&](ProcessCounter counter) {
        return header.counters[static_cast<std::uint32_t>(counter)];
    };
    // What it had removed itself has been counted nowhere else.
    spans = counted(ProcessCounter::reclaimed_spans) - counted(ProcessCounter::dropped_no_lane);
    for (std::uint32_t i = 0; i < header.lane_count; ++i) {
        const std::uint64_t producer =
            header.lanes_offset + i * header.lane_stride + header.producer_offset;
        const std::uint64_t daemon =
            header.daemon_offset + sizeof(DaemonSegment) + i * sizeof(DaemonLane);
        if (producer > bytes - sizeof(LaneProducer) || daemon > bytes - sizeof(DaemonLane))
            return false;
        LaneProducer lane;
        DaemonLane drained;
        std::memcpy(&lane, map + producer, sizeof lane);
        std::memcpy(&drained, map + daemon, sizeof drained);
        if (!unmapped && (lane.lock_words[0] & lock_tid_mask) != 0 &&
            (lane.lock_words[0] & lock_owner_died) == 0)
            return false;
        spans += lane.begun - drained.drained - drained.malformed;
        for (const std::uint64_t count : lane.dropped) spans -= count;
    }
    return true;
}

// A ring of this user's other processes that is old enough, by name: it is not opened.
bool worth_a_look(const Search& search, const char* name, const Oldest& oldest,
                  Candidate& candidate) noexcept {
    struct stat file {};
    if (std::strlen(name) != 32 + sizeof ring_suffix - 1 ||
        std::strcmp(name + 32, ring_suffix) != 0 ||
        fstatat(search.directory, name, &file, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(file.st_mode) || file.st_uid != geteuid())
        return false;
    for (const FileId& id : search.own) {
        if (id.device == file.st_dev && id.inode == file.st_ino) return false;
    }
    std::strcpy(candidate.name, name);
    candidate.age_key = static_cast<std::uint64_t>(file.st_ctim.tv_sec) * 1000000000U +
                        static_cast<std::uint64_t>(file.st_ctim.tv_nsec);
    return oldest.wants(candidate.age_key);
}

bool examine(const Search& search, Candidate& candidate) noexcept {
    const int fd =
        openat(search.directory, candidate.name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return false;
    bool dead = false;
    struct stat file {};
    if (fstat(fd, &file) == 0 && S_ISREG(file.st_mode) &&
        file.st_size >= static_cast<off_t>(sizeof(SegmentHeader))) {
        const auto bytes = static_cast<std::uint64_t>(file.st_size);
        void* map = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (map != MAP_FAILED) {
            SegmentHeader header;
            std::memcpy(&header, map, sizeof header);
            if (header.magic == segment_magic && header.major == layout_major &&
                header.lane_count <= lanes_max && header.file_bytes == bytes &&
                header.lane_stride <= bytes && header.lanes_offset <= bytes &&
                header.producer_offset <= bytes && header.daemon_offset <= bytes) {
                dead = dead_segment(fd, header, static_cast<const std::uint8_t*>(map), bytes,
                                    search.live_generation, candidate.spans);
            }
            munmap(map, bytes);
        }
        candidate.bytes = bytes;
    }
    close(fd);
    return dead;
}

void find_oldest_dead(const Search& search, Oldest& oldest) noexcept {
    const int copy = openat(search.directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* list = copy < 0 ? nullptr : fdopendir(copy);
    if (list == nullptr) {
        if (copy >= 0) close(copy);
        return;
    }
    constexpr int names_max = 4096;
    int names = 0;
    while (const dirent* entry = readdir(list)) {
        if (++names > names_max) break;
        Candidate candidate{};
        if (worth_a_look(search, entry->d_name, oldest, candidate) && examine(search, candidate))
            oldest.add(candidate);
    }
    closedir(list);
}

}  // namespace

CreateError open_ring_directory(RingDirectory& directory, const char* preferred) noexcept {
    char personal[64];
    std::snprintf(personal, sizeof personal, "/dev/shm/oteld-%u", static_cast<unsigned>(geteuid()));
    const bool named = preferred != nullptr && *preferred != 0;
    bool is_personal = named && std::strcmp(preferred, personal) == 0;
    int fd = open_directory(named ? preferred : "/run/oteld", is_personal ? O_NOFOLLOW : 0);
    if (fd < 0 && !named) {
        fd = open_directory(personal, O_NOFOLLOW);
        is_personal = true;
    }
    if (fd < 0) return from_errno(errno);
    struct stat facts {};
    directory.fd = fd;
    if (fstat(fd, &facts) != 0 || !look_at_room(directory)) {
        directory.fd = -1;
        close(fd);
        return CreateError::io;
    }
    // The personal directory counts only when nobody else could have made or changed it.
    if (is_personal && (facts.st_uid != geteuid() || (facts.st_mode & 0777) != 0700)) {
        directory.fd = -1;
        close(fd);
        return CreateError::permission;
    }
    directory.owner = facts.st_uid;
    directory.sticky = (facts.st_mode & S_ISVTX) != 0;
    directory.group_readable = (facts.st_mode & S_ISGID) != 0;
    return CreateError::none;
}

bool look_at_room(RingDirectory& directory) noexcept {
    struct statvfs space {};
    if (fstatvfs(directory.fd, &space) != 0) return false;
    directory.bytes = static_cast<std::uint64_t>(space.f_blocks) * space.f_frsize;
    directory.bytes_free = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
    if (space.f_blocks == 0) directory.bytes_free = UINT64_MAX;
    struct stat spool {};
    const bool there = fstatat(directory.fd, spool_name, &spool, AT_SYMLINK_NOFOLLOW) == 0 &&
                       (spool.st_uid == directory.owner || spool.st_uid == 0);
    directory.spool_bytes = there ? static_cast<std::uint64_t>(spool.st_blocks) * 512 : 0;
    return true;
}

std::uint64_t Geometry::lane_stride(std::uint64_t page) const noexcept {
    std::uint64_t slots = 0;
    for (std::uint32_t i = 0; i < slot_classes; ++i)
        slots += static_cast<std::uint64_t>(slot_count[i]) * slot_bytes[i];
    return rounded(slots, page) + rounded(data_bytes, page) + rounded(sizeof(LaneProducer), page);
}

std::uint64_t Geometry::file_bytes(std::uint64_t page) const noexcept {
    return rounded(sizeof(SegmentHeader), page) + rounded(tables_bytes, page) +
           rounded(sizeof(DaemonSegment) + lanes * sizeof(DaemonLane), page) +
           lanes * lane_stride(page);
}

CreateError create_segment(const RingDirectory& directory, const Geometry& geometry,
                           const SegmentIdentity& identity, Segment& segment) noexcept {
    const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    const std::uint64_t file_stride = geometry.lane_stride(page);
    segment = {};
    segment.page_bytes = page;
    segment.stride = file_stride + page;
    segment.lanes = geometry.lanes;
    segment.file_bytes = geometry.file_bytes(page);
    segment.tables_offset = rounded(sizeof(SegmentHeader), page);
    segment.tables_bytes = rounded(geometry.tables_bytes, page);
    const std::uint64_t daemon_offset = segment.tables_offset + segment.tables_bytes;
    segment.lanes_offset = segment.file_bytes - geometry.lanes * file_stride;
    segment.producer_offset = file_stride - rounded(sizeof(LaneProducer), page);
    segment.data_offset = segment.producer_offset - rounded(geometry.data_bytes, page);
    if (const CreateError error = check_file_size_limit(segment.file_bytes);
        error != CreateError::none)
        return error;

    char temporary[48];
    file_name(identity, temporary_suffix, temporary);
    // Without /proc a nameless file cannot be given its name later: take a temporary one, which the
    // daemon cleans up.
    if (access("/proc/self/fd", X_OK) == 0)
        segment.fd = openat(directory.fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (segment.fd < 0) {
        segment.fd = openat(directory.fd, temporary,
                            O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (segment.fd < 0) return from_errno(errno);
        segment.temporary = true;
    }
    const int error = posix_fallocate(segment.fd, 0, static_cast<off_t>(segment.file_bytes));
    struct stat facts {};
    if (error != 0 || !map_segment(segment, geometry.lanes, file_stride) ||
        fstat(segment.fd, &facts) != 0 || !take_lock(segment.fd, F_SETLK, owner_lock_at)) {
        if (segment.temporary) unlinkat(directory.fd, temporary, 0);
        unmap_segment(segment);
        return error != 0 ? from_errno(error) : CreateError::io;
    }
    segment.device = facts.st_dev;
    segment.inode = facts.st_ino;
    segment.header = reinterpret_cast<SegmentHeader*>(segment.base);
    segment.daemon = reinterpret_cast<DaemonSegment*>(segment.base + daemon_offset);
    segment.daemon_lanes = reinterpret_cast<DaemonLane*>(segment.daemon + 1);
    fill_header(geometry, identity, segment);
    // Kernels before 3.15 know none: then the words alone count, as for everybody who is not sure.
    segment.header->mapping_lock = take_lock(segment.fd, F_OFD_SETLK, mapping_lock_at) ? 1 : 0;
    return CreateError::none;
}

CreateError publish_segment(const RingDirectory& directory, const SegmentIdentity& identity,
                            Segment& segment) noexcept {
    char name[48];
    char self[40];
    file_name(identity, ring_suffix, name);
    std::snprintf(self, sizeof self, "/proc/self/fd/%d", segment.fd);
    (void)fchmod(segment.fd, directory.group_readable ? 0660 : 0600);
    if (segment.temporary) {
        char temporary[48];
        file_name(identity, temporary_suffix, temporary);
        return renameat(directory.fd, temporary, directory.fd, name) == 0 ? CreateError::none
                                                                          : from_errno(errno);
    }
    return linkat(AT_FDCWD, self, directory.fd, name, AT_SYMLINK_FOLLOW) == 0 ? CreateError::none
                                                                              : from_errno(errno);
}

void unmap_segment(Segment& segment) noexcept {
    if (segment.base != nullptr)
        munmap(segment.base, segment.lanes_offset + segment.lanes * segment.stride);
    if (segment.fd >= 0) close(segment.fd);
    segment = {};
}

bool append_table(Segment& segment, TableKind kind, std::uint16_t index, std::uint16_t resource,
                  const void* schema_url, std::size_t schema_url_bytes, const void* message,
                  std::size_t message_bytes) noexcept {
    const std::uint64_t bytes = table_entry_bytes(schema_url_bytes, message_bytes);
    if (schema_url_bytes > UINT16_MAX || bytes > segment.tables_bytes - segment.tables_end)
        return false;
    std::uint8_t* at = segment.base + segment.tables_offset + segment.tables_end;
    const TableEntry entry{static_cast<std::uint32_t>(bytes),
                           static_cast<std::uint16_t>(kind),
                           index,
                           resource,
                           static_cast<std::uint16_t>(schema_url_bytes),
                           static_cast<std::uint32_t>(message_bytes)};
    std::memcpy(at, &entry, sizeof entry);
    if (schema_url_bytes != 0) std::memcpy(at + sizeof entry, schema_url, schema_url_bytes);
    if (message_bytes != 0)
        std::memcpy(at + sizeof entry + schema_url_bytes, message, message_bytes);
    segment.tables_end += bytes;
    // Release: pairs with the daemon's acquire; the entry is complete before its end is seen.
    __atomic_store_n(&segment.header->tables_end, segment.tables_end, __ATOMIC_RELEASE);
    return true;
}

Reclaimed reclaim_dead_segments(const RingDirectory& directory, const RoomToMake& room,
                                const std::vector<FileId>& own,
                                std::uint64_t live_generation) noexcept {
    Oldest oldest;
    find_oldest_dead({directory.fd, own, live_generation}, oldest);
    Reclaimed reclaimed;
    std::uint64_t possible = 0;
    for (std::size_t i = 0; i < oldest.count; ++i) possible += oldest.list[i].bytes;
    if (possible < room.least) return reclaimed;
    std::uint64_t spans = 0;
    for (std::size_t i = 0; i < oldest.count && reclaimed.bytes < room.wanted; ++i) {
        const Candidate& candidate = oldest.list[i];
        if (unlinkat(directory.fd, candidate.name, 0) != 0) continue;  // Somebody was faster.
        reclaimed.bytes += candidate.bytes;
        ++reclaimed.files;
        spans += candidate.spans;
    }
    // Spans may end in another file than they began in: a sum below 0 has its other half elsewhere.
    reclaimed.spans = static_cast<std::int64_t>(spans) > 0 ? spans : 0;
    return reclaimed;
}

}  // namespace oteld::shm
