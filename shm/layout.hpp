// Every byte that client and daemon share: segment, lanes, slots, records, control page.
//
// Used by: the client's slow path and span path (writer half), the daemon and `oteld rings` (reader
// half). Threads: these are layouts only; who may write which field stands beside it. Never:
// pointers, size_t, bool, or a lock that anybody waits on. All integers are little-endian. The
// picture, the state tables and the memory-order pairs are in shm/README.md. A change here bumps
// `layout_major` or `layout_minor` and the golden bytes in tests/unit/shm/layout_test.cpp.
#pragma once

#include "oteld/detail/record.hpp"

#include <cstddef>
#include <cstdint>

namespace oteld::shm {

inline constexpr std::uint64_t segment_magic = 0x31474E5244544F;  // "OTDRNG1", zero-terminated.
inline constexpr std::uint16_t layout_major = 1;  // Unknown major: refused and named.
inline constexpr std::uint16_t layout_minor = 2;  // Unknown minor: readable.

inline constexpr std::uint32_t lanes_max = 1024;     // per segment
inline constexpr std::uint32_t slot_classes = 3;     // small, medium, large
inline constexpr std::uint32_t lane_slots_max = 64;  // over all classes: one 64-bit mask
inline constexpr std::uint64_t segment_bytes_max = 64ULL << 20;
inline constexpr std::uint64_t lane_data_bytes_max = 2ULL << 20;
inline constexpr std::uint32_t record_bytes_max =
    1000U << 10;  // Below half the largest lane and below a spool block.
inline constexpr std::uint32_t scopes_max = 4096;
inline constexpr std::uint32_t resources_max = 64;

// What the client's numbers in `lane.dropped[]` count. Names appear in `oteld status`. Append only.
enum class DropReason : std::uint32_t {
    ring_full = 0,  // The lane was full and could not grow.
    too_large = 1,  // Larger than half of the largest lane that its process may have.
    no_memory = 2,  // Beyond the slots, and the heap refused.
    reentrant = 3,  // A signal handler recorded while its thread was inside the client.
    orphaned = 4,   // end() after the span had been recovered as unfinished, or in another process.
    no_lane = 5,    // The thread that ended the span could not claim a lane.
    count_
};
inline constexpr std::uint32_t drop_reasons_max = 8;  // The daemon keeps the last to itself.

// Process-wide counters in the header, written by the client. Append only.
enum class ProcessCounter : std::uint32_t {
    reclaimed_files = 0,    // Dead segments of this user that this process removed to make room ...
    reclaimed_spans = 1,    // ... and what had begun in them and is not accounted for.
    not_crash_visible = 2,  // Spans that continued on the heap.
    scopes_overflowed = 3,  // A full table: the scope "overflow" was used instead.
    resources_overflowed = 4,
    bells = 5,           // Wake-ups of the daemon.
    growths = 6,         // Segments added.
    growth_refused = 7,  // A cap, a limit or a full file system stood in the way.
    raw_clones = 8,      // Children of a raw clone(2): they record nothing.
    misuses = 9,         // Scopes detached out of order or on another thread, and the like.
    heap_closed = 10,    // Spans of `heap_spans` that have ended.
    dropped_no_lane =
        11,              // Part of DropReason::no_lane: the ending thread had no lane to count in.
    begun_no_lane = 12,  // Begun, and dropped as no_lane at once: the thread found no lane.
    hook_failures =
        13,  // Exceptions that left a sampler, id generator or processor of the program.
    count_
};
inline constexpr std::uint32_t process_counters_max = 32;

enum class ClockKind : std::uint32_t { tsc = 1, monotonic = 2 };

// Bytes of the file that carry locks of fcntl(2): the process's, which goes with it, or with any of
// its descriptors of the file; and the open file description's, which goes when nobody has the file
// mapped or open that got it from the client. The first says that a process lives whose threads
// have all ended. The second, when free, that one is gone whose words are not: the kernel leaves
// the words of a thread that execs, if that is not the first one of its process.
inline constexpr std::int64_t owner_lock_at = 0;
inline constexpr std::int64_t mapping_lock_at = 1;

// Page 0 of a segment. Bytes 0..511 are written once, before the file gets its name.
struct SegmentHeader {
    std::uint64_t magic;
    std::uint16_t major;
    std::uint16_t minor;
    std::uint32_t header_bytes;   // sizeof(SegmentHeader) of the writer.
    std::uint64_t file_bytes;     // 16
    std::uint32_t page_bytes;     // 24
    std::uint32_t lane_count;     // 28
    std::uint64_t tables_offset;  // 32  Append-only log of TableEntry.
    std::uint64_t tables_bytes;   // 40
    std::uint64_t daemon_offset;  // 48  One DaemonSegment, then lane_count DaemonLane: the daemon's
                                  // only writable pages.
    std::uint64_t daemon_bytes;   // 56
    std::uint64_t lanes_offset;   // 64
    std::uint64_t lane_stride;    // 72
    std::uint32_t
        slot_count[slot_classes];  // 80   Slots lie at the start of a lane, class after class ...
    std::uint32_t slot_bytes[slot_classes];  // 92   ... each with a SlotControl in front.
    std::uint64_t data_offset;               // 104 In the lane.
    std::uint64_t data_bytes;       // 112 A power of two, or 0 in a segment with slots only.
    std::uint64_t producer_offset;  // 120 In the lane: a LaneProducer; the last thing of the lane.
    std::uint32_t lock_offset;      // 128 In the producer page: the futex word of the robust mutex.
    std::uint32_t segment_index;    // 132 In its process, from 0.
    std::uint8_t boot_id[16];       // 136 All zero: unknown, /proc was out of reach.
    std::uint8_t process_id[16];    // 152 Random; groups the segments of one process (of one user).
    std::uint32_t pid;              // 168 As the process sees itself: for people only.
    std::uint32_t clock_kind;       // 172 ClockKind
    std::uint64_t anchor_ticks;     // 176 The anchor, taken at creation ...
    std::uint64_t anchor_monotonic_ns;  // 184
    std::uint64_t anchor_realtime_ns;   // 192
    char executable[64];                // 200 For people only; zero-padded.
    std::uint32_t mapping_lock;         // 264 1: there is a lock on the byte `mapping_lock_at`.
    std::uint8_t reserved_0[244];       // 268
    // Written by the client while it runs, under its process mutex or with relaxed atomic adds.
    std::uint64_t tables_end;  // 512 Bytes of the table that are complete. Release; pairs with the
                               // daemon's acquire.
    std::uint64_t counters[process_counters_max];  // 520
    std::uint8_t reserved_1[3320];
};
static_assert(sizeof(SegmentHeader) == 4096);
static_assert(offsetof(SegmentHeader, lanes_offset) == 64);
static_assert(offsetof(SegmentHeader, data_bytes) == 112);
static_assert(offsetof(SegmentHeader, boot_id) == 136);
static_assert(offsetof(SegmentHeader, anchor_ticks) == 176);
static_assert(offsetof(SegmentHeader, mapping_lock) == 264);
static_assert(offsetof(SegmentHeader, tables_end) == 512);

// The table log. A segment carries every resource and scope that its records name, so one file
// decodes alone.
enum class TableKind : std::uint16_t { resource = 1, scope = 2 };
struct TableEntry {
    std::uint32_t bytes;  // Of the whole entry, 8-aligned.
    std::uint16_t kind;   // TableKind; an unknown one is skipped.
    std::uint16_t index;  // Resource or scope index in this process; what a record's `scope` names.
    std::uint16_t resource;          // Scope only: index of its resource.
    std::uint16_t schema_url_bytes;  // The schema URL follows this struct ...
    std::uint32_t message_bytes;     // ... then an OTLP Resource or InstrumentationScope message.
};
static_assert(sizeof(TableEntry) == 16);

// The producer page of a lane. Only the owning thread writes, except the lock word (the kernel, at
// death).
struct LaneProducer {
    std::uint64_t
        write_cursor;  // Monotonic. Release; pairs with the daemon's acquire in lane_reader.hpp.
    std::uint8_t reserved_0[56];
    std::uint64_t begun;  // 64  Sampled spans started. Before the slot is published, so that
    std::uint64_t ended;  // 72  begun >= ended + dropped + open slots over the lanes of a process.
    std::uint64_t unsampled;   // 80
    std::uint64_t heap_spans;  // 88  Of `begun`, those that left the slots for the heap.
    std::uint64_t dropped[drop_reasons_max];  // 96
    std::uint32_t epoch;                      // 160 Claims of this lane so far.
    std::uint8_t reserved_1[3924];
    std::uint32_t
        lock_words[2];  // 4088 First 8 bytes of the robust mutex (glibc: word 0 is the futex).
};
static_assert(sizeof(LaneProducer) == 4096);
static_assert(offsetof(LaneProducer, begun) == 64);
static_assert(offsetof(LaneProducer, dropped) == 96);
static_assert(offsetof(LaneProducer, lock_words) == 4088);

// Linux: what the kernel puts into the lock word (include/uapi/linux/futex.h).
inline constexpr std::uint32_t lock_owner_died = 0x40000000U;
inline constexpr std::uint32_t lock_tid_mask = 0x3fffffffU;

// In front of each slot's record. `published` is the slot's state:
//   0                     free, or a span whose start is not complete: nothing to recover
//   >= record header      open; that many bytes of the record behind it are valid
// Stored with release by whoever holds the span; pairs with the recovery's acquire.
struct SlotControl {
    std::uint32_t published;
    std::uint32_t reserved_0;
    // Where end() put the record: the write cursor behind it. ~0 while open; 0: dropped and
    // counted.
    std::uint64_t end_cursor;
    std::uint32_t end_segment;  // segment_index
    std::uint32_t end_lane;
    // 24: attributes, events and links that the open span has dropped; 0 in a free slot.
    std::uint32_t dropped[3];
    std::uint8_t reserved_1[28];
};
static_assert(sizeof(SlotControl) == 64);
static_assert(offsetof(SlotControl, dropped) == 24);
inline constexpr std::uint64_t slot_open = ~0ULL;

// Written by the daemon. A client reads them with suspicion: they bound nothing but its own free
// space.
struct DaemonSegment {
    // The client's span path reads these two in one load, which finds 0 nearly always.
    std::uint16_t retired;        // 1: the daemon is about to unlink this file; claim no lane here.
    std::uint16_t recording_off;  // 1: look at ControlContent::enabled; it stands for it where the
                                  // page is not mapped.
    std::uint32_t quarantined;    // 1: the file was found corrupt and is not drained any more.
    std::uint64_t control_generation;  // Changes when the control page is a new file.
    std::uint8_t reserved_0[240];
};
static_assert(sizeof(DaemonSegment) == 256);
static_assert(offsetof(DaemonSegment, recording_off) == 2 &&
              offsetof(DaemonSegment, quarantined) == 4);

struct DaemonLane {
    std::uint64_t read_cursor;  // Release; pairs with the writer's acquire when it looks for room.
    std::uint64_t drained;      // Span records taken over into the spool.
    std::uint64_t malformed;    // Records that were refused.
    std::uint64_t skipped;      // Records of unknown type.
    std::uint64_t recovered;    // 1 when the open slots of this dead lane are in the spool.
    std::uint8_t reserved_0[216];
};
static_assert(sizeof(DaemonLane) == 256);

// The control page: `control` in the ring directory, one file, written by the daemon, mapped
// read-only by clients.
inline constexpr std::uint64_t control_magic = 0x314C5443'44544FULL;
inline constexpr std::uint64_t control_file_bytes = 64 << 10;

struct ControlContent {     // Double-buffered: `active` names the valid one.
    std::uint32_t enabled;  // 0: kill switch; clients start no recorded span.
    std::uint32_t reserved_0;
    std::uint64_t
        process_bytes_max;  // A client takes the smaller of this and its own cap; 0: no opinion.
    std::uint8_t reserved_1[16368];  // Room for sampling policies per service.
};
static_assert(sizeof(ControlContent) == 16384);

struct ControlPage {
    std::uint64_t magic;
    std::uint16_t major;
    std::uint16_t minor;
    std::uint32_t header_bytes;
    std::uint8_t boot_id[16];
    std::uint64_t
        generation;        // Equal to DaemonSegment::control_generation while this file is current.
    std::uint32_t active;  // 0 or 1. Release; pairs with the client's acquire.
    std::uint32_t daemon_pid;
    std::uint8_t reserved_0[80];
    std::uint32_t bell;      // 128 Futex word. Only the daemon changes it; producers only wake.
    std::uint32_t sleeping;  // 132 1 while the daemon sleeps on `bell`: else a bell is not worth a
                             // system call.
    std::uint8_t reserved_1[56];
    std::uint64_t heartbeat_monotonic_ns;  // 192
    std::uint64_t anchor_ticks;
    std::uint64_t anchor_monotonic_ns;
    std::uint64_t anchor_realtime_ns;
    std::uint8_t reserved_2[16160];
    ControlContent content[2];  // 16384
    std::uint8_t reserved_3[16384];
};
static_assert(sizeof(ControlPage) == control_file_bytes);
static_assert(offsetof(ControlPage, bell) == 128);
static_assert(offsetof(ControlPage, heartbeat_monotonic_ns) == 192);
static_assert(offsetof(ControlPage, content) == 16384);

// Names in the ring directory.
inline constexpr char ring_suffix[] = ".ring";  // <32 hex digits>.ring
inline constexpr char temporary_suffix[] =
    ".tmp";  // A segment being made where O_TMPFILE or /proc is missing.
inline constexpr char control_name[] = "control";
inline constexpr char status_name[] = "status";
inline constexpr char spool_name[] = "spool";
inline constexpr char lock_name[] = "lock";

// What a daemon takes at its start, rounded up: its pages, the spool's header and a first block,
// which it keeps from then on.
inline constexpr std::uint64_t daemon_bytes_first = 2 << 20;

// What rings leave free of their file system, of which the spool has `spool_bytes` already: a
// daemon that comes when they have taken all the rest needs it, or it could never drain them. Below
// 4 MiB a daemon has to come first.
constexpr std::uint64_t bytes_left_free(std::uint64_t file_system_bytes,
                                        std::uint64_t spool_bytes) noexcept {
    constexpr std::uint64_t most = 4 << 20;
    const std::uint64_t share = file_system_bytes / 4 < most ? file_system_bytes / 4 : most;
    if (file_system_bytes < 2 * daemon_bytes_first || spool_bytes >= daemon_bytes_first)
        return share;
    const std::uint64_t missing = daemon_bytes_first - spool_bytes;
    return share > missing ? share : missing;
}

}  // namespace oteld::shm
