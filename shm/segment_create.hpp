// Creates a segment file complete and maps it: the client's half of shm. The daemon's half is
// segment_map.hpp.
//
// Used by: the client's slow path. Threads: any; functions without state. System calls only, no
// Boost, no libc beyond the C library's wrappers. Never leaves a half-made file under a `.ring`
// name, never raises SIGBUS, SIGXFSZ or the out-of-memory killer in the application: it looks
// before it allocates.
//
// In memory each lane is followed by one private page that the file does not have: it holds what a
// fork's child must find empty (MADV_WIPEONFORK) and what the daemon must not see. The lane's
// robust mutex straddles the boundary: its first 8 bytes are the last of the producer page, the
// rest (libc's list pointers) is private.
#pragma once

#include "shm/layout.hpp"

#include <sys/types.h>
#include <cstdint>
#include <vector>

namespace oteld::shm {

inline constexpr std::size_t path_bytes_max = 256;

// The ring directory, as a client finds it. Never created by a client.
struct RingDirectory {
    int fd = -1;          // Open while a segment is being made, else -1.
    bool sticky = false;  // Others may plant files here that they do not own.
    bool group_readable =
        false;  // setgid: files are 0660 and the daemon's group can drain them; else 0600.
    uid_t owner = 0;
    std::uint64_t bytes = 0;  // Of its file system ...
    std::uint64_t bytes_free = 0;
    std::uint64_t spool_bytes = 0;  // What a daemon's spool takes of it; 0: none has been here.
};

enum class CreateError { none, no_directory, permission, file_size_limit, memory_limit, full, io };

// $OTELD_DIR (not in setuid programs), else /run/oteld, else /dev/shm/oteld-<uid>; only the last is
// refused when it is a link. The caller closes `fd`.
[[nodiscard]] CreateError open_ring_directory(RingDirectory& directory,
                                              const char* preferred) noexcept;

struct Geometry {
    std::uint32_t lanes = 2;
    std::uint64_t data_bytes = 128 << 10;
    std::uint32_t slot_count[slot_classes] = {32, 2, 1};
    std::uint32_t slot_bytes[slot_classes] = {512, 4096, 16384};
    std::uint64_t tables_bytes = 16 << 10;

    [[nodiscard]] std::uint64_t lane_stride(std::uint64_t page) const noexcept;
    [[nodiscard]] std::uint64_t file_bytes(std::uint64_t page) const noexcept;
};

struct Segment {
    std::uint8_t* base = nullptr;
    std::uint64_t page_bytes = 0;
    std::uint64_t stride = 0;  // In memory: the lane's stride in the file and one private page.
    SegmentHeader* header = nullptr;
    DaemonSegment* daemon = nullptr;
    DaemonLane* daemon_lanes = nullptr;
    std::uint64_t file_bytes = 0;
    std::uint32_t lanes = 0;
    bool temporary = false;  // Has a temporary name until it is published.
    // Private copies: what lies in shared memory is never read back to find an address.
    std::uint64_t lanes_offset = 0;
    std::uint64_t tables_offset = 0;
    std::uint64_t tables_bytes = 0;
    std::uint64_t tables_end = 0;
    std::uint64_t producer_offset = 0;
    std::uint64_t data_offset = 0;
    int fd = -1;  // Holds the file's write lock for as long as the process lives; CLOEXEC.
    dev_t device = 0;
    ino_t inode = 0;

    [[nodiscard]] std::uint8_t* lane(std::uint32_t index) const noexcept {
        return base + lanes_offset + index * stride;
    }
    [[nodiscard]] LaneProducer* producer(std::uint32_t index) const noexcept {
        return reinterpret_cast<LaneProducer*>(lane(index) + producer_offset);
    }
    [[nodiscard]] std::uint8_t* private_page(std::uint32_t index) const noexcept {
        return lane(index) + stride - page_bytes;
    }
};

// What the header says about the process; filled by the client.
struct SegmentIdentity {
    std::uint8_t process_id[16];
    std::uint32_t segment_index;
    ClockKind clock;
    std::uint64_t anchor_ticks, anchor_monotonic_ns, anchor_realtime_ns;
    char executable[64];
    std::uint8_t name[16];  // Random; becomes the file's name.
};

// What is free now. A file system that names no size has no end.
[[nodiscard]] bool look_at_room(RingDirectory& directory) noexcept;

// Makes, fills, locks and maps the file without a name yet; publish_segment() gives it its name.
[[nodiscard]] CreateError create_segment(const RingDirectory& directory, const Geometry& geometry,
                                         const SegmentIdentity& identity,
                                         Segment& segment) noexcept;
[[nodiscard]] CreateError publish_segment(const RingDirectory& directory,
                                          const SegmentIdentity& identity,
                                          Segment& segment) noexcept;
void unmap_segment(Segment& segment) noexcept;

[[nodiscard]] constexpr std::uint64_t table_entry_bytes(std::size_t schema_url_bytes,
                                                        std::size_t message_bytes) noexcept {
    return (sizeof(TableEntry) + schema_url_bytes + message_bytes + 7) & ~std::uint64_t{7};
}

// Appends to the table log and publishes it. False: the table is full.
bool append_table(Segment& segment, TableKind kind, std::uint16_t index, std::uint16_t resource,
                  const void* schema_url, std::size_t schema_url_bytes, const void* message,
                  std::size_t message_bytes) noexcept;

// Removes this user's oldest dead segments until `wanted` bytes are gone, a few at most; none where
// not even `least` would be. Returns how much went and, by their counters, how many spans that had
// begun, were not dropped, and that no daemon had drained: finished or open.
struct RoomToMake {
    std::uint64_t least = 0;
    std::uint64_t wanted = 0;
};
struct Reclaimed {
    std::uint64_t files = 0;
    std::uint64_t spans = 0;
    std::uint64_t bytes = 0;
};
// `own`: the caller's segments. They are not even opened: closing a descriptor would free the
// file's lock. `live_generation`: of the control page of a daemon that lives; what it has mapped is
// left to it. 0: there is none.
struct FileId {
    dev_t device;
    ino_t inode;
};
[[nodiscard]] Reclaimed reclaim_dead_segments(const RingDirectory& directory,
                                              const RoomToMake& room,
                                              const std::vector<FileId>& own,
                                              std::uint64_t live_generation) noexcept;

}  // namespace oteld::shm
