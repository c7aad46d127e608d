// A record as it lies in a lane or an open-span slot: part of ABI v1, frozen with layout major 1.
//
// Used by: the API's inline encoder, the client, and the daemon's drain.
// A record is `RecordPrefix`, a typed header, a body, padding to 8 bytes. For a span the header is
// 64 bytes and the body is the rest of the OTLP Span message in protobuf wire format: trace_state
// (3), name (5), attributes (9), dropped_attributes_count (10), events (11), dropped_events_count
// (12), links (13), dropped_links_count (14); nothing else. A second name is legal: the last one
// wins. https://github.com/open-telemetry/opentelemetry-proto (trace.proto, v1)
#pragma once

#include <cstddef>
#include <cstdint>

namespace oteld::detail {

enum class RecordType : std::uint8_t {
    none = 0,
    span = 1,
    pad = 2
};  // Unknown types are skipped by length.

enum RecordFlags : std::uint8_t {
    record_duplicate_keys = 1,   // An attribute key may occur twice: the last value wins.
    record_has_description = 2,  // {u32 length, bytes}: the status description follows the body.
    record_parent_known = 4,     // parent_remote is meaningful (OTLP flag 0x100).
    record_parent_remote = 8,    // OTLP flag 0x200.
};

struct RecordPrefix {
    std::uint32_t length;        // Whole record, 8-aligned, prefix and padding included.
    std::uint8_t type;           // RecordType
    std::uint8_t flags;          // RecordFlags
    std::uint16_t header_bytes;  // 64 for a span; 8 for a pad.
};
static_assert(sizeof(RecordPrefix) == 8);

// A time with this bit is in ticks of the segment's clock, else Unix nanoseconds. Event times in
// the body too.
inline constexpr std::uint64_t time_is_ticks = 1ULL << 63;

struct SpanRecord {
    RecordPrefix prefix;
    std::uint8_t trace_id[16];  // 8
    std::uint8_t span_id[8];    // 24
    std::uint8_t parent_id[8];  // 32 Zero: a root.
    std::uint64_t start;        // 40
    std::uint64_t end;          // 48 Zero while open.
    std::uint8_t kind_status;   // 56 Low 4 bits: kind (1 internal ... 5 consumer); high: status (0
                                // unset, 1 ok, 2 error).
    std::uint8_t trace_flags;   // 57 W3C trace flags.
    std::uint16_t scope;        // 58 Index in the segment's table.
    std::uint32_t body_bytes;   // 60
};
static_assert(sizeof(SpanRecord) == 64);
static_assert(offsetof(SpanRecord, trace_id) == 8 && offsetof(SpanRecord, start) == 40);
static_assert(offsetof(SpanRecord, scope) == 58 && offsetof(SpanRecord, body_bytes) == 60);

}  // namespace oteld::detail
