// Spans as people read them: durations, times, values, and text that cannot play tricks on a
// terminal.
//
// Used by: the console exporter and `oteld traces`. Threads: free functions on the caller's string.
// Never lets a control character of a span through: names and values come from programs that nobody
// here trusts.
#pragma once

#include "shm/span_view.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace oteld::exporters {

// The text with control characters (C0, DEL, C1, line and paragraph separators, directional
// overrides) as \n, \x1b, \u202e and the like.
void append_printable(std::string& out, std::string_view text);

// Three figures and a unit: "870 ns", "1.24 ms", "12.4 s", "3m 07s", "2h 05m".
[[nodiscard]] std::string duration_text(std::uint64_t nanoseconds);

// "2026-11-24 20:12:04.123" in the local time zone, or with `digits` = 6 to the microsecond.
[[nodiscard]] std::string local_date_time(std::uint64_t unix_ns, int digits = 3);
// "20:12:04.123456"
[[nodiscard]] std::string local_time(std::uint64_t unix_ns, int digits = 6);

[[nodiscard]] std::string hex(std::string_view bytes);

// A string quoted only where it must be, numbers as they are, [1, 2], {k: v}, bytes as hex. At most
// `bytes_max` bytes of it, then "…": for a line. 0: whole.
void append_value(std::string& out, const shm::AnyValue& value, std::size_t bytes_max = 0);

// "internal", "server", "client", "producer", "consumer", "unspecified"
[[nodiscard]] std::string_view kind_text(std::int32_t kind) noexcept;

// True when the span was still open when its process died and was recovered by the daemon.
[[nodiscard]] bool is_unfinished(const shm::Span& span) noexcept;

}  // namespace oteld::exporters
