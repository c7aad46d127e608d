// Reads HTTP's Retry-After: seconds, or a date in any of the three forms of RFC 9110.
//
// Used by: otlp_http.cpp. Threads: any. Independent of locale and time zone; nothing in it is
// trusted.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace oteld::exporters {

// Longer ones are cut to this: nobody keeps spans for longer, and no sum with it can overflow.
inline constexpr std::chrono::milliseconds retry_after_max{24 * 3600 * 1000};

// The time to wait from `now`; 0 for a date that has passed; nothing for what is neither.
[[nodiscard]] std::optional<std::chrono::milliseconds> parse_retry_after(
    std::string_view value, std::chrono::system_clock::time_point now) noexcept;

}  // namespace oteld::exporters
