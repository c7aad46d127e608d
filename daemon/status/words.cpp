#include "daemon/status/words.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>

namespace oteld::status {
namespace {

constexpr std::int64_t second_ns = 1'000'000'000;

struct Character {
    char32_t code;
    std::size_t bytes;  // 0: not UTF-8
};

// One character of strict UTF-8: no overlong form, no surrogate, nothing above U+10FFFF.
Character decode(std::string_view text) noexcept {
    const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
    const std::uint8_t first = byte(0);
    if (first < 0x80) return {first, 1};
    const std::size_t bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || text.size() < bytes) return {0, 0};
    char32_t code = first & (0x7f >> bytes);
    for (std::size_t i = 1; i < bytes; ++i) {
        if ((byte(i) & 0xc0) != 0x80) return {0, 0};
        code = code << 6 | (byte(i) & 0x3f);
    }
    constexpr std::array<char32_t, 5> smallest{0, 0, 0x80, 0x800, 0x10000};
    const bool surrogate = code >= 0xd800 && code <= 0xdfff;
    if (code < smallest[bytes] || surrogate || code > 0x10ffff) return {0, 0};
    return {code, bytes};
}

// C0, DEL, C1, line and paragraph separators, and the marks that turn the direction of what
// follows.
bool is_control(char32_t code) noexcept {
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x200e || code == 0x200f ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

std::size_t columns(char32_t code) noexcept {
    const auto in = [code](char32_t from, char32_t to) { return code >= from && code <= to; };
    if (in(0x300, 0x36f) || in(0x200b, 0x200d) || in(0xfe00, 0xfe0f)) return 0;
    const bool wide = in(0x1100, 0x115f) || in(0x2e80, 0xa4cf) || in(0xac00, 0xd7a3) ||
                      in(0xf900, 0xfaff) || in(0xfe30, 0xfe6f) || in(0xff00, 0xff60) ||
                      in(0xffe0, 0xffe6) || in(0x1f300, 0x1faff) || in(0x20000, 0x3fffd);
    return wide ? 2 : 1;
}

}  // namespace

std::string count_words(std::uint64_t count) {
    std::string digits = fmt::format("{}", count);
    for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, 1, ',');
    return digits;
}

std::string count_words(std::uint64_t count, std::string_view noun) {
    return fmt::format("{} {}{}", count_words(count), noun, count == 1 ? "" : "s");
}

std::string spans_words(std::uint64_t count) { return count_words(count, "span"); }

std::string bytes_words(std::uint64_t bytes) {
    constexpr std::array<const char*, 5> units{"KiB", "MiB", "GiB", "TiB", "PiB"};
    if (bytes < 1024) return fmt::format("{} B", bytes);
    double value = static_cast<double>(bytes) / 1024;
    std::size_t unit = 0;
    while (value >= 1023.95 && unit + 1 < units.size()) {
        value /= 1024;
        ++unit;
    }
    const bool whole = value >= 99.95 || std::abs(value - std::round(value)) < 0.05;
    return whole ? fmt::format("{:.0f} {}", value, units[unit])
                 : fmt::format("{:.1f} {}", value, units[unit]);
}

std::string rate_words(double per_second) {
    if (per_second > 0 && per_second < 9.95) return fmt::format("{:.1f}", per_second);
    return count_words(static_cast<std::uint64_t>(std::llround(std::max(0.0, per_second))));
}

std::string duration_words(std::int64_t ns) {
    if (ns < 0) ns = 0;
    if (ns < 1000) return fmt::format("{} ns", ns);
    if (ns < second_ns / 1000) return fmt::format("{} us", ns / 1000);
    if (ns < second_ns) return fmt::format("{} ms", ns / 1'000'000);
    const std::int64_t seconds = ns / second_ns;
    if (seconds < 60) return fmt::format("{} s", seconds);
    if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
    if (seconds < 86400) return fmt::format("{} h {} min", seconds / 3600, seconds % 3600 / 60);
    return fmt::format("{} d {} h", seconds / 86400, seconds % 86400 / 3600);
}

std::string ago_words(std::int64_t then_ns, std::int64_t now_ns) {
    if (then_ns == 0) return "never";
    if (now_ns - then_ns < second_ns) return "now";
    return duration_words(now_ns - then_ns) + " ago";
}

std::string clock_words(std::int64_t unix_ns, std::int64_t now_ns) {
    if (unix_ns == 0) return "never";
    tm then{};
    tm now{};
    const time_t then_s = unix_ns / second_ns;
    const time_t now_s = now_ns / second_ns;
    if (localtime_r(&then_s, &then) == nullptr || localtime_r(&now_s, &now) == nullptr) return "?";
    std::string text = fmt::format("{:02}:{:02}:{:02}", then.tm_hour, then.tm_min, then.tm_sec);
    if (then.tm_year == now.tm_year && then.tm_yday == now.tm_yday) return text;
    return fmt::format("{:04}-{:02}-{:02} {}", then.tm_year + 1900, then.tm_mon + 1, then.tm_mday,
                       text);
}

std::string clean_text(std::string_view text) {
    std::string clean;
    clean.reserve(text.size());
    while (!text.empty()) {
        const Character character = decode(text);
        const std::size_t bytes = character.bytes == 0 ? 1 : character.bytes;
        if (character.bytes == 0) {
            clean += '?';
        } else if (is_control(character.code)) {
            clean += ' ';
        } else {
            clean.append(text.substr(0, bytes));
        }
        text.remove_prefix(bytes);
    }
    return clean;
}

std::size_t text_width(std::string_view text) {
    std::size_t width = 0;
    while (!text.empty()) {
        const Character character = decode(text);
        width += character.bytes == 0 ? 1 : columns(character.code);
        text.remove_prefix(character.bytes == 0 ? 1 : character.bytes);
    }
    return width;
}

std::string clip_text(std::string_view text, std::size_t width) {
    if (text_width(text) <= width) return std::string(text);
    const std::string_view mark = width > 3 ? "..." : "";
    std::size_t room = width - mark.size();
    std::string clipped;
    while (!text.empty()) {
        const Character character = decode(text);
        const std::size_t bytes = character.bytes == 0 ? 1 : character.bytes;
        const std::size_t wide = character.bytes == 0 ? 1 : columns(character.code);
        if (wide > room) break;
        room -= wide;
        clipped.append(text.substr(0, bytes));
        text.remove_prefix(bytes);
    }
    return clipped.append(mark);
}

}  // namespace oteld::status
