// Turns a record into a frame: `ScopeSpans.spans`, tag and length included, as every exporter sends
// it.
//
// Used by: the drain, for each span, and the recovery of open slots. Threads: drain thread; no
// state of its own. The header is copied once, the body is copied once straight to its place in the
// frame and validated there; what is refused was never anywhere but behind the end of the frames.
// Shared memory is not read a second time. Never loses a span for bad text: an invalid UTF-8 byte
// becomes '?' and is counted.
//
//   0x12 length  trace_id span_id [parent_id] [kind] start end  body  [status] [flags]
#pragma once

#include "daemon/intake/clock.hpp"
#include "daemon/intake/utf8.hpp"
#include "oteld/detail/record.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace oteld::daemon {

// Why a record was refused. Counted as "malformed"; the reason of the last one is in `oteld
// status`.
enum class Refusal : std::uint8_t {
    none,
    header,   // Lengths that contradict each other, an unknown kind or status.
    ids,      // No trace id or no span id: backends refuse whole requests for one.
    wire,     // Not protobuf wire format.
    field,    // A field that does not belong where it stands, or of the wrong type.
    nesting,  // Deeper than any protobuf parser accepts.
    scope,    // A scope that the segment's table does not name.
};
[[nodiscard]] std::string_view to_string(Refusal refusal) noexcept;

struct SpanFrame {
    std::size_t bytes = 0;
    std::uint16_t scope = 0;
    std::uint32_t bytes_repaired = 0;  // Invalid UTF-8.
    std::uint32_t keys_removed = 0;    // Attributes whose key was set again.
};

// What a frame needs beyond its record, and what must be readable behind it.
inline constexpr std::size_t frame_overhead = 128;
[[nodiscard]] constexpr std::size_t frame_room(std::uint32_t record_bytes) noexcept {
    return record_bytes + frame_overhead + utf8_slack;
}

// `to` has frame_room(length) bytes. Anything but Refusal::none means: ignore what was written.
[[nodiscard]] Refusal write_span_frame(std::uint8_t* to, const std::uint8_t* record_untrusted,
                                       std::uint32_t length, TickConverter& clock,
                                       SpanFrame& frame) noexcept;

// Checks a Resource or InstrumentationScope message in private memory (with utf8_slack behind it)
// the same way.
enum class TableMessage { resource, scope };
[[nodiscard]] Refusal validate_table_message(TableMessage kind, std::uint8_t* message,
                                             std::size_t bytes,
                                             std::uint32_t& bytes_repaired) noexcept;

}  // namespace oteld::daemon
