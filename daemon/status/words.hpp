// Numbers, times and foreign text, written for people.
//
// Used by: observer, render.hpp, json.cpp, daemon/commands. Threads: any; no state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace oteld::status {

std::string count_words(std::uint64_t count);                         // 1,234,567
std::string spans_words(std::uint64_t count);                         // 1 span, 1,234 spans
std::string count_words(std::uint64_t count, std::string_view noun);  // 1 lane, 12 lanes
std::string bytes_words(std::uint64_t bytes);                         // 12.4 MiB
std::string rate_words(double per_second);                            // 12,410 or 0.4
std::string duration_words(std::int64_t ns);  // 4 min 12 s; the two largest units
std::string ago_words(std::int64_t then_ns, std::int64_t now_ns);  // 2 s ago; "never" for 0
// 14:02:11, or 2026-11-24 14:02:11 when that is not today; local time.
std::string clock_words(std::int64_t unix_ns, std::int64_t now_ns);

// Valid UTF-8 without control characters, so that foreign text can neither forge a line nor drive a
// terminal.
std::string clean_text(std::string_view text);
// Columns on a terminal.
std::size_t text_width(std::string_view text);
// At most `width` columns; "..." in place of what was cut.
std::string clip_text(std::string_view text, std::size_t width);

}  // namespace oteld::status
