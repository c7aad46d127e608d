// Every byte of the spool file: where spans are safe between the rings and the exporters.
//
// Used by: daemon/spool. Threads: the drain thread writes; exporter threads read what was
// committed. The file outlives the daemon. All words that change after they were committed are 64
// bits, aligned, and change together through the journal, or alone by one store (an extent's
// words). The picture is in daemon/README.md.
#pragma once

#include "exporters/exporter.hpp"

#include <cstddef>
#include <cstdint>

namespace oteld::daemon {

inline constexpr std::uint64_t spool_magic = 0x314C50534454'4FULL;  // "OTDSPL1"
inline constexpr std::uint16_t spool_major =
    1;  // Another major: the file is set aside, named and counted.
inline constexpr std::uint64_t block_bytes = 1 << 20;
inline constexpr std::uint32_t blocks_max = 4096;
inline constexpr std::uint32_t spool_exporters_max = 16;
inline constexpr std::uint32_t application_rows_max = 256;
inline constexpr std::uint32_t journal_entries_max = 4096;
inline constexpr std::uint32_t extent_spans_max = 1000;  // Below the 10 bits of a reject count.
inline constexpr std::uint64_t extent_lane_bytes = 64
                                                   << 10;  // What one drain step takes from a lane.
inline constexpr std::uint64_t extent_alignment = 64;      // Where extents begin in their block.
inline constexpr std::uint64_t block_slack = 64;  // Readable behind the last frame of a block.

// One change of one word. `offset` is from the start of the file.
struct JournalEntry {
    std::uint64_t offset;
    std::uint64_t value;
};

struct ExporterEntry {
    char name[120];  // Component id, zero-padded; empty: free.
    std::uint64_t reserved_0;
};
static_assert(sizeof(ExporterEntry) == 128);

// state      live_from   end
// free       0           0
// in use     seq of its first extent   bytes of committed extents
struct BlockEntry {
    std::uint64_t live_from;
    std::uint64_t end;
    std::uint64_t
        folded;  // Bytes of extents whose settled counts are in their application rows already.
    std::uint64_t reserved_0;
};
static_assert(sizeof(BlockEntry) == 32);

// What became of one application's spans on the way to one exporter, in blocks that are free again.
struct ExporterTotals {
    std::uint64_t absent;  // Drained before this exporter was configured.
    std::uint64_t delivered;
    std::uint64_t rejected[exporters::reject_reasons];
};
static_assert(sizeof(ExporterTotals) == 56);

enum class RowState : std::uint64_t {
    free = 0,
    process = 1,   // One process.
    merged = 2,    // Ended processes of one service and user.
    overflow = 3,  // Processes beyond the table, alive or not.
};

// One application. Words of 64 bits only, so that the journal can change any of them.
struct ApplicationRow {
    std::uint64_t state;          // RowState
    std::uint64_t uid;            // Owner of its ring files.
    std::uint64_t process_id[2];  // As in its segments; zero when merged.
    std::uint64_t pid;            // For people.
    std::uint64_t first_seen_ns;
    std::uint64_t last_seen_ns;
    std::uint64_t crashed;  // 1: died with lane words held, and spans open or lost.
    char service[120];
    char executable[64];
    // Since its first span, also across daemons. Changed with each commit.
    std::uint64_t drained;    // Spans taken over into the spool ...
    std::uint64_t recovered;  // ... of these, open at its death.
    std::uint64_t malformed;
    std::uint64_t skipped;
    // Of its segments that were folded and removed.
    std::uint64_t gone_begun;
    std::uint64_t gone_unsampled;
    std::uint64_t gone_dropped[8];
    std::uint64_t gone_drained;
    std::uint64_t gone_malformed;
    std::uint64_t gone_heap_spans;
    std::uint64_t reserved_0[4];
    ExporterTotals exporters[spool_exporters_max];
};
static_assert(sizeof(ApplicationRow) % 8 == 0);

struct SpoolHeader {
    std::uint64_t magic;
    std::uint16_t major;
    std::uint16_t minor;
    std::uint32_t header_bytes;  // spool_header_bytes of the writer: where block 0 begins.
    std::uint32_t blocks;        // In the file.
    std::uint32_t reserved_0;
    std::uint8_t reserved_1[40];
    std::uint64_t commit_seq;     // 64  Sequence number of the last committed extent.
    std::uint64_t folded_device;  // The segment whose counters are in its row: it may be removed
    std::uint64_t folded_inode;   // without folding it again.
    std::uint64_t folded_birth;
    std::uint8_t reserved_2[32];
    std::uint64_t journal_count;  // 128 THE commit: that many entries are to be applied.
    std::uint8_t reserved_3[3960];
    JournalEntry journal[journal_entries_max];  // 4096
    ExporterEntry exporters[spool_exporters_max];
    BlockEntry block[blocks_max];
    ApplicationRow rows[application_rows_max];
};
inline constexpr std::uint64_t spool_header_bytes =
    (sizeof(SpoolHeader) + block_bytes - 1) / block_bytes * block_bytes;
static_assert(offsetof(SpoolHeader, commit_seq) == 64);
static_assert(offsetof(SpoolHeader, journal_count) == 128);
static_assert(offsetof(SpoolHeader, journal) == 4096);
static_assert(offsetof(SpoolHeader, rows) % 8 == 0);

// How far one exporter has come with one extent, in one word: spans settled from the front (14
// bits), and of these rejected, 10 bits a reason. delivered = settled - rejected.
inline constexpr unsigned settled_bits = 14;
inline constexpr unsigned rejected_bits = 10;
static_assert(settled_bits + rejected_bits * exporters::reject_reasons == 64);
static_assert(extent_spans_max < 1U << rejected_bits);

// What one drain step took from one lane. 64-aligned in its block; chunks follow.
struct ExtentHeader {
    std::uint64_t seq;
    std::uint64_t bytes;   // With this header and its padding.
    std::uint64_t device;  // The lane's file: who it is and where it was read ...
    std::uint64_t inode;
    std::uint64_t birth;
    std::uint64_t cursor_from;
    std::uint64_t cursor_to;  // ... up to; odd: the open slots of a dead lane (cursor_to - 1: its
                              // write cursor).
    std::uint32_t lane;
    std::uint32_t row;
    std::uint32_t spans;
    std::uint32_t malformed;
    std::uint32_t skipped;
    std::uint32_t reserved_0;
    std::uint64_t lane_drained;  // The lane's own counters behind this step, absolute.
    std::uint64_t lane_malformed;
    std::uint64_t lane_skipped;
    std::uint64_t exporter_mask;  // Who is to have these spans, as indices of `exporters`.
    std::uint64_t payload_bytes;  // Chunks, up to the last one's end.
    std::uint64_t words[spool_exporters_max];
    std::uint8_t reserved_1[72];
};
static_assert(sizeof(ExtentHeader) == 320);
static_assert(sizeof(ExtentHeader) % 64 == 0);

// Chunks of an extent, 8-aligned one behind the other.
enum class ChunkKind : std::uint32_t { scope = 1, run = 2 };
struct ScopeChunk {
    std::uint32_t kind;
    std::uint32_t bytes;           // Of the whole chunk, 8-aligned.
    std::uint32_t resource_bytes;  // Four byte strings follow, in this order.
    std::uint32_t resource_schema_url_bytes;
    std::uint32_t scope_bytes;
    std::uint32_t scope_schema_url_bytes;
};
struct RunChunk {
    std::uint32_t kind;
    std::uint32_t bytes;
    std::uint32_t spans;
    std::uint32_t scope_offset;  // From the extent header to this run's ScopeChunk.
    std::uint32_t frame_bytes;   // Frames follow: exporters::SpanRun::frames.
    std::uint32_t reserved_0;
};
static_assert(sizeof(ScopeChunk) == 24 && sizeof(RunChunk) == 24);

}  // namespace oteld::daemon
