// Durations ("200ms", "1m30s", "3d") and sizes ("64MiB", "1048576") as people write them.
//
// Used by: config/schema.cpp, and command-line options that take the same words. Threads: any.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace oteld::config {

// One or more of {number, unit} with the units us, ms, s, m, h, d; "0" needs none. Fractions are
// allowed ("1.5s"); what is left below a millisecond is rounded up, so that no wait becomes none.
[[nodiscard]] std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);

// A whole number of bytes, or a number with B, KiB, MiB, GiB or TiB.
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view text);

// A whole number; '_' may group its digits.
[[nodiscard]] std::optional<std::uint64_t> parse_whole(std::string_view text);

// A decimal number such as 1.5.
[[nodiscard]] std::optional<double> parse_decimal(std::string_view text);

// "1m30s", "64MiB": what parse_* reads back.
[[nodiscard]] std::string show(std::chrono::milliseconds duration);
[[nodiscard]] std::string show_size(std::uint64_t bytes);

}  // namespace oteld::config
