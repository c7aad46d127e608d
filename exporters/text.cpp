#include "exporters/text.hpp"

#include <charconv>
#include <cstdio>
#include <ctime>

namespace oteld::exporters {

namespace {

// One code point off the front. What is no UTF-8 comes out byte by byte as itself plus `invalid`.
struct CodePoint {
    std::uint32_t value = 0;
    std::size_t bytes = 1;
    bool valid = true;
};

CodePoint first_of(std::string_view text) noexcept {
    const auto lead = static_cast<unsigned char>(text[0]);
    if (lead < 0x80) return {lead, 1, true};
    const std::size_t bytes = lead >= 0xf0 && lead < 0xf8 ? 4
                              : lead >= 0xe0              ? 3
                              : lead >= 0xc2              ? 2
                                                          : 0;
    if (bytes == 0 || lead >= 0xf8 || bytes > text.size()) return {lead, 1, false};
    std::uint32_t value = lead & (0xffU >> (bytes + 1));
    for (std::size_t i = 1; i < bytes; ++i) {
        const auto next = static_cast<unsigned char>(text[i]);
        if ((next & 0xc0) != 0x80) return {lead, 1, false};
        value = value << 6 | (next & 0x3fU);
    }
    return {value, bytes, true};
}

bool unprintable(std::uint32_t c) noexcept {
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff;
}

void append_escape(std::string& out, std::uint32_t c) {
    switch (c) {
        case '\n': out += "\\n"; return;
        case '\t': out += "\\t"; return;
        case '\r': out += "\\r"; return;
        default: break;
    }
    char buffer[12];
    std::snprintf(buffer, sizeof buffer, c < 0x100 ? "\\x%02x" : "\\u%04x", c);
    out += buffer;
}

std::string local(std::uint64_t unix_ns, int digits, const char* format) {
    const auto seconds = static_cast<std::time_t>(unix_ns / 1000000000);
    std::tm parts{};
    localtime_r(&seconds, &parts);
    char buffer[64];
    std::string out(buffer, std::strftime(buffer, sizeof buffer, format, &parts));
    std::uint64_t fraction = unix_ns % 1000000000;
    for (int i = digits; i < 9; ++i) fraction /= 10;
    std::snprintf(buffer, sizeof buffer, ".%0*llu", digits,
                  static_cast<unsigned long long>(fraction));
    return out + buffer;
}

// Quotes make the ends of a text visible: needed when it is empty or has spaces, commas, braces or
// quotes in it.
void append_quoted(std::string& out, std::string_view text) {
    if (!text.empty() && text.find_first_of(" \t,=\"'{}[]") == std::string_view::npos)
        return append_printable(out, text);
    out += '"';
    append_printable(out, text);
    out += '"';
}

void append_any(std::string& out, const shm::AnyValue& value, int depth) {
    using Kind = shm::AnyValue::Kind;
    char number[32];
    switch (value.kind()) {
        case Kind::none: out += "(none)"; return;
        case Kind::string: return append_quoted(out, value.text());
        case Kind::boolean: out += value.boolean() ? "true" : "false"; return;
        case Kind::integer: out += std::to_string(value.integer()); return;
        case Kind::floating:
            out.append(number, std::to_chars(number, number + sizeof number, value.floating()).ptr);
            return;
        case Kind::bytes:
            out += "0x";
            out += hex(value.text());
            return;
        case Kind::array:
        case Kind::map: break;
    }
    if (depth >= shm::nesting_max) {
        out += "…";
        return;
    }
    const bool is_map = value.kind() == Kind::map;
    const char* separator = "";
    out += is_map ? '{' : '[';
    if (is_map) {
        for (const shm::Attribute& entry : value.map()) {
            out += separator;
            append_printable(out, entry.key);
            out += ": ";
            append_any(out, entry.value, depth + 1);
            separator = ", ";
        }
    } else {
        for (const shm::AnyValue& element : value.array()) {
            out += separator;
            append_any(out, element, depth + 1);
            separator = ", ";
        }
    }
    out += is_map ? '}' : ']';
}

}  // namespace

void append_printable(std::string& out, std::string_view text) {
    while (!text.empty()) {
        const CodePoint c = first_of(text);
        if (!c.valid || unprintable(c.value)) {
            append_escape(out, c.value);
        } else {
            out += text.substr(0, c.bytes);
        }
        text.remove_prefix(c.bytes);
    }
}

std::string duration_text(std::uint64_t nanoseconds) {
    char buffer[32];
    if (nanoseconds < 1000) {
        std::snprintf(buffer, sizeof buffer, "%u ns", static_cast<unsigned>(nanoseconds));
        return buffer;
    }
    const std::uint64_t seconds = nanoseconds / 1000000000;
    if (seconds >= 3600) {
        std::snprintf(buffer, sizeof buffer, "%lluh %02llum",
                      static_cast<unsigned long long>(seconds / 3600),
                      static_cast<unsigned long long>(seconds / 60 % 60));
        return buffer;
    }
    if (seconds >= 100) {
        std::snprintf(buffer, sizeof buffer, "%llum %02llus",
                      static_cast<unsigned long long>(seconds / 60),
                      static_cast<unsigned long long>(seconds % 60));
        return buffer;
    }
    double value = static_cast<double>(nanoseconds) / 1000;
    const char* unit = "us";
    for (const char* larger : {"ms", "s"}) {
        if (value < 999.5) break;
        value /= 1000;
        unit = larger;
    }
    const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    std::snprintf(buffer, sizeof buffer, "%.*f %s", decimals, value, unit);
    return buffer;
}

std::string local_date_time(std::uint64_t unix_ns, int digits) {
    return local(unix_ns, digits, "%Y-%m-%d %H:%M:%S");
}

std::string local_time(std::uint64_t unix_ns, int digits) {
    return local(unix_ns, digits, "%H:%M:%S");
}

std::string hex(std::string_view bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string out;
    out.reserve(bytes.size() * 2);
    for (const char c : bytes) {
        out += digits[static_cast<unsigned char>(c) >> 4];
        out += digits[static_cast<unsigned char>(c) & 15];
    }
    return out;
}

void append_value(std::string& out, const shm::AnyValue& value, std::size_t bytes_max) {
    const std::size_t before = out.size();
    append_any(out, value, 0);
    if (bytes_max == 0 || out.size() - before <= bytes_max) return;
    std::size_t end = before + bytes_max;
    while (end > before && (static_cast<unsigned char>(out[end]) & 0xc0) == 0x80)
        --end;  // Not inside a character.
    out.resize(end);
    out += "…";
}

std::string_view kind_text(std::int32_t kind) noexcept {
    switch (kind) {
        case 1: return "internal";
        case 2: return "server";
        case 3: return "client";
        case 4: return "producer";
        case 5: return "consumer";
        default: return "unspecified";
    }
}

bool is_unfinished(const shm::Span& span) noexcept {
    const shm::AnyValue mark = span.attribute("oteld.unfinished");
    return mark.kind() == shm::AnyValue::Kind::boolean && mark.boolean();
}

}  // namespace oteld::exporters
