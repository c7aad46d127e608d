// Characters and hex digits, as the headers that carry a context need them.
//
// Used by: the propagators, the trace state, baggage. Threads: any; no state. Never allocates or
// throws. What is not worth a copy in each caller is kept out of line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace oteld::detail {

// RFC 9110's optional white space.
constexpr bool is_blank(char c) noexcept { return c == ' ' || c == '\t'; }
constexpr std::string_view trimmed(std::string_view text) noexcept {
    while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
    return text;
}

// What stands in front of the first `separator`; `text` becomes what stands behind it.
constexpr std::string_view next_part(std::string_view& text, char separator) noexcept {
    const std::size_t at = text.find(separator);
    const std::string_view part = text.substr(0, at);
    text = at == std::string_view::npos ? std::string_view() : text.substr(at + 1);
    return part;
}

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
constexpr bool is_lower(char c) noexcept { return c >= 'a' && c <= 'z'; }
constexpr char lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// Names of headers, and of propagators in OTEL_PROPAGATORS.
[[gnu::noinline]] inline bool same_name(std::string_view a, std::string_view b) noexcept {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (lower(a[i]) != lower(b[i])) return false;
    }
    return true;
}

enum class HexCase : bool { lower, any };

// -1: no hex digit.
constexpr int hex_digit(char c, HexCase allowed) noexcept {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (allowed == HexCase::any && c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

// The digits as the last ones of `count` bytes, zeros in front. False: there are none, too many, or
// something else stands there.
[[gnu::noinline]] inline bool parse_hex(std::string_view digits, std::uint8_t* bytes,
                                        std::size_t count,
                                        HexCase allowed = HexCase::lower) noexcept {
    if (digits.empty() || digits.size() > 2 * count) return false;
    for (std::size_t i = 0; i < count; ++i) bytes[i] = 0;
    std::size_t place = 2 * count - digits.size();
    for (const char c : digits) {
        const int digit = hex_digit(c, allowed);
        if (digit < 0) return false;
        bytes[place / 2] = static_cast<std::uint8_t>(bytes[place / 2] << 4 | digit);
        ++place;
    }
    return true;
}

[[gnu::noinline]] inline char* put_hex(char* to, const std::uint8_t* bytes,
                                       std::size_t count) noexcept {
    constexpr char digits[] = "0123456789abcdef";
    for (std::size_t i = 0; i < count; ++i) {
        *to++ = digits[bytes[i] >> 4];
        *to++ = digits[bytes[i] & 15];
    }
    return to;
}

inline bool all_zero(const std::uint8_t* bytes, std::size_t count) noexcept {
    std::uint8_t any = 0;
    for (std::size_t i = 0; i < count; ++i) any |= bytes[i];
    return any == 0;
}

}  // namespace oteld::detail
